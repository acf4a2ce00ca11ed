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


def test_scores_meet_their_labels_by_image(folders: Any) -> None:
    truth = load_truth(folders.labels(LABELS))
    images = match_scores(read_predictions(folders.scores({"c": 0.3, "a": 0.1, "b": 0.2})), truth)
    assert images.coverage.evaluated == ("a", "b", "c")
    assert images.malignant.tolist() == [False, True, False]
    assert images.scores.tolist() == [0.1, 0.2, 0.3]


def test_masks_are_counted_at_the_size_of_the_truth(folders: Any) -> None:
    truth = load_truth(folders.masks({"a": HALF, "b": ~HALF}, "truth"))
    images = match_masks(read_predictions(folders.masks({"a": HALF, "b": HALF})), truth)
    assert images.counts == (Counts(160, 0, 160, 0), Counts(0, 160, 0, 160))


def test_a_mask_of_another_size_is_refused_naming_both(folders: Any) -> None:
    truth = load_truth(folders.masks({"a": HALF}, "truth"))
    predictions = read_predictions(folders.masks({"a": HALF.T}))
    with pytest.raises(PredictionsError, match=r"is 16 x 20 pixels. Expected: 20 x 16 pixels"):
        match_masks(predictions, truth)


def test_a_damaged_mask_is_refused_naming_the_file(folders: Any) -> None:
    truth = load_truth(folders.masks({"a": HALF}, "truth"))
    folder = folders.masks({"a": HALF})
    mask_path(folder, "a").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"a_Segmentation\.png"):
        match_masks(read_predictions(folder), truth)


def test_kinds_that_one_side_lacks_do_not_meet(folders: Any) -> None:
    labels, masks = load_truth(folders.labels(LABELS)), load_truth(folders.masks({"a": HALF}, "m"))
    scores = read_predictions(folders.scores({"a": 0.1, "b": 0.2, "c": 0.3}))
    assert match_masks(scores, labels) is None
    assert match_scores(scores, masks) is None


def test_an_unknown_image_is_refused(folders: Any) -> None:
    truth = load_truth(folders.labels(LABELS))
    predictions = read_predictions(folders.scores(dict.fromkeys("abcdefgh", 0.5)))
    with pytest.raises(PredictionsError, match=r"predicts d, e, f and 2 more, unknown in"):
        match_scores(predictions, truth, allow_partial=True)


def test_a_missing_image_is_refused_or_listed(folders: Any) -> None:
    truth = load_truth(folders.labels(LABELS))
    predictions = read_predictions(folders.scores({"a": 0.1}))
    with pytest.raises(PredictionsError, match=r"does not predict b, c. Expected: all 3 images"):
        match_scores(predictions, truth)
    images = match_scores(predictions, truth, allow_partial=True)
    assert images.coverage.missing == ("b", "c")
    assert images.coverage.truth_count == 3


def test_a_validation_split_is_a_subset_by_its_nature(folders: Any) -> None:
    truth = load_truth(folders.labels(LABELS))
    folder = folders.scores({"a": 0.1})
    write_manifest(folder, Manifest(task="classification", split="validation"))
    images = match_scores(read_predictions(folder), truth)
    assert images.coverage.evaluated == ("a",)
    assert images.coverage.missing == ()


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """ISIC 2016: training images 0 to 2, the last without a label; test images 10 to 12."""
    folder = tmp_path / "isic"
    for split, ids in (("Training", range(3)), ("Test", range(10, 13))):
        data = folder / f"ISBI2016_ISIC_Part1_{split}_Data"
        data.mkdir(parents=True)
        for i in ids:
            (data / f"ISIC_90000{i:02d}.jpg").touch()
    labels = "ISIC_9000000,benign\nISIC_9000001,malignant\n"
    (folder / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv").write_text(labels)
    return folder


def test_of_the_training_images_any_number_may_be_predicted(official: Path, folders: Any) -> None:
    predictions = read_predictions(folders.scores({"ISIC_9000001": 0.5, "ISIC_9000002": 0.5}))
    coverage = match_scores(predictions, load_truth(official)).coverage
    assert coverage.evaluated == ("ISIC_9000001",)
    assert coverage.without_truth == ("ISIC_9000002",), "known, and left out"
    assert (coverage.missing, coverage.truth_count) == ((), 2)


def test_the_test_split_is_evaluated_whole(official: Path, folders: Any) -> None:
    predictions = read_predictions(folders.scores({"ISIC_9000010": 0.5, "ISIC_9000012": 0.5}))
    with pytest.raises(DataError, match="no truth for any of the 2 images"):
        match_scores(predictions, load_truth(official))
    labels = "".join(f"ISIC_90000{i},{float(i == 10)}\n" for i in (10, 11, 12))
    (official / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text(labels)
    with pytest.raises(PredictionsError, match="does not predict ISIC_9000011"):
        match_scores(predictions, load_truth(official))
