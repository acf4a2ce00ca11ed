"""Which predictions meet which truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.data.folders import load_truth
from dermfuse.errors import DataError, ImageError, PredictionsError
from dermfuse.evaluation.matching import match_masks, match_scores
from dermfuse.predictions.folder import Manifest, mask_path, read_predictions, write_manifest
from dermfuse.predictions.metrics import Counts

LABELS = {"a": "benign", "b": "malignant", "c": "benign"}
HALF = np.repeat([[True, False]], 16, axis=0).repeat(10, axis=1)  # 16 rows of 20


def test_scores_meet_their_labels_by_image_and_masks_are_counted(folders: Any) -> None:
    labels = load_truth(folders.labels(LABELS))
    predicted = read_predictions(folders.scores({"c": 0.3, "a": 0.1, "b": 0.2}))
    images = match_scores(predicted, labels)
    assert images.coverage.evaluated == ("a", "b", "c")
    assert images.malignant.tolist() == [False, True, False]
    assert images.scores.tolist() == [0.1, 0.2, 0.3]
    masks = load_truth(folders.masks({"a": HALF, "b": ~HALF}, "masks"))
    outlined = match_masks(read_predictions(folders.masks({"a": HALF, "b": HALF}, "b")), masks)
    assert outlined.counts == (Counts(160, 0, 160, 0), Counts(0, 160, 0, 160))
    assert match_masks(predicted, labels) is match_scores(predicted, masks) is None


def test_a_mask_of_another_size_or_damaged_is_refused_by_name(folders: Any) -> None:
    truth = load_truth(folders.masks({"a": HALF}, "truth"))
    predictions = read_predictions(folders.masks({"a": HALF.T}))
    with pytest.raises(PredictionsError, match=r"is 16 x 20 pixels. Expected: 20 x 16 pixels"):
        match_masks(predictions, truth)
    mask_path(predictions.folder, "a").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"a_Segmentation\.png"):
        match_masks(predictions, truth)


def test_unknown_images_are_refused_and_missing_ones_too_unless_listed(folders: Any) -> None:
    truth = load_truth(folders.labels(LABELS))
    odd = read_predictions(folders.scores(dict.fromkeys("abcdefgh", 0.5), "odd"))
    with pytest.raises(PredictionsError, match=r"predicts d, e, f and 2 more, unknown in"):
        match_scores(odd, truth, allow_partial=True)
    few = read_predictions(folders.scores({"a": 0.1}))
    with pytest.raises(PredictionsError, match=r"does not predict b, c. Expected: all 3 images"):
        match_scores(few, truth)
    coverage = match_scores(few, truth, allow_partial=True).coverage
    assert (coverage.missing, coverage.truth_count) == (("b", "c"), 3)
    write_manifest(few.folder, Manifest(task="classification", split="validation"))
    coverage = match_scores(read_predictions(few.folder), truth).coverage
    assert (coverage.evaluated, coverage.missing) == (("a",), ()), "a subset by its nature"


def test_of_the_training_images_any_number_is_evaluated_and_of_the_test_split_all(
    folders: Any, tmp_path: Path
) -> None:
    official = tmp_path / "isic"  # training images 0 to 2, the last without a label; 10 to 12 test
    for split, ids in (("Training", range(3)), ("Test", range(10, 13))):
        for i in ids:
            path = official / f"ISBI2016_ISIC_Part1_{split}_Data" / f"ISIC_90000{i:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    labels = "ISIC_9000000,benign\nISIC_9000001,malignant\n"
    (official / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv").write_text(labels)
    trained = read_predictions(folders.scores({"ISIC_9000001": 0.5, "ISIC_9000002": 0.5}))
    coverage = match_scores(trained, load_truth(official)).coverage
    assert coverage.evaluated == ("ISIC_9000001",)
    assert coverage.without_truth == ("ISIC_9000002",), "known, and left out"
    assert (coverage.missing, coverage.truth_count) == ((), 2)
    tested = read_predictions(folders.scores({"ISIC_9000010": 0.5, "ISIC_9000012": 0.5}, "b"))
    with pytest.raises(DataError, match="no truth for any of the 2 images"):
        match_scores(tested, load_truth(official))
    labels = "".join(f"ISIC_90000{i},{float(i == 10)}\n" for i in (10, 11, 12))
    (official / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text(labels)
    with pytest.raises(PredictionsError, match="does not predict ISIC_9000011"):
        match_scores(tested, load_truth(official))
