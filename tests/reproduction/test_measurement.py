from dataclasses import astuple, replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.data.folders import load_truth
from dermfuse.errors import DataError
from dermfuse.evaluation.evaluate import compare_scores, evaluate_masks, evaluate_scores
from dermfuse.evaluation.matching import Coverage, ScoredImages, SegmentedImages
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import Manifest, mask_path, write_manifest
from dermfuse.predictions.metrics import Counts
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.reproduction.measurement import (
    Measurement,
    Replicate,
    Z,
    auc_error,
    compare_drawn,
    draw_folder,
    draw_masks,
    draw_scores,
    holm,
    measure,
    noise_margin,
    paper_error,
)


def _scored(seed: int, count: int = 40) -> ScoredImages:
    rng = np.random.default_rng(seed)
    malignant = np.arange(count) % 4 == 0
    scores = np.clip(rng.normal(0.35 + 0.3 * malignant, 0.2), 0, 1)
    ids = tuple(f"ISIC_{i:07d}" for i in range(count))
    return ScoredImages(Coverage(ids, (), (), count), malignant, scores)


def test_a_row_is_measured_and_compared_as_the_evaluation_does_it() -> None:
    images, other = _scored(0), _scored(1)
    counts = np.random.default_rng(1).integers(1, 50, size=(20, 4)).tolist()
    masks = SegmentedImages(
        Coverage(tuple(map(str, range(20))), (), (), 20), tuple(Counts(*each) for each in counts)
    )
    drawn, other_drawn = draw_scores(images, draws=200), draw_scores(other, draws=200)
    for report, replicate, metrics in (
        (evaluate_scores(images, draws=200), drawn, ("accuracy", "auc", "average_precision")),
        (evaluate_masks(masks, draws=200), draw_masks(masks, draws=200), ("jaccard", "dice")),
    ):
        for metric in metrics:
            ours = astuple(measure([replicate], metric))  # type: ignore[arg-type]
            assert ours[:3] == pytest.approx(astuple(getattr(report, metric)))
    assert drawn.malignant_count == 10
    expected, test = (
        compare_scores(images, other, draws=200).auc, compare_drawn([drawn], [other_drawn], "auc"),
    )  # fmt: skip
    assert test is not None
    assert test.p_value == expected.p_value
    assert astuple(test.difference) == pytest.approx(astuple(expected.difference))


def _drawn(value: float, draws: list[float], ids: tuple[str, ...] = ("a",)) -> Replicate:
    return Replicate(("auc",), np.array([value]), np.array(draws)[:, None], ids, 1)


def test_seeds_are_averaged_draw_by_draw() -> None:
    found = measure([_drawn(0.6, [0.5, 0.7]), _drawn(0.8, [0.9, 0.7])], "auc")
    # what one draw loses the other gains, so the interval has no width
    expected = Measurement(0.7, 0.7, 0.7, 0.0, 0.1, 0.1 * 2**0.5, 2)
    assert astuple(found) == pytest.approx(astuple(expected))


def test_rows_of_equal_images_alone_are_compared_and_an_ensemble_with_each_network() -> None:
    a = _drawn(0.6, [0.6, 0.6])
    assert compare_drawn([a], [_drawn(0.6, [0.5, 0.7], ("b",))], "auc") is None
    assert compare_drawn([a], [], "auc") is None
    assert compare_drawn([a] * 2, [a] * 3, "auc") is None
    test = compare_drawn([_drawn(0.8, [0.8, 0.8])], [a, _drawn(0.7, [0.7, 0.7])], "auc")
    assert test is not None
    assert test.difference.value == pytest.approx(0.15)


def test_a_folder_may_be_measured_on_some_of_its_images_and_counts_of_masks_are_kept(
    drawn: Path, tmp_path: Path
) -> None:
    truth = load_truth(drawn)
    known = [image_id for image_id in sorted(truth.masks) if image_id not in truth.complete]
    labels = [truth.labels[image_id] for image_id in known]
    scores = ScoreTable(tuple(known), np.array(labels, float) * 0.8)
    write_scores(tmp_path / "out" / "scores.csv", scores)
    some = draw_folder(tmp_path / "out", truth, "classification", draws=9, only=known[:20])
    assert (len(some.image_ids), measure([some], "auc").value) == (20, 1.0)
    with pytest.raises(DataError, match="have no segmentation in common"):
        draw_folder(tmp_path / "out", truth, "segmentation", draws=9)

    folder, ids = tmp_path / "validation", known[:3]
    for image_id in ids:
        write_mask(mask_path(folder, image_id), read_mask(truth.masks[image_id]))
    write_manifest(folder, Manifest("segmentation", split="validation"))
    first = draw_folder(folder, truth, "segmentation", draws=9)
    assert measure([first], "jaccard").value == 1.0
    mask_path(folder, ids[0]).unlink()  # it is not looked at again
    again = draw_folder(folder, truth, "segmentation", draws=9, only=ids[:2])
    assert again.image_ids == tuple(ids[:2])
    assert measure([again], "dice").value == 1.0


def test_holm_by_hand() -> None:
    # ordered .01 .02 .03 .04: x 4 = .04, x 3 = .06, x 2 = .06, x 1 = .04 -> not below .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.03]) == (0.03,)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_raises_every_value_up_to_one(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_errors_of_published_numbers_by_hand() -> None:
    # A = 1/2, one image of each class: Q1 = Q2 = 1/3 have weight 0, variance A (1 - A) = 1/4
    assert auc_error(0.5, malignant=1, benign=1) == pytest.approx(0.5)
    # three of each: (1/4 + 2 (1/3 - 1/4) + 2 (1/3 - 1/4)) / 9 = (7 / 12) / 9
    assert auc_error(0.5, malignant=3, benign=3) == pytest.approx(sqrt(7 / 108))
    ours, scored = Measurement(0.8, 0.7, 0.9, 0.02, 0.03, None, 1), _drawn(0.8, [0.8])
    masks = replace(scored, image_ids=("a",) * 379 * 4, malignant_count=None)
    assert paper_error("accuracy", 0.8, ours, scored) == pytest.approx(sqrt(0.16 / 379))
    assert paper_error("accuracy", 0.8, ours, masks) == pytest.approx(0.06), "a mean over images"
    many = replace(scored, malignant_count=300)
    assert paper_error("average_precision", 0.8, ours, many) == pytest.approx(0.06)
    assert paper_error("auc", 0.845, ours, scored) == pytest.approx(0.0293, abs=5e-5)
    assert noise_margin(0.3, 0.4, None) == pytest.approx(Z * 0.5)
