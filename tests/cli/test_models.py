import json
import re
from pathlib import Path
from typing import Any

import pytest

import dermfuse.training
from dermfuse.cli import console, main
from dermfuse.config import Config, load_preset, preset_names
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import NOTICE
from dermfuse.training import TrainingReport

from ..two_folders import IMAGES, LABELS, write_halves

QUICK = [
    "--set",
    "data.input_size=32",
    "--set",
    "train.epochs=1",
    "--set",
    "augment.enabled=false",
    "--set",
    "train.threads=1",
]


def test_presets_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == list(preset_names())
    assert lines[-1] == NOTICE


def test_presets_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["presets"]) == list(preset_names())
    assert main(["presets", "unet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["network"] == "unet_original"


def test_a_preset_is_printed_as_toml_that_makes_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import tomllib

    assert main(["presets", "dc-mobilenetv1"]) == 0
    mapping = tomllib.loads(capsys.readouterr().out)
    assert Config.from_mapping(mapping) == load_preset("dc-mobilenetv1")


def test_a_run_is_trained_resumed_and_predicted(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    train = ["train", "mobilenetv1", "--data", str(drawn), "--run", str(run), *QUICK]
    train += ["--set", "model.init=random"]
    assert main(train) == 0
    captured = capsys.readouterr()
    assert "1 epochs; the run lies in" in captured.out
    assert "average_precision" in captured.out
    assert captured.out.endswith(NOTICE + "\n")
    assert "Reading images" in captured.err

    assert main(train) == 2
    assert "exists and is not empty" in capsys.readouterr().err.splitlines()[-1]
    assert main([*train, "--set", "train.epochs=2", "--resume"]) == 0
    assert "2 epochs" in capsys.readouterr().out

    predict = ["predict", str(run), "--data", str(drawn), "--split", "test", "--out", str(out)]
    assert main(predict) == 0
    assert "6 predictions (classification) lie in" in capsys.readouterr().out
    assert evaluate(out, drawn, draws=10).classification is not None
    assert main([*predict[:-1], str(tmp_path / "tta"), "--tta"]) == 0
    assert evaluate(tmp_path / "tta", drawn, draws=10).source.endswith("mean of 8 symmetries")


def test_folders_are_joined_and_a_list_leaves_out(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = map(str, write_halves(drawn, tmp_path))
    run, out, listed = tmp_path / "run", tmp_path / "out", tmp_path / "list.csv"
    first = min((drawn / IMAGES).iterdir()).stem
    listed.write_text(f"image_id,part\n{first},label\n")
    train = ["train", "mobilenetv1", "--data", a, "--data", b, "--run", str(run), *QUICK]
    train += ["--set", "model.init=random", "--leave-out", str(listed)]
    assert main(train) == 0
    said = capsys.readouterr().out
    assert "10 images are in several folders (the file of a is used)" in said
    assert f"1 labels left out (named by list.csv): {first}" in said
    predict = ["predict", str(run), "--data", a, "--data", b, "--split", "validation"]
    assert main([*predict, "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--truth", a, "--truth", b, "--draws", "10"]) == 0


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
    damage: str, said: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_halves(drawn, tmp_path)
    listed = tmp_path / "list.csv"
    listed.write_text("image_id,part\n")
    shared = sorted((b / IMAGES).iterdir())[0]
    if damage == "label":
        text = (b / LABELS).read_text()
        swapped = {"benign": "malignant", "malignant": "benign"}
        lines = [line.split(",") for line in text.splitlines()]
        (b / LABELS).write_text("".join(f"{i},{swapped[label]}\n" for i, label in lines))
    elif damage == "pixels":
        shared.write_bytes(sorted((b / IMAGES).iterdir())[-1].read_bytes())
    elif damage == "group":
        (b / "groups.csv").write_text("image_id,lesion_group\nISIC_9899999,g\n")
    else:
        line = {"list": "ISIC_9899999,mask", "part": f"{shared.stem},masks"}[damage]
        listed.write_text(f"image_id,part\n{line}\n")
    train = ["train", "mobilenetv1", "--data", str(a), "--data", str(b), *QUICK]
    train += ["--set", "model.init=random", "--leave-out", str(listed)]
    assert main([*train, "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(said, error)
    assert error.startswith("dermfuse: error: ")
    assert not (tmp_path / "run").exists()


def test_of_several_processes_one_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = TrainingReport(tmp_path, 1, {"auc": 0.5}, ())
    seen: list[int] = []

    def train(config: Config, *, devices: int, **_: Any) -> TrainingReport:
        seen.append(devices)
        return report

    monkeypatch.setattr(dermfuse.training, "train", train)
    command = ["train", "unet", "--data", "d", "--run", "r", "--devices", "2"]
    assert main(command) == 0
    assert "1 epochs; the run lies in" in capsys.readouterr().out
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(command) == 0
    assert capsys.readouterr() == ("", "")
    assert seen == [2, 2]
    assert main([*command[:-1], "0"]) == 2
    assert "devices is 0" in capsys.readouterr().err


def test_predict_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict = ["predict", str(tmp_path), "--data", "d", "--split", "test", "--out", "o"]
    assert main(predict) == 2
    assert "is no run folder" in capsys.readouterr().err.splitlines()[-1]


def test_train_without_weights_says_how_to_get_them(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train = ["train", "mobilenetv1", "--data", str(drawn), "--run", str(run), *QUICK]
    assert main([*train, "--imagenet", str(tmp_path)]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("dermfuse: error: ")
    assert "random" in err
    assert not run.exists()


def test_the_only_bar_left_is_that_of_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.progress import Progress

    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    with console.progress("Reading images") as advance:
        advance(2, 2)
        with Progress():  # raises if another bar is still drawn
            pass
    assert "2/2" in capsys.readouterr().err


def test_a_training_on_all_images_is_said_to_keep_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = TrainingReport(tmp_path, 2, {"epoch": 2, "train_loss": 0.5}, ())
    monkeypatch.setattr(dermfuse.training, "train", lambda *_, **__: report)
    command = ["train", "dc-mobilenetv1", "--data", "d", "--run", "r", "--set", "data.split=all"]
    assert main([*command, "--set", "train.schedule=cosine"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["last", "epoch", "training"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Set train.schedule=cosine or data.split=source" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mobilenetv1", "--run", "r", "--parts", "test"], "--parts is given alone"),
        (["train", "mobilenetv1", "--run", "r", "--predict", "p"], "--predict is given alone"),
        (
            ["train", "mobilenetv1", "--run", "r", "--predict", "p", "--parts", "all"],
            'no part is called "all"',
        ),
        (["predict", "r", "--out", "p"], "neither or both are given"),
        (["predict", "r", "--out", "p", "--split", "test", "--parts", "test"], "or both are given"),
        (["predict", "r", "--out", "p", "--parts", "test", "--tta"], "with other options"),
    ],
)
def test_parts_that_contradict_other_options_are_one_line(
    arguments: list[str],
    message: str,
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--data", str(drawn)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_training_predicts_its_parts_and_predict_keeps_them(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "predicted"
    arguments = ["train", "mobilenetv1", "--data", str(drawn), "--run", str(run), *QUICK]
    arguments += ["--set", "model.init=random"]
    parts = ["--parts", "validation,test"]
    assert main([*arguments, "--predict", str(out), *parts]) == 0
    assert f"The test predictions lie in {out / 'test'}." in capsys.readouterr().out
    made = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")}
    assert {path.parent.name for path in made} == {"validation", "test"}
    assert main(["predict", str(run), "--data", str(drawn), "--out", str(out), *parts]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")} == made
