from pathlib import Path
from typing import Any

import pytest

import dermfuse.reproduction.demo
from dermfuse.cli import main
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import NOTICE
from dermfuse.reproduction.demo import LineReport, LineSettings

from ..small_release import write_small_release


def test_three_drawn_images_are_analysed_and_the_report_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = str(write_small_release(tmp_path / "release"))
    out = tmp_path / "out"
    assert main(["demo", "--out", str(out), "--release", release]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if ".jpg" in line and "%" in line]
    assert len(rows) == 3
    assert all("malignant" in row or "benign" in row for row in rows)
    assert f"Open in a browser: {out / 'report.html'}" in said
    assert said.endswith(NOTICE + "\n")
    assert len(list((out / "overlays").glob("*.png"))) == 6


def test_the_trained_demo_takes_no_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--train", "--release", "r", "--out", str(tmp_path / "out")]) == 2
    assert "--release with --train" in capsys.readouterr().err


def test_the_whole_line_prints_its_numbers_and_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, truth = tmp_path / "predictions", tmp_path / "truth"
    for folder, name, rows in (
        (predictions, "scores.csv", "image_id,score\na,0.1\nb,0.9\n"),
        (truth, "labels.csv", "image_id,label\na,0\nb,1\n"),
    ):
        folder.mkdir()
        (folder / name).write_text(rows)

    def run(out: Path, *, settings: LineSettings, stage: Any, draw: Any) -> LineReport:
        assert settings.seed == 3
        assert draw.keywords == {"data": tmp_path / "out" / "data"}
        stage("drawing synthetic images", 1, 9)
        evaluation = evaluate(predictions, truth, draws=10)
        return LineReport(out / "report.html", 61.2, {"fusion": evaluation})

    monkeypatch.setattr(dermfuse.reproduction.demo, "run_line", run)
    assert main(["demo", "--train", "--out", str(tmp_path / "out"), "--seed", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "[1/9] drawing synthetic images ...\n"
    assert "61 seconds. Open in a browser:" in captured.out
    assert any(line.split()[:3] == ["fusion", "AUC", "1.000"] for line in captured.out.splitlines())
    assert captured.out.endswith(NOTICE + "\n")
