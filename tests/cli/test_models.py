import tomllib
from pathlib import Path
from typing import Any

import pytest

import dermfuse.training.train
from dermfuse.config import Config, load_preset, preset_names
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.training.train import TrainingReport

from ..two_folders import IMAGES, LABELS, write_halves
from .conftest import Run

TRAIN = """train mobilenetv1 --set data.input_size=32 --set train.epochs=1 --set model.init=random
--set augment.enabled=false --set train.threads=1 --data"""


def test_presets_are_listed_and_printed(run: Run) -> None:
    lines = run("presets").out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == list(preset_names())
    assert run("presets unet --json").record["model"]["network"] == "unet_original"
    mapping = tomllib.loads(run("presets dc-mobilenetv1").out)
    assert Config.from_mapping(mapping) == load_preset("dc-mobilenetv1")


def test_a_run_is_trained_resumed_and_predicted(drawn: Path, tmp_path: Path, run: Run) -> None:
    folder, out = tmp_path / "run", tmp_path / "predicted"
    train, parts = (TRAIN, drawn, "--run", folder), "--parts validation,test"
    said = run(*train, "--predict", out, parts)
    for part in ("1 epochs; the run lies in", "average_precision", f"lie in {out / 'test'}."):
        assert part in said.out
    assert "Reading images" in said.err
    predict = ("predict", folder, "--data", drawn, "--out")
    made = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")}
    assert {path.parent.name for path in made} == {"validation", "test"}
    run(*predict, out, parts)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")} == made
    assert "exists and is not empty" in run(*train, status=2).err
    assert "2 epochs" in run(*train, "--set train.epochs=2 --resume").out
    for name, options in (("one", ""), ("tta", "--tta")):
        said = run(*predict, tmp_path / name, "--split test", options)
        assert "6 predictions (classification) lie in" in said.out
        report = evaluate(tmp_path / name, drawn, draws=10)
        assert report.classification is not None
        assert report.source.endswith("mean of 8 symmetries") == (name == "tta")


def test_folders_are_joined_a_list_leaves_out_and_contradictions_are_refused(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    a, b = write_halves(drawn, tmp_path)
    listed, first = tmp_path / "list.csv", min((drawn / IMAGES).iterdir()).stem
    listed.write_text(f"image_id,part\n{first},label\n")
    train = (TRAIN, a, "--data", b, "--leave-out", listed, "--run")
    said = run(*train, tmp_path / "run").out
    assert "10 images are in several folders (the file of a is used)" in said
    assert f"1 labels left out (named by list.csv): {first}" in said
    both = ("--data", a, "--data", b)
    run("predict", tmp_path / "run", *both, "--split validation --out", tmp_path / "out")
    run("evaluate", tmp_path / "out", "--draws 10 --truth", a, "--truth", b)

    labels = (b / LABELS).read_text()
    swapped = labels.replace("benign", "?").replace("malignant", "benign").replace("?", "malignant")
    for path, text, said in (
        (listed, f"image_id,part\n{first},masks\n", "list.csv, line 2: unknown part 'masks'"),
        (listed, "image_id,part\nISIC_9899999,mask\n", "line 2: ISIC_9899999 is in no folder"),
        (b / "groups.csv", "image_id,lesion_group\nISIC_9899999,g\n", "of group g is in no folder"),
        (b / LABELS, swapped, "is benign in"),
    ):
        path.write_text(text)
        assert said in run(*train, tmp_path / "other", status=2).err
    assert not (tmp_path / "other").exists()


def test_of_several_processes_one_speaks_and_without_validation_of_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    seen: list[int] = []

    def train(config: Config, *, devices: int, **_: Any) -> TrainingReport:
        seen.append(devices)
        return TrainingReport(tmp_path, 1, {"epoch": 1, "train_loss": 0.5}, ())

    monkeypatch.setattr(dermfuse.training.train, "train", train)
    command = "train unet --data d --run r --devices 2 --set train.schedule=cosine"
    assert run(command).out.split()[:3] == ["best", "epoch", "validation"]
    assert run(command, "--set data.split=all").out.split()[:3] == ["last", "epoch", "training"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    said = run(command)
    assert (said.out, said.err) == ("", "")
    assert seen == [2, 2, 2]
