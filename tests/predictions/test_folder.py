"""Predictions folders: what is read, what is refused, and that none is half-written."""

import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.config import Task
from dermfuse.errors import PredictionsError, RunError, StorageError
from dermfuse.folders import NOTICE, read_json
from dermfuse.imaging.preprocess import write_mask, write_probability
from dermfuse.predictions.folder import (
    Manifest,
    mask_path,
    new_predictions,
    pack,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores

SQUARE = np.eye(16, dtype=bool)


def write_two_scores(folder: Path) -> None:
    write_scores(folder / "scores.csv", ScoreTable(("b", "a"), np.array([0.25, 0.75])))


def test_a_score_table_alone_is_a_predictions_folder(tmp_path: Path) -> None:
    write_two_scores(tmp_path)
    predictions = read_predictions(tmp_path)
    assert predictions.manifest == Manifest()
    assert predictions.score_by_id() == {"a": 0.75, "b": 0.25}
    assert not predictions.masks


def test_masks_and_maps_are_found_by_image(tmp_path: Path) -> None:
    for image_id in ("ISIC_9000002", "ISIC_9000001"):
        write_mask(mask_path(tmp_path, image_id), SQUARE)
        write_probability(probability_path(tmp_path, image_id), SQUARE.astype(np.float32))
    (tmp_path / "masks" / "._ISIC_9000001_Segmentation.png").touch()
    predictions = read_predictions(tmp_path)
    assert list(predictions.masks) == ["ISIC_9000001", "ISIC_9000002"]
    assert list(predictions.probabilities) == ["ISIC_9000001", "ISIC_9000002"]
    assert predictions.scores is None
    assert predictions.score_by_id() == {}


@pytest.mark.parametrize("length", [238, 239, 251, 300])
def test_a_long_id_has_its_mask_and_its_map(tmp_path: Path, length: int) -> None:
    ids = ("x" * length, "x" * length + "y")
    write_scores(tmp_path / "scores.csv", ScoreTable(ids, np.array([0.25, 0.75])))
    for image_id in ids:
        write_mask(mask_path(tmp_path, image_id), SQUARE)
        write_probability(probability_path(tmp_path, image_id), SQUARE.astype(np.float32))
    predictions = read_predictions(tmp_path)
    assert set(predictions.masks) == set(predictions.probabilities) == set(ids)


def test_masks_of_other_programs_are_found_whatever_their_suffix(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "a_Segmentation.PNG", SQUARE)
    write_mask(tmp_path / "masks" / "b_segmentation.png", SQUARE)
    (tmp_path / "masks" / "c.tif").touch()
    (tmp_path / "masks" / "notes.txt").touch()
    assert list(read_predictions(tmp_path).masks) == ["a", "b", "c"]


def test_what_was_withheld_is_read_by_those_who_ask_for_it(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.csv", ScoreTable(("x",), np.array([0.5])))
    manifest = Manifest(
        *("classification", "dc-mobilenetv1, seed 3", "validation"),
        threshold=0.4,
        calibrated=True,
        withheld=("y", "z"),
        details={"seed": 3},
    )
    write_manifest(tmp_path, manifest)
    assert read_predictions(tmp_path, allow_withheld=True).manifest == manifest
    with pytest.raises(PredictionsError, match=r"y, z of .* were withheld"):
        read_predictions(tmp_path)
    write_manifest(tmp_path, Manifest(task="classification", withheld=("x",)))
    with pytest.raises(PredictionsError, match=r"predicts x, withheld by predictions\.json"):
        read_predictions(tmp_path, allow_withheld=True)
    record = json.loads((tmp_path / "predictions.json").read_text())
    assert record["format"] == 1
    assert record["notice"] == NOTICE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "predictions.json cannot be read"),
        ({"withheld": "x"}, "withheld is 'x'. Expected: a list"),
        ({"withheld": [1]}, "withheld.0 is 1. Expected: a text"),
        ({"format": 2}, "has format 2. Expected: format 1"),
        (
            {"task": "detection"},
            "task is 'detection'. Expected: one of classification, segmentation, joint",
        ),
        ({"task": None}, "task is ''"),
        ({"split": 3}, "split is 3"),
        ({"threshold": "half"}, "threshold is 'half'. Expected: a number"),
        ({"task": "segmentation"}, r"no masks. Expected: masks/\*.png"),
        ({"task": "joint"}, r"no masks. Expected: masks/\*.png, as predictions.json says joint"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_two_scores(tmp_path)
    record = Manifest(task="classification").to_dict() | changes
    text = json.dumps(record) if changes else "{"
    (tmp_path / "predictions.json").write_text(text)
    with pytest.raises(PredictionsError, match=message):
        read_predictions(tmp_path)


@pytest.mark.parametrize("task", ["classification", "joint"])
def test_a_manifest_that_promises_scores_needs_them(tmp_path: Path, task: Task) -> None:
    write_mask(mask_path(tmp_path, "a"), SQUARE)
    write_manifest(tmp_path, Manifest(task=task))
    with pytest.raises(PredictionsError, match=r"no scores. Expected: scores.csv"):
        read_predictions(tmp_path)


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="neither scores nor masks"):
        read_predictions(tmp_path)
    with pytest.raises(PredictionsError, match="out is missing"):
        read_predictions(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(PredictionsError, match="file is not a folder"):
        read_predictions(tmp_path / "file")


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a_Segmentation.png"):
        write_mask(tmp_path / "masks" / name, SQUARE)
    with pytest.raises(PredictionsError, match=r"a.png and a_Segmentation.png"):
        read_predictions(tmp_path)


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_once_it_is_whole_or_not_at_all(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with suppress(PredictionsError), new_predictions(out) as folder:
        write_two_scores(folder)
        assert list(out.iterdir()) == []
        raise PredictionsError("half way")
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if exists else [])
    with new_predictions(out) as folder:
        write_two_scores(folder)
    assert [path.name for path in out.iterdir()] == ["scores.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(RunError, match=r"predictions folder .* is not empty"), new_predictions(out):
        pass


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), new_predictions(tmp_path / "out"):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_a_fusion_is_packed_with_its_manifest_for_a_record(tmp_path: Path) -> None:
    fused = tmp_path / "fused"
    write_scores(fused / "scores.csv", ScoreTable(("a", "b"), np.array([0.2, 0.7])))
    manifest = Manifest("classification", "fusion of A and B", "test", details={"weight": 0.4})
    write_manifest(fused, manifest)
    write_mask(mask_path(fused, "a"), np.eye(16, dtype=bool))
    report = pack(fused, tmp_path / "out")
    assert (report.task, report.images) == ("classification", 2)
    assert report.to_dict()["out"] == str(tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "masks.zip") as masks:
        assert masks.read("masks/a_Segmentation.png") == mask_path(fused, "a").read_bytes()
    record = read_json(tmp_path / "out" / "run.json")
    assert (record["source"], record["weight"]) == ("fusion of A and B", 0.4)
    assert read_scores(tmp_path / "out" / "scores.csv").scores.tolist() == [0.2, 0.7]
