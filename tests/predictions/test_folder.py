"""Predictions folders: what is read, what is refused, and that none is half-written."""

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import PredictionsError, RunError
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
from dermfuse.records.folders import NOTICE

SQUARE = np.eye(16, dtype=bool)


def write_two_scores(folder: Path) -> None:
    write_scores(folder / "scores.csv", ScoreTable(("b", "a"), np.array([0.25, 0.75])))


def test_a_score_table_alone_is_a_predictions_folder(tmp_path: Path) -> None:
    write_two_scores(tmp_path)
    predictions = read_predictions(tmp_path)
    assert predictions.manifest == Manifest()
    assert predictions.score_by_id() == {"a": 0.75, "b": 0.25}
    assert not predictions.masks


@pytest.mark.parametrize("length", [1, 238, 239, 300])
def test_every_id_has_its_mask_and_its_map_however_long_it_is(tmp_path: Path, length: int) -> None:
    ids = ("x" * length, "x" * length + "y")
    for image_id in reversed(ids):
        write_mask(mask_path(tmp_path, image_id), SQUARE)
        write_probability(probability_path(tmp_path, image_id), SQUARE.astype(np.float32))
    (tmp_path / "masks" / "._x_Segmentation.png").touch()
    alone = read_predictions(tmp_path)
    assert (alone.scores, alone.score_by_id()) == (None, {})
    write_scores(tmp_path / "scores.csv", ScoreTable(ids, np.array([0.25, 0.75])))
    predictions = read_predictions(tmp_path)
    assert tuple(predictions.masks) == tuple(predictions.probabilities) == ids


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
        ({"withheld": [1]}, "withheld.0 is 1. Expected: a text"),
        ({"format": 2}, "has format 2. Expected: format 1"),
        ({"task": "detection"}, "task is 'detection'. Expected: one of classification, segm"),
        ({"task": None}, "task is ''"),
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
    (tmp_path / "predictions.json").write_text(json.dumps(record) if changes else "{")
    with pytest.raises(PredictionsError, match=message):
        read_predictions(tmp_path)


def test_a_folder_that_holds_nothing_or_less_or_more_than_it_should_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path, "neither scores nor masks"),
        (tmp_path / "out", "out is missing"),
        (tmp_path / "file", "file is not a folder"),
    ):
        with pytest.raises(PredictionsError, match=message):
            read_predictions(folder)
    write_mask(tmp_path / "masks" / "a.png", SQUARE)
    for task in ("classification", "joint"):
        write_manifest(tmp_path, Manifest(task=task))
        with pytest.raises(PredictionsError, match=r"no scores. Expected: scores.csv"):
            read_predictions(tmp_path)
    write_mask(tmp_path / "masks" / "a_Segmentation.png", SQUARE)
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


def test_predictions_are_packed_with_their_manifest_for_a_record(tmp_path: Path) -> None:
    write_two_scores(tmp_path / "fused")
    manifest = Manifest("classification", "fusion of A and B", "test", details={"weight": 0.4})
    write_manifest(tmp_path / "fused", manifest)
    write_mask(mask_path(tmp_path / "fused", "a"), SQUARE)
    report, out = pack(tmp_path / "fused", tmp_path / "out"), tmp_path / "out"
    assert (report.task, report.images, report.to_dict()["out"]) == ("classification", 2, str(out))
    with zipfile.ZipFile(out / "masks.zip") as masks:
        mask = masks.read("masks/a_Segmentation.png")
    assert mask == mask_path(tmp_path / "fused", "a").read_bytes()
    record = json.loads((out / "run.json").read_text())
    assert (record["source"], record["weight"]) == ("fusion of A and B", 0.4)
    assert read_scores(out / "scores.csv").scores.tolist() == [0.75, 0.25]
