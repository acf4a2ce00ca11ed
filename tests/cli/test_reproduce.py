from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dermfuse.cli import reproduce as overview
from dermfuse.reproduction import reproduce
from dermfuse.reproduction.outcome import Outcome, RunResult
from dermfuse.reproduction.reproduce import ReproductionReport, Request
from dermfuse.training import queue
from dermfuse.training.jobs import RunProgress
from dermfuse.training.queue import Pace

from .conftest import Run

RUNNING = RunProgress("dc-mobilenetv1-seed0", "running", 3, 50, 12.0, 564.0)
WAITING = RunProgress("[bold]", "waiting", 0, 50, None, None)
FAILED = RunProgress("unet-seed0", "failed", 0, 50, None, None, "no weights.")
RESULT = RunResult("unet-seed0", "unet", 0, "failed", 0, 0.0, "", "no weights.")


@dataclass
class Reproduction:
    """Stands in for the reproduction: what it is asked for, and how it ends."""

    failures: dict[str, str] = field(default_factory=lambda: {"a row": "no masks."})
    failed: int = 1
    left: tuple[RunProgress, ...] = (WAITING,)
    asked: list[tuple[Request, Any]] = field(default_factory=list)

    def __call__(
        self, request: Request, *, watch: Any, stage: Any, draw: Any, **_: Any
    ) -> ReproductionReport:
        self.asked.append((request, draw))
        stage("training 1 runs", 1, 3)
        watch([RUNNING, FAILED])
        outcome = Outcome("data", 1, 5, 5, (), 50, {}, (), (), (RESULT,), self.failures, ())
        return ReproductionReport(Path("report.html"), outcome, self.failed, self.left)


def test_options_reach_the_library_and_what_failed_or_is_left_is_said(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    answer = Reproduction()
    monkeypatch.setattr(reproduce, "reproduce", answer)
    options = "--tables 'III, V' --seeds 3 --folds 0 --jobs 2 --set train.epochs=3 --no-blind"
    options += " --deadline 30 --minimum-learning-rate 2e-6 --no-figures"
    said = run("reproduce --data d --out o", options, status=3)
    ((request, draw),) = answer.asked
    assert (request.tables, request.seeds, request.folds) == (["III", "V"], 3, 0)
    assert (request.jobs, request.overrides) == (2, ("train.epochs=3",))
    assert (request.blind, request.minutes, request.minimum_learning_rate) == (False, 30, 2e-6)
    assert draw is None
    for line in (
        "unet-seed0 failed: no weights.",
        "a row: no masks.",
        "[bold]: 0 of 50 epochs are trained",
        "1 runs are left. The same command continues them.",
    ):
        assert line in said.out.splitlines()
    assert "dc-mobilenetv1-seed0: running, epoch 3 of 50, 12.0 s an epoch" in said.err
    assert "unet-seed0: failed, epoch 0 of 50: no weights." in said.err

    assert run("reproduce --data d --out o --json", status=3).record["runs"][0]["error"]
    request, draw = answer.asked[-1]
    assert {"leakage", "beyond"} <= set(request.tables)
    assert request.jobs is None
    assert draw is not None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Reproduction({}, 0, ()), 0),
        (Reproduction(failed=0, left=()), 3),
        (Reproduction({}, left=()), 3),
        (Reproduction({}, failed=0), 3),
    ],
)
def test_whatever_failed_or_is_left_alone_exits_with_three(
    answer: Reproduction, status: int, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(reproduce, "reproduce", answer)
    run("reproduce --data d --out o --no-figures", status=status)


def test_a_dry_run_and_too_short_a_deadline_write_nothing(
    room: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    command = "reproduce --data data --out out --tables V --no-figures"
    said = run(command, "--dry-run").out
    for part in ("dc-densenet121-seed0-holdout", "4 runs: about", "Nothing was written."):
        assert part in said
    assert len(run(command, "--dry-run --json").record["runs"]) == 4
    error = run(command, "--deadline 1e-5", status=2).err
    assert "a deadline of 1e-05 minutes leaves no time for one epoch" in error
    assert not (room / "out").exists()


def test_the_overview_shows_what_goes_first_and_what_is_left() -> None:
    console = Console(width=100, record=True, file=None, markup=False)
    with console.capture() as captured:
        console.print(overview.draw_overview([WAITING, FAILED, RUNNING], jobs=1))
    title, *lines = captured.get().splitlines()
    assert "1 of 3 runs" in title
    shown = [line for line in lines if "/50" in line]
    for line, said in zip(shown, ("9 min 24 s", "no weights.", "[bold]"), strict=True):
        assert said in line


def test_a_line_is_written_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with overview.watch_trainings(1) as watch:
        watch([RUNNING, WAITING])
        watch([RUNNING, WAITING])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("left; all: 19 min 24 s left")
