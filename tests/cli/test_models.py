import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dermfuse.training
from dermfuse.config import Config, load_preset, preset_names
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import NOTICE
from dermfuse.training import TrainingReport

from ..two_folders import IMAGES, LABELS, write_halves
from .conftest import Run

SETTINGS = ("data.input_size=32", "train.epochs=1", "augment.enabled=false", "train.threads=1")
QUICK = [part for setting in SETTINGS for part in ("--set", setting)]
TRAIN = ["train", "mobilenetv1", *QUICK, "--set", "model.init=random"]


def test_presets_are_listed_and_printed(run: Run) -> None:
    lines = run("presets").out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == list(preset_names())
    assert lines[-1] == NOTICE
    assert list(run("presets", "--json").record["presets"]) == list(preset_names())
    assert run("presets", "unet", "--json").record["model"]["network"] == "unet_original"
    mapping = tomllib.loads(run("presets", "dc-mobilenetv1").out)
    assert Config.from_mapping(mapping) == load_preset("dc-mobilenetv1")


def test_a_run_is_trained_resumed_and_predicted(drawn: Path, tmp_path: Path, run: Run) -> None:
    folder, out = tmp_path / "run", tmp_path / "predicted"
    train = [*TRAIN, "--data", drawn, "--run", folder]
    parts = ["--parts", "validation,test"]
    said = run(*train, "--predict", out, *parts)
    assert "1 epochs; the run lies in" in said.out
    assert "average_precision" in said.out
    assert f"The test predictions lie in {out / 'test'}." in said.out
    assert said.out.endswith(NOTICE + "\n")
    assert "Reading images" in said.err
    predict = ["predict", folder, "--data", drawn, "--out"]
    made = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")}
    assert {path.parent.name for path in made} == {"validation", "test"}
    run(*predict, out, *parts)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")} == made

    assert "exists and is not empty" in run(*train, status=2).error
    assert "2 epochs" in run(*train, "--set", "train.epochs=2", "--resume").out
    for name, options in (("one", []), ("tta", ["--tta"])):
        said = run(*predict, tmp_path / name, "--split", "test", *options)
        assert "6 predictions (classification) lie in" in said.out
        report = evaluate(tmp_path / name, drawn, draws=10)
        assert report.classification is not None
        assert report.source.endswith("mean of 8 symmetries") == (name == "tta")


def test_folders_are_joined_and_a_list_leaves_out(drawn: Path, tmp_path: Path, run: Run) -> None:
    a, b = write_halves(drawn, tmp_path)
    both, listed = ["--data", a, "--data", b], tmp_path / "list.csv"
    first = min((drawn / IMAGES).iterdir()).stem
    listed.write_text(f"image_id,part\n{first},label\n")
    said = run(*TRAIN, *both, "--run", tmp_path / "run", "--leave-out", listed).out
    assert "10 images are in several folders (the file of a is used)" in said
    assert f"1 labels left out (named by list.csv): {first}" in said
    run("predict", tmp_path / "run", *both, "--split", "validation", "--out", tmp_path / "out")
    run("evaluate", tmp_path / "out", "--truth", a, "--truth", b, "--draws", 10)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("label", "is malignant in|is benign in"),
        ("pixels", "is one photograph in"),
        ("group", "groups.csv, line 2: ISIC_9899999 of group g is in no folder"),
        ("list", "list.csv, line 2: ISIC_9899999 is in no folder"),
        ("part", "list.csv, line 2: unknown part 'masks'"),
    ],
)
def test_folders_that_contradict_each_other_are_refused_in_one_line(
    damage: str, said: str, drawn: Path, tmp_path: Path, run: Run
) -> None:
    a, b = write_halves(drawn, tmp_path)
    listed = tmp_path / "list.csv"
    listed.write_text("image_id,part\n")
    shared = sorted((b / IMAGES).iterdir())[0]
    if damage == "label":
        swapped = {"benign": "malignant", "malignant": "benign"}
        lines = [line.split(",") for line in (b / LABELS).read_text().splitlines()]
        (b / LABELS).write_text("".join(f"{i},{swapped[label]}\n" for i, label in lines))
    elif damage == "pixels":
        shared.write_bytes(sorted((b / IMAGES).iterdir())[-1].read_bytes())
    elif damage == "group":
        (b / "groups.csv").write_text("image_id,lesion_group\nISIC_9899999,g\n")
    else:
        line = {"list": "ISIC_9899999,mask", "part": f"{shared.stem},masks"}[damage]
        listed.write_text(f"image_id,part\n{line}\n")
    train = [*TRAIN, "--data", a, "--data", b, "--leave-out", listed]
    assert re.search(said, run(*train, "--run", tmp_path / "run", status=2).error)
    assert not (tmp_path / "run").exists()


def test_of_several_processes_one_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    seen: list[int] = []

    def train(config: Config, *, devices: int, **_: Any) -> TrainingReport:
        seen.append(devices)
        return TrainingReport(tmp_path, 1, {"auc": 0.5}, ())

    monkeypatch.setattr(dermfuse.training, "train", train)
    command = ["train", "unet", "--data", "d", "--run", "r", "--devices"]
    assert "1 epochs; the run lies in" in run(*command, 2).out
    monkeypatch.setenv("LOCAL_RANK", "1")
    said = run(*command, 2)
    assert (said.out, said.err) == ("", "")
    assert seen == [2, 2]
    assert "devices is 0" in run(*command, 0, status=2).error


def test_a_training_on_all_images_keeps_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    report = TrainingReport(tmp_path, 2, {"epoch": 2, "train_loss": 0.5}, ())
    monkeypatch.setattr(dermfuse.training, "train", lambda *_, **__: report)
    command = ["train", "dc-mobilenetv1", "--data", "d", "--run", "r", "--set", "data.split=all"]
    said = run(*command, "--set", "train.schedule=cosine").out
    assert said.split()[:3] == ["last", "epoch", "training"]
    assert "Set train.schedule=cosine or data.split=source" in run(*command, status=2).error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train mobilenetv1 --run r --parts test", "--parts is given alone"),
        ("train mobilenetv1 --run r --predict p", "--predict is given alone"),
        ("train mobilenetv1 --run r --predict p --parts all", 'no part is called "all"'),
        ("train mobilenetv1 --run r --imagenet .", "random"),
        ("predict r --out p", "neither or both are given"),
        ("predict r --out p --split test --parts test", "or both are given"),
        ("predict r --out p --parts test --tta", "with other options"),
        ("predict . --out p --split test", "is no run folder"),
    ],
)
def test_what_contradicts_itself_or_is_missing_is_one_line(
    arguments: str,
    said: str,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in run(*arguments.split(), "--data", drawn, status=2).error
    assert not list(tmp_path.iterdir())
