"""Trainings side by side: the options of their queue, and how far they are, as they go.

That is a table on a terminal and lines elsewhere.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dermfuse.cli.console import say, say_progress

if TYPE_CHECKING:
    from dermfuse.jobs.progress import RunProgress

JobsOption = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        metavar="N|auto",
        help="Trainings side by side; auto (the default on a GPU): one per core, up to what fits"
        " the memory.",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="MINUTES",
        help="End training at the last whole epoch then; the same command goes on.",
    ),
]
Watch = Callable[["Sequence[RunProgress]"], None]

_MOST_ROWS = 20
_ORDER = ("running", "failed", "waiting", "trained", "reused")


@contextmanager
def watch_live(jobs: int | None = None) -> Iterator[Watch]:
    """Yields a callback that redraws a table of the runs on standard error.

    Args:
        jobs: Trainings side by side, for the time that is left; None for those that are going.
    """
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda runs: live.update(draw_overview(runs, jobs=jobs))


@contextmanager
def watch_lines(jobs: int | None = None) -> Iterator[Watch]:
    """Yields a callback that writes a line for every epoch that ends and every run that does."""
    last: dict[str, tuple[str, int]] = {}

    def watch(runs: "Sequence[RunProgress]") -> None:
        for run in runs:
            now = run.state, run.epoch
            if run.state != "waiting" and last.get(run.name) != now:
                left = _left(runs, jobs)
                say_progress(f"{say_run(run)}{f'; all: {left}' if left else ''}")
                sys.stderr.flush()
            last[run.name] = now

    yield watch


def say_run(run: "RunProgress") -> str:
    """Returns one run in a line."""
    parts = [f"{run.name}: {run.state}", f"epoch {run.epoch} of {run.epochs}"]
    parts += [f"{run.seconds_per_epoch:.1f} s an epoch"] if run.seconds_per_epoch else []
    parts += [f"{_duration(run.seconds_left)} left"] if run.seconds_left else []
    return ", ".join(parts) + (f": {run.error}" if run.error else "")


def say_left(runs: "Sequence[RunProgress]") -> None:
    """Writes how far the runs are that a deadline left, as a part of the result."""
    for run in runs:
        say(f"{run.name}: {run.epoch} of {run.epochs} epochs are trained")
    if runs:
        say(f"{len(runs)} runs are left. The same command goes on with them.")


def draw_overview(runs: "Sequence[RunProgress]", *, jobs: int | None) -> Table:
    """Returns the table: what goes first, then what failed, what waits and what is done."""
    done = sum(run.is_over for run in runs)
    left = _left(runs, jobs)
    table = Table(
        title=f"{done} of {len(runs)} runs{f', {left}' if left else ''}", title_justify="left"
    )
    for name in ("run", "state", "epoch", "s / epoch", "left"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    ordered = sorted(runs, key=lambda run: _ORDER.index(run.state))
    for run in ordered[:_MOST_ROWS]:
        rate = f"{run.seconds_per_epoch:.1f}" if run.seconds_per_epoch else ""
        time_left = "" if run.seconds_left is None else _duration(run.seconds_left)
        cells = (run.name, run.error or run.state, f"{run.epoch}/{run.epochs}", rate, time_left)
        table.add_row(*(Text(cell) for cell in cells))
    if len(ordered) > _MOST_ROWS:
        table.add_row(Text(f"and {len(ordered) - _MOST_ROWS} more"))
    return table


def _left(runs: "Sequence[RunProgress]", jobs: int | None) -> str:
    from dermfuse.jobs.progress import seconds_left  # noqa: PLC0415 — keeps --help fast

    going = sum(run.state == "running" for run in runs)
    seconds = seconds_left(runs, jobs=jobs or max(going, 1))
    return "" if not seconds else f"{_duration(seconds)} left"


def _duration(seconds: float) -> str:
    from dermfuse.jobs.progress import duration_in_words  # noqa: PLC0415

    return duration_in_words(seconds)
