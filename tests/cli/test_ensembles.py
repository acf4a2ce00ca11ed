import json
from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.folders import NOTICE
from dermfuse.predictions.scores import read_scores


def scored(folder: Path, rows: str) -> str:
    folder.mkdir()
    (folder / "scores.csv").write_text(f"image_id,score\n{rows}\n")
    return str(folder)


def test_folds_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds = [scored(tmp_path / name, f"{name},0.5") for name in "abc"]
    assert main(["join", *folds, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "3 predictions (classification) from 3 folders lie in" in out
    assert out.endswith(NOTICE + "\n")
    assert read_scores(tmp_path / "out" / "scores.csv").image_ids == ("a", "b", "c")


def test_an_average_is_one_json_object_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [scored(tmp_path / name, f"x,{score}") for name, score in (("a", 0.25), ("b", 0.75))]
    assert main(["average", *seeds, "--out", str(tmp_path / "out"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["kind"], record["folder_count"]) == ("average", 2)
    assert record["notice"] == NOTICE
    assert read_scores(tmp_path / "out" / "scores.csv").scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("command", "said"), [("join", "x: predicted in"), ("average", "y: predicted in")]
)
def test_folders_that_do_not_fit_are_one_line(
    command: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = scored(tmp_path / "a", "x,0.5"), scored(tmp_path / "b", "x,0.5\ny,0.5")
    assert main([command, a, b, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
