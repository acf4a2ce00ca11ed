"""Evaluation of folders: numbers, undefined cases, JSON, and speed."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.estimates import Estimate
from dermfuse.evaluation.evaluate import evaluate, evaluate_scores
from dermfuse.evaluation.matching import Coverage, ScoredImages
from dermfuse.predictions.folder import Manifest, write_manifest

LABELS = {"a": "benign", "b": "malignant", "c": "benign", "d": "malignant"}
SCORES = {"a": 0.1, "b": 0.9, "c": 0.6, "d": 0.5}
LEFT = np.repeat([[True, True, False, False]], 16, axis=0).repeat(4, axis=1)  # 16 x 16
TOP = LEFT.T


def scored(malignant: list[bool], scores: list[float]) -> ScoredImages:
    ids = tuple(f"ISIC_{i:07d}" for i in range(len(scores)))
    coverage = Coverage(ids, missing=(), without_truth=(), truth_count=len(ids))
    return ScoredImages(coverage, np.array(malignant), np.array(scores))


def test_classification_by_hand(folders: Any) -> None:
    report = evaluate(folders.scores(SCORES), folders.labels(LABELS), draws=200)
    assert report.source == "a"
    assert report.segmentation is None
    found = report.classification
    assert found is not None
    assert (found.image_count, found.malignant_count) == (4, 2)
    assert found.auc.value == 3 / 4
    assert found.average_precision.value == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    # 0.5 is not above the threshold: b is found, d is not; c is called, a is not.
    assert (found.accuracy.value, found.sensitivity.value, found.specificity.value) == (0.5,) * 3
    assert {s: e.value for s, e in found.specificity_at_sensitivity.items()} == {
        0.82: 0.5,
        0.95: 0.5,
        0.98: 0.5,
        0.99: 0.5,
    }
    assert found.brier_score.value == pytest.approx((0.01 + 0.01 + 0.36 + 0.25) / 4)
    # Four bins of one image each.
    assert found.expected_calibration_error.value == pytest.approx((0.1 + 0.1 + 0.6 + 0.5) / 4)


def test_another_threshold_moves_the_rates_only(folders: Any) -> None:
    found = evaluate(
        folders.scores(SCORES), folders.labels(LABELS), draws=50, threshold=0.4
    ).classification
    assert found is not None
    assert found.sensitivity.value == 1.0
    assert found.auc.value == 3 / 4


def test_withheld_images_are_counted_as_missed_in_a_second_sensitivity(folders: Any) -> None:
    truth = folders.labels(LABELS | {"e": "malignant", "f": "malignant", "g": "benign"})
    predictions = folders.scores(SCORES)
    manifest = Manifest(task="classification", withheld=("e", "f", "g"))
    write_manifest(predictions, manifest)
    report = evaluate(predictions, truth, draws=200)
    found = report.classification
    assert found is not None
    assert found.coverage.missing == ()
    assert found.coverage.withheld == ("e", "f", "g")
    assert (found.image_count, found.malignant_count) == (4, 2)
    assert found.sensitivity.value == 1 / 2
    assert found.withheld is not None
    assert (found.withheld.malignant, found.withheld.all_malignant) == (2, 4)
    assert (found.withheld.benign, found.withheld.all_benign) == (1, 3)
    second = found.withheld.sensitivity
    assert second.value == 1 / 4, "one of four malignant images is called so"
    assert second.low <= 1 / 4 <= second.high
    named = dict(found.rows())
    assert named["sensitivity, withheld malignant images counted as missed"] == second
    assert report.to_dict()["classification"]["withheld"]["sensitivity"]["value"] == 1 / 4
    assert report.to_dict()["classification"]["withheld_images"] == ["e", "f", "g"]


def test_where_nothing_was_withheld_there_is_one_sensitivity(folders: Any) -> None:
    found = evaluate(folders.scores(SCORES), folders.labels(LABELS), draws=50).classification
    assert found is not None
    assert found.withheld is None
    assert [name for name, _ in found.rows() if name.startswith("sensitivity")] == ["sensitivity"]


def test_a_withheld_image_that_the_truth_does_not_know_is_refused(folders: Any) -> None:
    predictions = folders.scores(SCORES)
    write_manifest(predictions, Manifest(task="classification", withheld=("z",)))
    with pytest.raises(PredictionsError, match="predicts z, unknown"):
        evaluate(predictions, folders.labels(LABELS), draws=50)


def test_segmentation_by_hand(folders: Any) -> None:
    empty = np.zeros((16, 20), dtype=bool)
    truth = folders.masks({"a": LEFT, "b": LEFT, "c": empty}, "truth")
    report = evaluate(folders.masks({"a": LEFT, "b": TOP, "c": empty}), truth, draws=50)
    assert report.classification is None
    found = report.segmentation
    assert found is not None
    assert found.image_count == 3
    assert found.jaccard.value == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found.dice.value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.accuracy.value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.sensitivity.value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.specificity.value == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.thresholded_jaccard.value == pytest.approx(2 / 3)
    assert found.pooled_jaccard.value == pytest.approx((128 + 64) / (128 + 192))


def test_scores_and_masks_of_one_folder_are_both_evaluated(folders: Any) -> None:
    folders.labels(LABELS)
    truth = folders.masks(dict.fromkeys(LABELS, LEFT), "truth")
    folders.scores(SCORES)
    report = evaluate(folders.masks(dict.fromkeys(LABELS, TOP)), truth, draws=20)
    names = [name for name, _ in report.rows()]
    assert names[:2] == ["average precision", "AUC"]
    assert names[-7:-5] == ["Jaccard", "Dice"]
    assert len(names) == 12 + 7


def test_every_estimate_lies_between_its_ends(folders: Any) -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(200) < 40
    images = scored(
        malignant.tolist(), np.clip(rng.normal(0.3 + 0.3 * malignant, 0.2), 0, 1).tolist()
    )
    for _, estimate in evaluate_scores(images).rows():
        assert estimate is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.parametrize("malignant", [True, False])
def test_one_class_alone_leaves_the_ranking_undefined(malignant: bool) -> None:
    report = evaluate_scores(scored([malignant] * 3, [0.1, 0.6, 0.7]), draws=20)
    assert report.auc is report.average_precision is None
    assert set(report.specificity_at_sensitivity.values()) == {None}
    assert report.auc_delong is None
    assert report.accuracy.value == pytest.approx(2 / 3 if malignant else 1 / 3)
    assert (report.specificity if malignant else report.sensitivity) == Estimate(1.0, 1.0, 1.0)
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert '"auc": {"value": null, "low": null, "high": null}' in text


def test_one_image_is_enough_for_the_rates() -> None:
    report = evaluate_scores(scored([True], [0.6]), draws=20)
    assert report.accuracy == Estimate(1.0, 1.0, 1.0)


def test_one_malignant_image_has_an_auc_and_no_delong_interval() -> None:
    report = evaluate_scores(scored([True, False, False], [0.6, 0.1, 0.7]), draws=20)
    assert report.auc.value == 0.5
    assert report.auc_delong is None
    assert dict(report.rows())["AUC (DeLong)"] is None


def test_the_report_is_json_with_a_notice(folders: Any) -> None:
    folder = folders.scores(SCORES)
    write_manifest(folder, Manifest(task="classification", source="dc-x", split="test"))
    report = evaluate(folder, folders.labels(LABELS), draws=30, seed=5)
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["source"] == "dc-x"
    assert record["split"] == "test"
    assert record["bootstrap"] == {"draws": 30, "seed": 5, "level": 0.95}
    assert record["segmentation"] is None
    assert record["classification"]["images"] == 4
    assert record["classification"]["missing"] == []
    assert list(record["classification"]["specificity_at_sensitivity"]) == [
        "0.82",
        "0.95",
        "0.98",
        "0.99",
    ]
    assert "not a medical device" in record["notice"]


def test_the_segmentation_report_is_json(folders: Any) -> None:
    truth = folders.masks({"a": LEFT}, "truth")
    record = evaluate(folders.masks({"a": TOP}), truth, draws=20).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False))["segmentation"]["jaccard"] == {
        "value": 1 / 3,
        "low": 1 / 3,
        "high": 1 / 3,
    }


def test_equal_seeds_give_equal_reports(folders: Any) -> None:
    folder, truth = folders.scores(SCORES), folders.labels(LABELS)
    assert evaluate(folder, truth, draws=30) == evaluate(folder, truth, draws=30)


def test_scores_without_labels_are_refused(folders: Any) -> None:
    with pytest.raises(DataError, match=r"holds masks, and .* nothing to hold .* with labels"):
        evaluate(folders.scores(SCORES), folders.masks({"a": LEFT}, "truth"))
    with pytest.raises(DataError, match=r"holds labels, and .* nothing to hold .* with masks"):
        evaluate(folders.masks({"a": LEFT}, "b"), folders.labels(LABELS, "labels"))


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"threshold is 1\.5"):
        evaluate(tmp_path, tmp_path, threshold=1.5)
    with pytest.raises(ConfigError, match="draws is 0"):
        evaluate(tmp_path, tmp_path, draws=0)


def test_the_test_set_is_evaluated_within_three_seconds() -> None:
    rng = np.random.default_rng(0)
    images = scored((np.arange(379) < 75).tolist(), rng.random(379).tolist())
    start = time.process_time()
    evaluate_scores(images, draws=2000)
    assert time.process_time() - start < 3
