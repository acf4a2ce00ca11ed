"""``dermfuse reproduce``: the whole paper, ours beside theirs; and how trainings are watched.

exit    3 where a run failed, the deadline left some, or a row could not be measured, and the rest
        were reported
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer import Option

from dermfuse.cli.console import (
    SOME_FAILED,
    announce_stage,
    finish,
    on_terminal,
    progress,
    require_extra,
    say,
    say_progress,
    say_table,
)
from dermfuse.cli.options import (
    Deadline,
    DryRun,
    Imagenet,
    Jobs,
    Json,
    MaybeData,
    Pages,
    ResumedOut,
    split_names,
)
from dermfuse.errors import ConfigError

if TYPE_CHECKING:
    from dermfuse.reproduction.outcome import Outcome
    from dermfuse.training.jobs import RunProgress
    from dermfuse.training.queue import Queue

Watch = Callable[["Sequence[RunProgress]"], None]

_MOST_ROWS = 20
_ORDER = ("running", "failed", "waiting", "trained", "reused")


def reproduce(
    *,
    out: ResumedOut,
    data: MaybeData = None,
    imagenet: Imagenet = None,
    tables: Annotated[
        str | None,
        Option(
            metavar="III,V,...", help="Of III to XI, leakage and beyond; all of them if left out."
        ),
    ] = None,
    seeds: Annotated[int, Option(help="How often each row is trained.")] = 1,
    folds: Annotated[
        int | None,
        Option(
            help="Of the cross-validation, 0 for a hold-out split; 5 unless the test set has truth."
        ),
    ] = None,
    mask_folds: Annotated[
        int | None,
        Option(help="The same for the networks that only outline; as --folds if left out."),
    ] = None,
    only: Annotated[
        str | None,
        Option(
            metavar="PRESET,...",
            help="Train these alone, patterns like dc-* too; report whatever is finished.",
        ),
    ] = None,
    jobs: Jobs = None,
    deadline: Deadline = None,
    minimum_learning_rate: Annotated[
        float, Option(help="End a run under the plateau rule once its rate is below this.")
    ] = 0.0,
    assignments: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="[PRESET:]TABLE.KEY=VALUE",
            help="Change a setting of all presets, of one, or of those that a pattern like u-* "
            "fits; may be repeated.",
        ),
    ] = None,
    dry_run: DryRun = False,
    report_only: Annotated[
        bool, Option("--report-only", help="Train nothing; report what is finished.")
    ] = False,
    blind: Annotated[
        bool, Option(help="Predict the test split for scoring elsewhere where it has no truth.")
    ] = True,
    figures: Annotated[
        bool, Option(help="Draw Figs. 8 to 14 from the runs into the report.")
    ] = True,
    render: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Write the report of a reproduction.json into a new folder; train nothing.",
        ),
    ] = None,
    summary: Pages = None,
    json: Json = False,
) -> None:
    """Train and evaluate all that Tables III to XI need.

    The longest runs begin first. Finished runs in OUT are reused and interrupted ones continued. A
    run that fails is reported, the rest are trained, and the exit status is 3.
    """
    if render is not None:
        if data:
            raise ConfigError("--render and --data are given", expected="one of them")
        from dermfuse.reproduction.page import render_outcome

        _finish(*render_outcome(render, out), summary=summary or (), json=json)
        return
    if not data:
        raise ConfigError(
            "neither --data nor --render is given",
            expected="a dataset folder, or the reproduction.json of a report",
            action="Give one of them",
        )
    require_extra("train", "dermfuse reproduce")
    if figures:
        require_extra("figures", "dermfuse reproduce without --no-figures")
    from dermfuse.reproduction.plan import CHOICES
    from dermfuse.reproduction.reproduce import Request, estimate, plan_request
    from dermfuse.reproduction.reproduce import reproduce as reproduce_paper
    from dermfuse.training.jobs import parse_jobs

    request = Request(
        data=data,
        out=out,
        imagenet=imagenet,
        tables=split_names(tables) or CHOICES,
        seeds=seeds,
        folds=folds,
        mask_folds=mask_folds,
        only=split_names(only or None),
        overrides=tuple(assignments or ()),
        jobs=parse_jobs(jobs),
        minutes=deadline,
        minimum_learning_rate=minimum_learning_rate,
        blind=blind,
    )
    if dry_run:
        with progress("Timing steps of each network") as advance:
            plan = plan_request(request)
            plan = replace(plan, runs=plan.runs_to_train(request.only))
            queue = estimate(plan, request, progress=advance)
        finish(queue.to_dict(), lambda: show_queue(queue), json=json)
        return
    draw = None
    if figures:
        from dermfuse.figures.gather import draw_figures

        draw = partial(draw_figures, data=data)
    with watch_trainings() as watch:
        report = reproduce_paper(
            request,
            watch=watch,
            stage=announce_stage,
            draw=draw,
            report_only=report_only,
        )
    _finish(report.outcome, report.page, summary=summary or (), left=report.left, json=json)
    if report.failed or report.left or report.outcome.failures:
        raise typer.Exit(SOME_FAILED)


@contextmanager
def watch_trainings(jobs: int | None = None) -> Iterator[Watch]:
    """Yields a callback that shows on standard error how far trainings are.

    On a terminal it redraws a table; elsewhere it writes a line for every epoch and every run that
    ends.

    Args:
        jobs: Trainings side by side, for the time that is left; None for those that run now.
    """
    if not on_terminal():
        yield partial(_say_changes, {}, jobs=jobs)
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda runs: live.update(draw_overview(runs, jobs=jobs))


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
        time = _duration(run.seconds_left)
        cells = (run.name, run.error or run.state, f"{run.epoch}/{run.epochs}", rate, time)
        table.add_row(*(Text(cell) for cell in cells))
    if len(ordered) > _MOST_ROWS:
        table.add_row(Text(f"and {len(ordered) - _MOST_ROWS} more"))
    return table


def say_left(runs: "Sequence[RunProgress]") -> None:
    """Writes how far the runs are that a deadline left, as a part of the result."""
    for run in runs:
        say(f"{run.name}: {run.epoch} of {run.epochs} epochs are trained")
    if runs:
        say(f"{len(runs)} runs are left. The same command continues them.")


def show_queue(queue: "Queue", *, head: str = "") -> None:
    """Prints what would be trained, in which order, how long, how large.

    Args:
        queue: The trainings.
        head: What they are for, in front of the last line.
    """
    from dermfuse.training.jobs import range_in_words

    rows = [
        (
            *(each.name, each.state, str(each.epochs)),
            range_in_words(each.seconds, each.most_seconds),
            each.basis,
        )
        for each in queue.estimates
    ]
    say_table(("run", "state", "epochs left", "time", "from"), rows)
    time = range_in_words(queue.seconds, queue.most_seconds)
    side = f", {queue.jobs} side by side" if queue.jobs > 1 else ""
    say(
        f"{head}{len(rows)} runs: about {time} of training{side}, "
        f"{queue.disk_mb / 1000:.1f} GB. Nothing was written."
    )


def _finish(
    outcome: "Outcome",
    page: Path,
    *,
    summary: Sequence[Path],
    left: "Sequence[RunProgress]" = (),
    json: bool,
) -> None:
    from dermfuse.report.page import replace_block
    from dermfuse.reproduction.page import render_block

    for place in summary:
        replace_block(place, "paper", render_block(outcome))
    finish(outcome.to_dict(), lambda: _show_report(outcome, page, left), json=json)


def _show_report(outcome: "Outcome", page: Path, left: "Sequence[RunProgress]") -> None:
    from dermfuse.reproduction.page import say_leakage
    from dermfuse.reproduction.page import say_table as say_in_words

    for table in outcome.tables:
        say(f"{table.number}: {table.title} ({table.measured_on})")
        for paragraph in say_in_words(table):
            say(f"  {paragraph}")
    for paragraph in say_leakage(outcome.leakage):
        say(f"leakage: {paragraph}")
    for run in outcome.runs:
        if run.state == "failed":
            say(f"{run.name} failed: {run.error}")
    for what, why in outcome.failures.items():
        say(f"{what}: {why}")
    say_left(left)
    say(f"Open in a browser: {page}")


def _say_changes(
    last: dict[str, tuple[str, int]], runs: "Sequence[RunProgress]", *, jobs: int | None
) -> None:
    """Writes a line for each run that is not as it was last time."""
    for run in runs:
        now = run.state, run.epoch
        if run.state != "waiting" and last.get(run.name) != now:
            left = _left(runs, jobs)
            say_progress(f"{_describe(run)}{f'; all: {left}' if left else ''}")
            sys.stderr.flush()
        last[run.name] = now


def _describe(run: "RunProgress") -> str:
    """Returns one run in a line."""
    parts = [f"{run.name}: {run.state}", f"epoch {run.epoch} of {run.epochs}"]
    parts += [f"{run.seconds_per_epoch:.1f} s an epoch"] if run.seconds_per_epoch else []
    parts += [f"{_duration(run.seconds_left)} left"] if run.seconds_left else []
    return ", ".join(parts) + (f": {run.error}" if run.error else "")


def _left(runs: "Sequence[RunProgress]", jobs: int | None) -> str:
    from dermfuse.training.jobs import seconds_left

    going = sum(run.state == "running" for run in runs)
    seconds = seconds_left(runs, jobs=jobs or max(going, 1))
    return f"{_duration(seconds)} left" if seconds else ""


def _duration(seconds: float | None) -> str:
    from dermfuse.training.jobs import duration_in_words

    return "" if seconds is None else duration_in_words(seconds)
