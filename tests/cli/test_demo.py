from pathlib import Path
from typing import Any

import pytest

import dermfuse.reproduction.demo
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.records.folders import NOTICE
from dermfuse.reproduction.demo import LineReport, LineSettings

from .conftest import Run


@pytest.mark.usefixtures("room")
def test_three_drawn_images_are_analysed_and_the_report_named(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    said = run("demo --release release --out", out).out
    rows = [line for line in said.splitlines() if ".jpg" in line and "%" in line]
    assert len(rows) == 3
    assert all("malignant" in row or "benign" in row for row in rows)
    assert f"Open in a browser: {out / 'report.html'}" in said
    assert said.endswith(NOTICE + "\n")
    assert len(list((out / "overlays").glob("*.png"))) == 6


def test_the_whole_line_prints_its_numbers_and_its_page(
    room: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    def run_line(out: Path, *, settings: LineSettings, stage: Any, draw: Any) -> LineReport:
        assert settings.seed == 3
        assert draw.keywords == {"data": out / "data"}
        stage("drawing synthetic images", 1, 9)
        report = evaluate(room / "a", room / "truth", draws=10)
        return LineReport(out / "report.html", 61.2, {"fusion": report})

    monkeypatch.setattr(dermfuse.reproduction.demo, "run_line", run_line)
    said = run("demo --train --out o --seed 3")
    assert said.err == "[1/9] drawing synthetic images ...\n"
    assert "61 seconds. Open in a browser:" in said.out
    assert any(line.split()[:3] == ["fusion", "AUC", "1.000"] for line in said.out.splitlines())
    assert said.out.endswith(NOTICE + "\n")
