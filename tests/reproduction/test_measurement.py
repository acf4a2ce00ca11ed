from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.data.folders import load_truth
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import delong_interval
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
    Z,
    auc_error,
    compare_drawn,
    draw_folder,
    draw_masks,
    draw_scores,
    holm,
    measure,
    noise_margin,
    rescaled_error,
    share_error,
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


def test_holm_by_hand() -> None:
    # ordered .01 .02 .03 .04: x 4 = .04, x 3 = .06, x 2 = .06, x 1 = .04 -> not below .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))


def test_holm_leaves_a_single_test_alone_and_never_exceeds_one() -> None:
    assert holm([0.03]) == (0.03,)
    assert holm([0.6, 0.7, 0.8]) == (1.0, 1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_raises_every_value(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_hanley_and_mcneil_by_hand() -> None:
    # A = 1/2, one image of each class: Q1 = Q2 = 1/3 have weight 0, variance A (1 - A) = 1/4
    assert auc_error(0.5, malignant=1, benign=1) == pytest.approx(0.5)
    # three of each: (1/4 + 2 (1/3 - 1/4) + 2 (1/3 - 1/4)) / 9 = (7 / 12) / 9
    assert auc_error(0.5, malignant=3, benign=3) == pytest.approx(sqrt(7 / 108))
    assert auc_error(1.0, malignant=5, benign=5) == 0.0


def test_the_papers_test_set_leaves_an_auc_uncertain_by_about_six_hundredths() -> None:
    assert 1.96 * auc_error(0.845, malignant=75, benign=304) == pytest.approx(0.056, abs=0.002)


def test_hanley_and_mcneil_come_near_delong_on_normal_scores() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [2000, 500])
    delong = delong_interval(labels, rng.normal(labels * 1.2, 1.0))
    # their exponential model is on the safe side of normal scores, by less than a quarter
    ratio = auc_error(delong.value, malignant=500, benign=2000) / delong.standard_error
    assert 1.0 < ratio < 1.25


def test_an_empty_class_has_no_auc() -> None:
    with pytest.raises(DataError, match="0 malignant and 4 benign"):
        auc_error(0.8, malignant=0, benign=4)


def test_errors_shrink_with_the_root_of_the_count() -> None:
    assert share_error(0.8, 400) == pytest.approx(0.02)
    assert share_error(1.0, 400) == 0.0
    assert rescaled_error(0.03, 150, 600) == pytest.approx(0.015)


def test_noise_is_the_root_of_the_sum_of_squares() -> None:
    assert noise_margin(0.3, 0.4, None) == pytest.approx(Z * 0.5)
    assert noise_margin() == 0.0
