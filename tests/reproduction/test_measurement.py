from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.folders import load_truth
from dermfuse.errors import DataError
from dermfuse.evaluation.evaluate import compare_scores, evaluate_masks, evaluate_scores
from dermfuse.evaluation.matching import Coverage, ScoredImages, SegmentedImages
from dermfuse.folders import write_text
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import Manifest, mask_path, write_manifest
from dermfuse.predictions.metrics import Counts
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.reproduction.measurement import (
    Replicate,
    compare_drawn,
    draw_folder,
    draw_masks,
    draw_scores,
    measure,
)


def _scored(seed: int, count: int = 40) -> ScoredImages:
    rng = np.random.default_rng(seed)
    malignant = np.arange(count) % 4 == 0
    scores = np.clip(rng.normal(0.35 + 0.3 * malignant, 0.2), 0, 1)
    ids = tuple(f"ISIC_{i:07d}" for i in range(count))
    return ScoredImages(Coverage(ids, (), (), count), malignant, scores)


def test_scores_are_measured_as_the_evaluation_measures_them() -> None:
    images = _scored(0)
    report, drawn = evaluate_scores(images, draws=200), draw_scores(images, draws=200)
    for metric in ("accuracy", "auc", "average_precision"):
        ours, theirs = measure([drawn], metric), getattr(report, metric)
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high)
        )
    assert drawn.malignant_count == 10


def test_masks_are_measured_as_the_evaluation_measures_them() -> None:
    rng = np.random.default_rng(1)
    counts = tuple(Counts(*rng.integers(1, 50, size=4).tolist()) for _ in range(20))
    coverage = Coverage(tuple(map(str, range(20))), (), (), 20)
    images = SegmentedImages(coverage, counts)
    report, drawn = evaluate_masks(images, draws=200), draw_masks(images, draws=200)
    for metric in ("jaccard", "dice", "accuracy", "sensitivity", "specificity"):
        ours, theirs = measure([drawn], metric), getattr(report, metric)  # type: ignore[arg-type]
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high)
        )


def test_a_pair_is_tested_as_compare_tests_it() -> None:
    a, b = _scored(0), _scored(1)
    report = compare_scores(a, b, draws=300)
    ours = compare_drawn([draw_scores(a, draws=300)], [draw_scores(b, draws=300)], "auc")
    assert ours is not None
    assert ours.p_value == report.auc.p_value
    assert ours.difference.value == pytest.approx(report.auc.difference.value)
    assert ours.difference.low == pytest.approx(report.auc.difference.low)


def _drawn(value: float, draws: list[float], ids: tuple[str, ...] = ("a",)) -> Replicate:
    return Replicate(("auc",), np.array([value]), np.array(draws)[:, None], ids, 1)


def test_seeds_are_averaged_draw_by_draw() -> None:
    found = measure([_drawn(0.6, [0.5, 0.7]), _drawn(0.8, [0.9, 0.7])], "auc")
    assert found.value == pytest.approx(0.7)
    assert found.low == found.high == pytest.approx(0.7), "what one draw loses the other gains"
    assert found.standard_error == pytest.approx(0.0)
    assert found.single_error == pytest.approx(0.1)
    assert found.deviation == pytest.approx(0.1 * 2**0.5)
    assert found.seeds == 2


def test_rows_of_different_images_are_not_compared() -> None:
    a = _drawn(0.6, [0.5, 0.7])
    assert compare_drawn([a], [_drawn(0.6, [0.5, 0.7], ("b",))], "auc") is None
    assert compare_drawn([a], [], "auc") is None
    assert compare_drawn([a] * 2, [a] * 3, "auc") is None


def test_an_ensemble_stands_against_each_of_its_networks() -> None:
    ensemble, networks = _drawn(0.8, [0.8, 0.8]), [_drawn(0.6, [0.6] * 2), _drawn(0.7, [0.7] * 2)]
    test = compare_drawn([ensemble], networks, "auc")
    assert test is not None
    assert test.difference.value == pytest.approx(0.15)


def test_a_network_may_be_measured_on_some_of_its_images(tmp_path: Path) -> None:
    ids = tuple(f"ISIC_{i:07d}" for i in range(8))
    truth = tmp_path / "truth"
    write_text(truth / "labels.csv", "".join(f"{i},{n % 2}\n" for n, i in enumerate(ids)))
    write_scores(tmp_path / "out" / "scores.csv", ScoreTable(ids, np.linspace(0.1, 0.8, 8)))
    known = load_truth(truth)
    whole = draw_folder(tmp_path / "out", known, "classification", draws=10)
    some = draw_folder(tmp_path / "out", known, "classification", draws=10, only=ids[:4])
    assert (len(whole.image_ids), len(some.image_ids)) == (8, 4)
    assert measure([some], "auc").value == pytest.approx(3 / 4)
    with pytest.raises(DataError, match="have no segmentation in common"):
        draw_folder(tmp_path / "out", known, "segmentation", draws=10)


def test_counts_of_masks_are_kept_and_read_again(drawn: Path, tmp_path: Path) -> None:
    truth = load_truth(drawn)
    folder = tmp_path / "validation"
    ids = [i for i in sorted(truth.masks) if i not in truth.complete][:3]
    for image_id in ids:
        mask = read_mask(truth.masks[image_id])
        write_mask(mask_path(folder, image_id), mask)
    write_manifest(folder, Manifest("segmentation", split="validation"))
    first = draw_folder(folder, truth, "segmentation", draws=10)
    assert measure([first], "jaccard").value == 1.0
    mask_path(folder, ids[0]).unlink()  # it is not looked at again
    again = draw_folder(folder, truth, "segmentation", draws=10, only=ids[:2])
    assert again.image_ids == tuple(ids[:2])
    assert measure([again], "dice").value == 1.0
