import zipfile
from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import load_preset
from dermfuse.errors import DataError, RunError
from dermfuse.folders import RunFolder, read_json, write_json
from dermfuse.predictions.scores import read_scores
from dermfuse.training import predict, train
from dermfuse.training.prediction import submit

TINY = ["model.init=random", "data.input_size=32", "train.epochs=1", "augment.enabled=false"]


def test_scores_are_packed_with_the_runs_record(drawn: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    train(load_preset("dc-mobilenetv1").override(TINY), data=drawn, run=run)
    report = submit(run, data=drawn, out=out)
    assert sorted(path.name for path in out.iterdir()) == ["run.json", "scores.csv"]
    assert len(read_scores(out / "scores.csv").image_ids) == report.images == 6
    assert read_json(out / "run.json")["validation"]["epoch"] == 1
    assert report.to_dict()["out"] == str(out)
    predict(run, data=drawn, split="test", out=tmp_path / "predicted", tta=True)
    submit(run, data=drawn, out=tmp_path / "eight", tta=True)
    written, packed = (read_scores(tmp_path / d / "scores.csv") for d in ("predicted", "eight"))
    assert np.array_equal(written.scores, packed.scores)
    assert not np.array_equal(packed.scores, read_scores(out / "scores.csv").scores)
    said = [read_json(folder / "run.json")["symmetries"] for folder in (out, tmp_path / "eight")]
    assert said == [1, 8]


def test_masks_are_one_archive_and_the_same_masks_the_same_bytes(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(load_preset("u-mobilenetv1").override(TINY), data=drawn, run=run)
    for out in ("a", "b"):
        submit(run, data=drawn, out=tmp_path / out)
    archive = tmp_path / "a" / "masks.zip"
    assert archive.read_bytes() == (tmp_path / "b" / "masks.zip").read_bytes()
    names = zipfile.ZipFile(archive).namelist()
    assert len(names) == 6
    assert all(n.startswith("masks/ISIC_") and n.endswith("_Segmentation.png") for n in names)


def test_an_image_that_cannot_be_read_leaves_nothing_behind(drawn: Path, tmp_path: Path) -> None:
    train(load_preset("dc-mobilenetv1").override(TINY), data=drawn, run=tmp_path / "run")
    folder = tmp_path / "data" / "ISBI2016_ISIC_Part3_Test_Data"
    folder.mkdir(parents=True)
    (folder / "ISIC_0000001.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"ISIC_0000001\.jpg"):
        submit(tmp_path / "run", data=tmp_path / "data", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]


def test_an_unfinished_run_is_not_submitted(drawn: Path, tmp_path: Path) -> None:
    write_json(RunFolder(tmp_path / "run").record, {"status": "running", "epochs": 3})
    with pytest.raises(RunError, match=r"is running after 3 epochs.*--resume"):
        submit(tmp_path / "run", data=drawn, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
