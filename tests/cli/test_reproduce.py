import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.cli import main
from dermfuse.cli import reproduce as overview
from dermfuse.folders import NOTICE
from dermfuse.jobs import queue
from dermfuse.jobs.queue import Pace
from dermfuse.jobs.trainings import RunProgress
from dermfuse.reproduction import reproduce
from dermfuse.reproduction.outcome import Outcome, RunResult
from dermfuse.reproduction.reproduce import ReproductionReport, Request

RUNNING = RunProgress("dc-mobilenetv1-seed0", "running", 3, 50, 12.0, 564.0)
WAITING = RunProgress("[bold]", "waiting", 0, 50, None, None)
FAILED = RunProgress("unet-seed0", "failed", 0, 50, None, None, "no weights.")


def _outcome(*runs: RunResult) -> Outcome:
    return Outcome("data", 1, 5, 5, (), 50, {}, (), (), runs, {"a row": "no masks."}, ())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Request]:
    """The requests that reach the library, which answers with a run that failed."""
    requests: list[Request] = []

    def answer(request: Request, *, watch: Any, stage: Any, **_: Any) -> ReproductionReport:
        requests.append(request)
        stage("training 1 runs", 1, 3)
        watch([RUNNING, FAILED])
        run = RunResult("unet-seed0", "unet", 0, "failed", 0, 0.0, "", "no weights.")
        return ReproductionReport(tmp_path / "report.html", _outcome(run), failed=1)

    monkeypatch.setattr(reproduce, "reproduce", answer)
    return requests


def test_options_reach_the_library_and_a_failed_run_exits_with_three(
    asked: list[Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "--data", "d", "--out", str(tmp_path), "--tables", "III, V"]
    arguments += ["--seeds", "3", "--folds", "0", "--jobs", "2", "--set", "train.epochs=3"]
    arguments += ["--no-blind", "--deadline", "30", "--minimum-learning-rate", "2e-6"]
    assert main(arguments) == 3
    request = asked[0]
    assert (request.tables, request.seeds, request.folds, request.jobs) == (["III", "V"], 3, 0, 2)
    assert request.overrides == ("train.epochs=3",)
    assert (request.blind, request.minutes, request.minimum_learning_rate) == (False, 30, 2e-6)
    captured = capsys.readouterr()
    assert "unet-seed0 failed: no weights." in captured.out
    assert "a row: no masks." in captured.out
    assert captured.out.endswith(NOTICE + "\n")
    assert "dc-mobilenetv1-seed0: running, epoch 3 of 50, 12.0 s an epoch" in captured.err
    assert "unet-seed0: failed, epoch 0 of 50: no weights." in captured.err


@pytest.mark.parametrize(("option", "is_drawn"), [("--figures", True), ("--no-figures", False)])
def test_figures_are_drawn_unless_they_are_left_out(
    option: str, is_drawn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artists: list[Any] = []

    def answer(*_: Any, draw: Any, **__: Any) -> ReproductionReport:
        artists.append(draw)
        return ReproductionReport(tmp_path / "report.html", _outcome(), failed=0)

    monkeypatch.setattr(reproduce, "reproduce", answer)
    main(["reproduce", "--data", "d", "--out", str(tmp_path), option])
    assert [artist is not None for artist in artists] == [is_drawn]


def test_json_is_one_object(
    asked: list[Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "--data", "d", "--out", str(tmp_path), "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["notice"] == NOTICE
    assert record["runs"][0]["error"] == "no weights."
    assert "leakage" in asked[0].tables
    assert asked[0].jobs is None
    assert "beyond" in asked[0].tables


def test_a_dry_run_writes_nothing(
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    out = tmp_path / "out"
    arguments = ["reproduce", "--data", str(drawn), "--out", str(out), "--tables", "V"]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "dc-densenet121-seed0-holdout" in said
    assert "4 runs: about" in said
    assert "Nothing was written." in said
    assert main([*arguments, "--dry-run", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4
    assert not out.exists()


def test_an_unknown_table_is_refused_with_the_nearest(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "--data", str(drawn), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--tables", "V,leekage"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'no table is called "leekage"' in error
    assert 'Did you mean "leakage"' in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "0"], '--jobs is "0". Expected: 1 or more, or auto'),
        (["--jobs", "all"], '--jobs is "all". Expected: 1 or more, or auto'),
        (["--deadline", "0"], "the deadline is 0 minutes. Expected: more than 0"),
        (["--deadline", "-1", "--dry-run"], "the deadline is -1 minutes. Expected: more than 0"),
        (["--deadline", "1e-5"], "a deadline of 1e-05 minutes leaves no time for one epoch"),
        (["--minimum-learning-rate=-1"], "train.minimum_learning_rate is -1.0. Expected"),
        (["--minimum-learning-rate", "nan"], "train.minimum_learning_rate is nan. Expected"),
    ],
)
def test_a_queue_that_cannot_be_is_one_line_and_nothing_is_written(
    options: list[str],
    message: str,
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    out = tmp_path / "out"
    arguments = ["reproduce", "--data", str(drawn), "--out", str(out), "--tables", "V"]
    assert main([*arguments, "--no-figures", *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not out.exists()


def test_what_a_deadline_left_is_told_and_exits_with_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> ReproductionReport:
        outcome = replace(_outcome(), failures={})
        return ReproductionReport(tmp_path / "report.html", outcome, failed=0, left=(WAITING,))

    monkeypatch.setattr(reproduce, "reproduce", answer)
    assert main(["reproduce", "--data", "d", "--out", str(tmp_path), "--deadline", "1"]) == 3
    said = capsys.readouterr().out
    assert "[bold]: 0 of 50 epochs are trained" in said
    assert "1 runs are left. The same command continues them." in said


def test_the_overview_shows_what_goes_first_and_what_is_left() -> None:
    from rich.console import Console

    table = overview.draw_overview([WAITING, FAILED, RUNNING], jobs=1)
    console = Console(width=100, record=True, file=None, markup=False)
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    assert "1 of 3 runs" in lines[0]
    names = [line for line in lines if "/50" in line]
    assert ["dc-mobilenetv1" in names[0], "no weights." in names[1], "[bold]" in names[2]] == [
        True,
        True,
        True,
    ]
    assert "9 min 24 s" in names[0]


def test_a_line_is_written_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with overview.watch_lines(1) as watch:
        watch([RUNNING, WAITING])
        watch([RUNNING, WAITING])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("left; all: 19 min 24 s left")
