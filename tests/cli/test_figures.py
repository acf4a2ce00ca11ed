import json
from pathlib import Path

import pytest

from dermfuse.cli import console as extras
from dermfuse.cli import main
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.folders import NOTICE
from dermfuse.predictions.folder import Manifest, write_manifest


@pytest.fixture
def scores(drawn: Path, tmp_path: Path) -> Path:
    """Scores of the training images, all of them right."""
    folder = tmp_path / "scores"
    folder.mkdir()
    rows = [
        f"{lesion.image_id},{0.1 + 0.8 * int(lesion.label or 0)}"
        for lesion in load_isic2016(drawn, "train").lesions
    ]
    (folder / "scores.csv").write_text("\n".join(["image_id,score", *rows]) + "\n")
    write_manifest(folder, Manifest("classification", source="a", split="train"))
    return folder


def arguments(scores: Path, drawn: Path, out: Path) -> list[str]:
    return ["figures", str(scores), "--data", str(drawn), "--out", str(out), "--draws", "10"]


def test_figures_are_written_and_the_others_are_explained(
    scores: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(arguments(scores, drawn, out)) == 0
    captured = capsys.readouterr()
    assert f"{out / 'reliability.png'}  Reliability of the scores" in captured.out
    assert "Fig. 8 is not drawn: there is no run for classification" in captured.out
    assert captured.out.endswith(NOTICE + "\n")
    names = {path.name for path in out.iterdir()}
    assert names == {"reliability.png", "roc-and-recall.png", "decision-curve.png", "figures.json"}


def test_figures_as_json_is_what_is_written(
    scores: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*arguments(scores, drawn, out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "figures.json").read_text())


def test_a_folder_that_holds_something_is_refused_before_anything_is_drawn(
    scores: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(scores, drawn, scores)) == 2
    assert "the figures folder" in capsys.readouterr().err


def test_without_matplotlib_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert main(arguments(tmp_path, tmp_path, tmp_path / "out")) == 2
    assert "pip install -e '.[figures]'" in capsys.readouterr().err
