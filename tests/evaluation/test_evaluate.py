"""Evaluation of folders, and two models on the same images: numbers, undefined cases, JSON."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.evaluation.evaluate import compare, evaluate, evaluate_scores
from dermfuse.evaluation.matching import Coverage, ScoredImages
from dermfuse.predictions.folder import Manifest, write_manifest
from dermfuse.records import Estimate

LABELS = {"a": "benign", "b": "malignant", "c": "benign", "d": "malignant"}
SCORES = {"a": 0.1, "b": 0.9, "c": 0.6, "d": 0.5}
LEFT = np.repeat([[True, True, False, False]], 16, axis=0).repeat(4, axis=1)  # 16 x 16
TOP = LEFT.T
MANY = [f"ISIC_90000{i:02d}" for i in range(60)]
MANY_LABELS = {image_id: "malignant" if i < 20 else "benign" for i, image_id in enumerate(MANY)}


def scored(malignant: list[bool], scores: list[float]) -> ScoredImages:
    ids = tuple(f"ISIC_{i:07d}" for i in range(len(scores)))
    coverage = Coverage(ids, missing=(), without_truth=(), truth_count=len(ids))
    return ScoredImages(coverage, np.array(malignant), np.array(scores))


def noisy(distance: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.3 + distance * (np.arange(60) < 20), 0.15)
    return dict(zip(MANY, np.clip(values, 0, 1).tolist(), strict=True))


def as_json(report: Any) -> Any:
    return json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_classification_by_hand(folders: Any) -> None:
    folder, truth = folders.scores(SCORES), folders.labels(LABELS)
    found = evaluate(folder, truth, draws=200).classification
    assert (found.image_count, found.malignant_count) == (4, 2)
    assert found.auc.value == 3 / 4
    assert found.average_precision.value == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    # 0.5 is not above the threshold: b is found, d is not; c is called, a is not.
    assert (found.accuracy.value, found.sensitivity.value, found.specificity.value) == (0.5,) * 3
    specificities = {s: e.value for s, e in found.specificity_at_sensitivity.items()}
    assert specificities == {0.82: 0.5, 0.95: 0.5, 0.98: 0.5, 0.99: 0.5}
    assert found.brier_score.value == pytest.approx((0.01 + 0.01 + 0.36 + 0.25) / 4)
    # Four bins of one image each.
    assert found.expected_calibration_error.value == pytest.approx((0.1 + 0.1 + 0.6 + 0.5) / 4)
    moved = evaluate(folder, truth, draws=50, threshold=0.4).classification
    assert (moved.sensitivity.value, moved.auc.value) == (1.0, 3 / 4)


def test_withheld_images_are_counted_as_missed_in_a_second_sensitivity(folders: Any) -> None:
    truth = folders.labels(LABELS | {"e": "malignant", "f": "malignant", "g": "benign"})
    predictions = folders.scores(SCORES)
    write_manifest(predictions, Manifest(task="classification", withheld=("e", "f", "g")))
    report = evaluate(predictions, truth, draws=200)
    found = report.classification
    assert found.coverage.missing == ()
    assert (found.image_count, found.sensitivity.value) == (4, 1 / 2)
    assert (found.withheld.malignant, found.withheld.all_malignant) == (2, 4)
    assert (found.withheld.benign, found.withheld.all_benign) == (1, 3)
    second = found.withheld.sensitivity
    assert second.value == 1 / 4, "one of four malignant images is called so"
    assert second.low <= 1 / 4 <= second.high
    named = dict(found.rows())
    assert named["sensitivity, withheld malignant images counted as missed"] == second
    assert as_json(report)["classification"]["withheld_images"] == ["e", "f", "g"]
    write_manifest(predictions, Manifest(task="classification", withheld=("z",)))
    with pytest.raises(PredictionsError, match="predicts z, unknown"):
        evaluate(predictions, truth, draws=50)


def test_segmentation_by_hand(folders: Any) -> None:
    empty = np.zeros((16, 20), dtype=bool)
    truth = folders.masks({"a": LEFT, "b": LEFT, "c": empty}, "truth")
    report = evaluate(folders.masks({"a": LEFT, "b": TOP, "c": empty}), truth, draws=50)
    found = report.segmentation
    assert (report.classification, found.image_count) == (None, 3)
    assert found.jaccard.value == pytest.approx((1 + 1 / 3 + 1) / 3)
    for metric in (found.dice, found.accuracy, found.sensitivity, found.specificity):
        assert metric.value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.thresholded_jaccard.value == pytest.approx(2 / 3)
    assert found.pooled_jaccard.value == pytest.approx((128 + 64) / (128 + 192))


def test_both_tasks_of_one_folder_are_json_with_a_notice_equal_for_equal_seeds(
    folders: Any,
) -> None:
    folders.labels(LABELS)
    truth = folders.masks(dict.fromkeys(LABELS, LEFT), "truth")
    folders.scores(SCORES)
    folder = folders.masks(dict.fromkeys(LABELS, TOP))
    write_manifest(folder, Manifest(task="joint", source="dc-x", split="test"))
    report = evaluate(folder, truth, draws=30, seed=5)
    assert report == evaluate(folder, truth, draws=30, seed=5)
    names = [name for name, _ in report.rows()]
    assert (names[:2], names[-7:-5]) == (["average precision", "AUC"], ["Jaccard", "Dice"])
    assert len(names) == 12 + 7
    record = as_json(report)
    assert (record["source"], record["split"]) == ("dc-x", "test")
    assert record["bootstrap"] == {"draws": 30, "seed": 5, "level": 0.95}
    assert record["segmentation"]["jaccard"] == dict.fromkeys(("value", "low", "high"), 1 / 3)
    found = record["classification"]
    assert (found["images"], found["missing"]) == (4, [])
    assert list(found["specificity_at_sensitivity"]) == ["0.82", "0.95", "0.98", "0.99"]
    assert "not a medical device" in record["notice"]


def test_every_estimate_lies_between_its_ends_within_three_seconds() -> None:
    malignant = np.arange(379) < 75
    scores = np.clip(np.random.default_rng(0).normal(0.3 + 0.3 * malignant, 0.2), 0, 1)
    start = time.process_time()
    report = evaluate_scores(scored(malignant.tolist(), scores.tolist()), draws=2000)
    assert time.process_time() - start < 3
    for _, estimate in report.rows():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.parametrize("malignant", [True, False])
def test_one_class_alone_leaves_the_ranking_undefined(malignant: bool) -> None:
    report = evaluate_scores(scored([malignant] * 3, [0.1, 0.6, 0.7]), draws=20)
    assert report.auc is report.average_precision is report.auc_delong is None
    assert set(report.specificity_at_sensitivity.values()) == {None}
    assert report.accuracy.value == pytest.approx(2 / 3 if malignant else 1 / 3)
    assert (report.specificity if malignant else report.sensitivity) == Estimate(1.0, 1.0, 1.0)
    assert as_json(report)["auc"] == {"value": None, "low": None, "high": None}
    one_of_a_class = evaluate_scores(scored([True, False, False], [0.6, 0.1, 0.7]), draws=20)
    assert (one_of_a_class.auc.value, one_of_a_class.auc_delong) == (0.5, None)


def test_what_has_no_truth_or_options_out_of_range_are_refused(folders: Any) -> None:
    scores, masks = folders.scores(SCORES), folders.masks({"a": LEFT}, "b")
    labels, true_masks = folders.labels(LABELS), folders.masks({"a": LEFT}, "m")
    with pytest.raises(DataError, match=r"holds masks, and .* nothing to hold .* with labels"):
        evaluate(scores, true_masks)
    with pytest.raises(DataError, match=r"holds labels, and .* nothing to hold .* with masks"):
        evaluate(masks, labels)
    with pytest.raises(DataError, match="truth folder with labels"):
        compare(scores, scores, true_masks)
    with pytest.raises(PredictionsError, match="no task in common"):
        compare(scores, masks, labels)
    nowhere = Path("nowhere")
    with pytest.raises(ConfigError, match=r"threshold is 1\.5"):
        evaluate(nowhere, nowhere, threshold=1.5)
    for options in ((evaluate, nowhere, nowhere), (compare, nowhere, nowhere, nowhere)):
        with pytest.raises(ConfigError, match="draws is 0"):
            options[0](*options[1:], draws=0)  # type: ignore[operator]


def test_a_better_model_is_told_from_a_worse(folders: Any) -> None:
    better, worse = folders.scores(noisy(0.4, 0)), folders.scores(noisy(0.0, 1), "b")
    report = compare(better, worse, folders.labels(MANY_LABELS))
    found = report.classification
    assert found.image_count == 60
    for test in (found.auc, found.average_precision):
        assert test.a - test.b == pytest.approx(test.difference.value)
        assert test.difference.low > 0
        assert test.p_value == pytest.approx(2 / 2001)  # no draw of 2,000 against it
    assert found.auc_delong.difference.value == pytest.approx(found.auc.difference.value)
    assert found.auc_delong.p_value < 0.001
    same = compare(better, better, folders.root / "truth", draws=99).classification
    assert same.auc.p_value == same.average_precision.p_value == same.auc_delong.p_value == 1.0
    assert same.auc.difference == Estimate(0.0, 0.0, 0.0)
    assert [name for name, _ in report.rows()] == ["average precision", "AUC"]
    record = as_json(report)
    assert (record["a"], record["b"], record["segmentation"]) == ("a", "b", None)
    assert set(record["classification"]["auc"]) == {"a", "b", "difference", "p_value"}
    delong = record["classification"]["auc_delong"]
    assert set(delong) == {"difference", "standard_error", "low", "high", "p_value"}


def test_masks_are_compared_image_by_image(folders: Any) -> None:
    truth = folders.masks(dict.fromkeys(MANY[:12], LEFT), "truth")
    bad = folders.masks(dict.fromkeys(MANY[:12], TOP), "b")
    report = compare(bad, truth, truth, draws=199)
    found = report.segmentation
    assert found.jaccard.difference.value == pytest.approx(1 / 3 - 1)
    assert found.dice.difference.value == pytest.approx(1 / 2 - 1)
    assert found.jaccard.p_value == pytest.approx(2 / 200)
    assert [name for name, _ in report.rows()] == ["Jaccard", "Dice"]


def test_different_images_or_a_missing_class_are_not_compared(folders: Any) -> None:
    whole = folders.scores(noisy(0.2, 0))
    part = folders.scores(dict.fromkeys(MANY[:-1], 0.5), "b")
    message = r"ISIC_9000059: predicted in .*a and not in .*b. Expected: the same images"
    for pair in ((part, whole), (whole, part)):
        with pytest.raises(PredictionsError, match=message):
            compare(*pair, folders.labels(MANY_LABELS))
    scores, two = folders.scores({"a": 0.5, "b": 0.6}, "two"), {"a": "benign", "b": "malignant"}
    assert compare(scores, scores, folders.labels(two), draws=9).classification.auc_delong is None
    with pytest.raises(DataError, match="not defined: there is no malignant image"):
        compare(scores, scores, folders.labels({"a": "benign", "b": "0"}))
