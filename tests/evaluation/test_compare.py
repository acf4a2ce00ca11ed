"""Two models on the same images."""

import json
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.evaluation.evaluate import compare

IDS = [f"ISIC_90000{i:02d}" for i in range(60)]
LABELS = {image_id: "malignant" if i < 20 else "benign" for i, image_id in enumerate(IDS)}
LEFT = np.repeat([[True, True, False, False]], 16, axis=0).repeat(4, axis=1)


def noisy(distance: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.3 + distance * (np.arange(60) < 20), 0.15)
    return dict(zip(IDS, np.clip(values, 0, 1).tolist(), strict=True))


def test_a_better_model_is_told_from_a_worse(folders: Any) -> None:
    report = compare(
        folders.scores(noisy(0.4, 0)), folders.scores(noisy(0.0, 1), "b"), folders.labels(LABELS)
    )
    found = report.classification
    assert found is not None
    assert found.image_count == 60
    assert found.auc_delong is not None
    for difference in (found.auc, found.average_precision):
        assert difference.a - difference.b == pytest.approx(difference.difference.value)
        assert difference.difference.low > 0
        assert difference.p_value == pytest.approx(2 / 2001)  # no draw of 2,000 against it
    assert found.auc_delong.difference.value == pytest.approx(found.auc.difference.value)
    assert found.auc_delong.p_value is not None
    assert found.auc_delong.p_value < 0.001


def test_like_models_are_not_told_apart(folders: Any) -> None:
    report = compare(
        folders.scores(noisy(0.2, 2)), folders.scores(noisy(0.2, 3), "b"), folders.labels(LABELS)
    )
    found = report.classification
    assert found is not None
    assert found.auc_delong is not None
    assert found.auc_delong.p_value is not None
    assert found.auc.p_value == pytest.approx(found.auc_delong.p_value, abs=0.1)
    assert found.auc.p_value > 0.05


def test_a_model_does_not_differ_from_itself(folders: Any) -> None:
    folder = folders.scores(noisy(0.2, 0))
    found = compare(folder, folder, folders.labels(LABELS), draws=99).classification
    assert found is not None
    assert found.auc.p_value == found.average_precision.p_value == 1.0
    assert found.auc.difference.low == found.auc.difference.high == 0.0


def test_masks_are_compared_image_by_image(folders: Any) -> None:
    truth = folders.masks(dict.fromkeys(IDS[:12], LEFT), "truth")
    good = folders.masks(dict.fromkeys(IDS[:12], LEFT))
    bad = folders.masks(dict.fromkeys(IDS[:12], LEFT.T), "b")
    report = compare(bad, good, truth, draws=199)
    found = report.segmentation
    assert report.classification is None
    assert found is not None
    assert found.jaccard.difference.value == pytest.approx(1 / 3 - 1)
    assert found.dice.difference.value == pytest.approx(1 / 2 - 1)
    assert found.jaccard.p_value == pytest.approx(2 / 200)
    assert [name for name, _ in report.rows()] == ["Jaccard", "Dice"]


def test_the_report_is_json_with_a_notice(folders: Any) -> None:
    a, b = folders.scores(noisy(0.2, 0)), folders.scores(noisy(0.1, 1), "b")
    report = compare(a, b, folders.labels(LABELS), draws=20)
    assert [name for name, _ in report.rows()] == ["average precision", "AUC"]
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (record["a"], record["b"]) == ("a", "b")
    assert set(record["classification"]["auc"]) == {"a", "b", "difference", "p_value"}
    assert record["segmentation"] is None
    assert "not a medical device" in record["notice"]


@pytest.mark.parametrize("swap", [False, True])
def test_different_images_are_refused_naming_some(folders: Any, *, swap: bool) -> None:
    whole = folders.scores(noisy(0.2, 0))
    part = folders.scores(dict.fromkeys(IDS[:-1], 0.5), "b")
    message = r"ISIC_9000059: predicted in .*a and not in .*b. Expected: the same images"
    with pytest.raises(PredictionsError, match=message):
        compare(*((part, whole) if swap else (whole, part)), folders.labels(LABELS))


def test_different_tasks_are_refused(folders: Any) -> None:
    scores, masks = folders.scores(noisy(0.2, 0)), folders.masks({"a": LEFT}, "b")
    with pytest.raises(PredictionsError, match="no task in common"):
        compare(scores, masks, folders.labels(LABELS))


def test_a_truth_of_another_kind_is_refused(folders: Any) -> None:
    scores = folders.scores(noisy(0.2, 0))
    with pytest.raises(DataError, match="truth folder with labels"):
        compare(scores, scores, folders.masks({"a": LEFT}, "truth"))


def test_one_class_alone_is_refused(folders: Any) -> None:
    scores = folders.scores({"a": 0.5, "b": 0.6})
    with pytest.raises(DataError, match="not defined: there is no malignant image"):
        compare(scores, scores, folders.labels({"a": "benign", "b": "0"}))


def test_a_class_of_one_image_is_compared_without_delong(folders: Any) -> None:
    scores = folders.scores({"a": 0.5, "b": 0.6})
    truth = folders.labels({"a": "benign", "b": "malignant"})
    found = compare(scores, scores, truth, draws=9).classification
    assert found is not None
    assert found.auc_delong is None


def test_no_draws_are_refused(folders: Any) -> None:
    scores = folders.scores({"a": 0.5})
    with pytest.raises(ConfigError, match="draws is 0"):
        compare(scores, scores, folders.labels({"a": "benign"}), draws=0)
