from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dermfuse.cli import reproduce as overview
from dermfuse.folders import NOTICE
from dermfuse.jobs import queue
from dermfuse.jobs.queue import Pace
from dermfuse.jobs.trainings import RunProgress
from dermfuse.reproduction import reproduce
from dermfuse.reproduction.outcome import Outcome, RunResult
from dermfuse.reproduction.reproduce import ReproductionReport, Request

from .conftest import Run

RUNNING = RunProgress("dc-mobilenetv1-seed0", "running", 3, 50, 12.0, 564.0)
WAITING = RunProgress("[bold]", "waiting", 0, 50, None, None)
FAILED = RunProgress("unet-seed0", "failed", 0, 50, None, None, "no weights.")


class Library:
    """Stands in for the reproduction: keeps what it is asked, answers what the test sets."""

    def __init__(self, folder: Path) -> None:
        self.request: Request
        self.draw: Any
        self.page = folder / "report.html"
        self.failures: dict[str, str] = {}
        self.runs: tuple[RunResult, ...] = ()
        self.left: tuple[RunProgress, ...] = ()

    def __call__(
        self, request: Request, *, watch: Any, stage: Any, draw: Any, **_: Any
    ) -> ReproductionReport:
        self.request, self.draw = request, draw
        stage("training 1 runs", 1, 3)
        watch([RUNNING, FAILED])
        outcome = Outcome("data", 1, 5, 5, (), 50, {}, (), (), self.runs, self.failures, ())
        return ReproductionReport(self.page, outcome, failed=len(self.runs), left=self.left)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    found = Library(tmp_path)
    monkeypatch.setattr(reproduce, "reproduce", found)
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    return found


def test_options_reach_the_library_and_a_failed_run_exits_with_three(
    library: Library, tmp_path: Path, run: Run
) -> None:
    library.runs = (RunResult("unet-seed0", "unet", 0, "failed", 0, 0.0, "", "no weights."),)
    library.failures = {"a row": "no masks."}
    command = ["reproduce", "--data", "d", "--out", tmp_path]
    options = "--seeds 3 --folds 0 --jobs 2 --set train.epochs=3 --no-blind --deadline 30"
    options += " --minimum-learning-rate 2e-6 --no-figures"
    said = run(*command, "--tables", "III, V", *options.split(), status=3)
    asked = library.request
    assert (asked.tables, asked.seeds, asked.folds, asked.jobs) == (["III", "V"], 3, 0, 2)
    assert asked.overrides == ("train.epochs=3",)
    assert (asked.blind, asked.minutes, asked.minimum_learning_rate) == (False, 30, 2e-6)
    assert library.draw is None
    assert "unet-seed0 failed: no weights." in said.out
    assert "a row: no masks." in said.out
    assert said.out.endswith(NOTICE + "\n")
    assert "dc-mobilenetv1-seed0: running, epoch 3 of 50, 12.0 s an epoch" in said.err
    assert "unet-seed0: failed, epoch 0 of 50: no weights." in said.err

    record = run(*command, "--json", status=3).record
    assert record["runs"][0]["error"] == "no weights."
    assert {"leakage", "beyond"} <= set(library.request.tables)
    assert library.request.jobs is None
    assert library.draw is not None


def test_what_a_deadline_left_exits_with_three(library: Library, tmp_path: Path, run: Run) -> None:
    library.left = (WAITING,)
    reproduce = ["reproduce", "--data", "d", "--out", tmp_path, "--deadline", 1]
    said = run(*reproduce, status=3).out
    assert "[bold]: 0 of 50 epochs are trained" in said
    assert "1 runs are left. The same command continues them." in said


@pytest.mark.usefixtures("library")
def test_a_dry_run_writes_nothing(drawn: Path, tmp_path: Path, run: Run) -> None:
    dry = ["reproduce", "--data", drawn, "--out", tmp_path / "out", "--tables", "V", "--dry-run"]
    said = run(*dry).out
    assert "dc-densenet121-seed0-holdout" in said
    assert "4 runs: about" in said
    assert "Nothing was written." in said
    assert len(run(*dry, "--json").record["runs"]) == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--jobs 0", '--jobs is "0". Expected: 1 or more, or auto'),
        ("--jobs all", '--jobs is "all". Expected: 1 or more, or auto'),
        ("--deadline 0", "the deadline is 0 minutes. Expected: more than 0"),
        ("--deadline -1 --dry-run", "the deadline is -1 minutes. Expected: more than 0"),
        ("--deadline 1e-5", "a deadline of 1e-05 minutes leaves no time for one epoch"),
        ("--minimum-learning-rate=-1", "train.minimum_learning_rate is -1.0. Expected"),
        ("--minimum-learning-rate nan", "train.minimum_learning_rate is nan. Expected"),
        ("--tables V,leekage", 'no table is called "leekage"'),
        ("--tables V,leekage", 'Did you mean "leakage"'),
        ("--render reproduction.json", "--render and --data are given"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_nothing_is_written(
    options: str, said: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    out = tmp_path / "out"
    command = ["reproduce", "--data", drawn, "--out", out, "--tables", "V", "--no-figures"]
    assert said in run(*command, *options.split(), status=2).error
    assert not out.exists()


def test_data_or_a_report_must_be_given(tmp_path: Path, run: Run) -> None:
    error = run("reproduce", "--out", tmp_path / "out", status=2).error
    assert "neither --data nor --render" in error


def test_the_overview_shows_what_goes_first_and_what_is_left() -> None:
    console = Console(width=100, record=True, file=None, markup=False)
    with console.capture() as captured:
        console.print(overview.draw_overview([WAITING, FAILED, RUNNING], jobs=1))
    title, *lines = captured.get().splitlines()
    assert "1 of 3 runs" in title
    first, second, third = (line for line in lines if "/50" in line)
    assert "dc-mobilenetv1" in first
    assert "9 min 24 s" in first
    assert "no weights." in second
    assert "[bold]" in third


def test_a_line_is_written_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with overview.watch_trainings(1) as watch:
        watch([RUNNING, WAITING])
        watch([RUNNING, WAITING])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("left; all: 19 min 24 s left")
