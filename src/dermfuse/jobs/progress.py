"""How far a run has come, read from its folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermfuse.errors import DermfuseError
from dermfuse.jobs.run import Run
from dermfuse.runs import RunFolder

State = Literal["waiting", "running", "trained", "reused", "failed"]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One run of the overview.

    Attributes:
        name: Of the run.
        state: ``reused`` was finished before; ``waiting`` may be half done.
        epoch: Whole epochs that are trained.
        epochs: That it is to train.
        seconds_per_epoch: Mean so far; None before the end of the first.
        seconds_left: What is left at that rate; None where it is not known, 0 at the end.
        error: Why it failed, in one line; of a waiting run, why it did when it was last tried.
    """

    name: str
    state: State
    epoch: int
    epochs: int
    seconds_per_epoch: float | None
    seconds_left: float | None
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("trained", "reused", "failed")


def read_progress(
    run: Run, folder: Path, *, state: State, since: float | None = None
) -> RunProgress:
    """Returns how far a run folder has come.

    Args:
        run: What is trained in it.
        folder: The run folder; it may not be there yet.
        state: As the process that trains it says.
        since: When that process began, in seconds of ``time.time``.
    """
    files = RunFolder(folder)
    epoch, seconds, error = 0, 0.0, ""
    try:
        record = files.read_record() if files.record.is_file() else {}
        epoch, seconds = int(record.get("epochs", 0)), float(record.get("seconds", 0.0))
        if state == "waiting" and record.get("status") == "failed":
            error = str(record.get("error", ""))
    except (DermfuseError, TypeError, ValueError):
        pass  # a folder that is no run's is the training's to refuse
    epochs = run.config.train.epochs
    rate = seconds / epoch if epoch and seconds else None
    over = state in ("trained", "reused")
    left: float | None = 0.0 if over else None
    if not over and rate is not None and state != "failed":
        left = rate * max(epochs - epoch, 0)
        if since is not None and files.record.is_file():
            spent = time.time() - max(since, files.record.stat().st_mtime)
            left = max(left - spent, 0.0)
    return RunProgress(run.name, state, epoch, epochs, rate, left, error)


def seconds_left(runs: Sequence[RunProgress], *, jobs: int) -> float | None:
    """Returns what is left of all runs, ``jobs`` side by side; None where too little is known.

    A run whose rate is not known yet is taken to need as long as the mean of those known.
    """
    open_runs = [run for run in runs if not run.is_over]
    totals = [r.seconds_per_epoch * r.epochs for r in runs if r.seconds_per_epoch]
    if not open_runs:
        return 0.0
    if not totals:
        return None
    mean = sum(totals) / len(totals)
    left = [mean if run.seconds_left is None else run.seconds_left for run in open_runs]
    return max(*left, sum(left) / jobs)


def duration_in_words(seconds: float) -> str:
    """Returns a duration in at most two units.

    Example:
        >>> duration_in_words(59), duration_in_words(3 * 3600 + 120)
        ('59 s', '3 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((i for i, (value, _) in enumerate(parts) if value), 3)
    shown = [(value, unit) for value, unit in parts[first : first + 2] if value]
    return " ".join(f"{value} {unit}" for value, unit in shown) or "0 s"


def range_in_words(least: float, most: float) -> str:
    """Returns a range of durations, or one of them where both are the same in words.

    Example:
        >>> range_in_words(3600, 5400), range_in_words(61.2, 61.4)
        ('1 h to 1 h 30 min', '1 min 1 s')
    """
    words = [duration_in_words(seconds) for seconds in (least, most)]
    return words[0] if words[0] == words[1] else " to ".join(words)
