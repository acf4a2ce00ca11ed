"""``dermfuse reproduce``: the whole paper, ours beside theirs.

exit    3 where a run failed, the deadline left some, or a row could not be measured, and the rest
        were reported
"""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import (
    announce_stage,
    on_terminal,
    progress,
    say,
    say_json,
    say_notice,
    say_table,
)
from dermfuse.cli.extras import require_figures_extra, require_train_extra
from dermfuse.cli.overview import Deadline, JobsOption, say_left, watch_lines, watch_live
from dermfuse.errors import ConfigError

if TYPE_CHECKING:
    from dermfuse.jobs.progress import RunProgress
    from dermfuse.reproduction.estimate import PlanEstimate
    from dermfuse.reproduction.outcome import Outcome
    from dermfuse.reproduction.reproduce import Draw

SOME_FAILED = 3


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(reproduce)


def reproduce(  # noqa: PLR0913 — an option each
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write, or to go on with.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="A dataset folder; several are joined."),
    ] = None,
    imagenet: Annotated[
        Path | None,
        typer.Option("--imagenet", metavar="DIR", help="ImageNet weights; else downloaded."),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            metavar="III,V,...", help="Of III to XI, leakage and beyond; all of them if left out."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often each row is trained.")] = 1,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Of the cross-validation, 0 for a hold-out split; 5 unless the test set has truth."
        ),
    ] = None,
    mask_folds: Annotated[
        int | None,
        typer.Option(help="The same for the networks that only outline; as --folds if left out."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET,...",
            help="Train these alone, patterns like dc-* too; report whatever is finished.",
        ),
    ] = None,
    jobs: JobsOption = None,
    deadline: Deadline = None,
    minimum_learning_rate: Annotated[
        float,
        typer.Option(help="End a run under the plateau rule once its rate is below this."),
    ] = 0.0,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[PRESET:]TABLE.KEY=VALUE",
            help="Change a setting of all presets, of one, or of those that a pattern like u-* "
            "fits; may be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, how long, how large.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing; report what is finished.")
    ] = False,
    blind: Annotated[
        bool,
        typer.Option(help="Predict the test split for scoring elsewhere where it has no truth."),
    ] = True,
    figures: Annotated[
        bool, typer.Option(help="Draw Figs. 8 to 14 from the runs into the report.")
    ] = True,
    render: Annotated[
        Path | None,
        typer.Option(
            "--render",
            metavar="FILE",
            help="Write the report of a reproduction.json into a new folder; train nothing.",
        ),
    ] = None,
    summary: Annotated[
        list[Path] | None,
        typer.Option(
            "--summary",
            metavar="PAGE",
            help="Also put the summary between <!-- paper:begin --> and <!-- paper:end -->.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train and evaluate all that Tables III to XI need.

    The longest runs begin first. Finished runs in OUT are reused and interrupted ones gone on with.
    A run that fails is reported; the rest go on, and the exit status is 3.
    """
    if render is not None:
        if data:
            raise ConfigError("--render and --data are given", expected="one of them")
        from dermfuse.reproduction.documents import render_outcome

        _finish(*render_outcome(render, out), summary=summary or (), json=json)
        return
    if not data:
        raise ConfigError(
            "neither --data nor --render is given",
            expected="a dataset folder, or the reproduction.json of a report",
            action="Give one of them",
        )
    require_train_extra("dermfuse reproduce")
    if figures:
        require_figures_extra("dermfuse reproduce without --no-figures")
    from dermfuse.jobs.capacity import parse_jobs
    from dermfuse.reproduction.plan import CHOICES
    from dermfuse.reproduction.reproduce import Request, plan_request
    from dermfuse.reproduction.reproduce import reproduce as reproduce_paper

    request = Request(
        data=data,
        out=out,
        imagenet=imagenet,
        tables=CHOICES if tables is None else _names(tables),
        seeds=seeds,
        folds=folds,
        mask_folds=mask_folds,
        only=_names(only) if only else (),
        overrides=tuple(assignments or ()),
        jobs=parse_jobs(jobs),
        minutes=deadline,
        minimum_learning_rate=minimum_learning_rate,
        blind=blind,
    )
    if dry_run:
        from dermfuse.reproduction.estimate import estimate

        with progress("Timing steps of each network") as advance:
            plan = plan_request(request)
            plan = replace(plan, runs=plan.runs_to_train(request.only))
            found = estimate(
                plan, request.place, jobs=request.jobs, minutes=deadline, progress=advance
            )
        say_json(found.to_dict()) if json else _show_estimate(found)
        return
    with (watch_live if on_terminal() else watch_lines)() as watch:
        report = reproduce_paper(
            request,
            watch=watch,
            stage=announce_stage,
            draw=_artist(data) if figures else None,
            report_only=report_only,
        )
    _finish(report.outcome, report.page, summary=summary or (), left=report.left, json=json)
    if report.failed or report.left or report.outcome.failures:
        raise typer.Exit(SOME_FAILED)


def _finish(
    outcome: "Outcome",
    page: Path,
    *,
    summary: Sequence[Path],
    left: "Sequence[RunProgress]" = (),
    json: bool,
) -> None:
    from dermfuse.report.markdown import replace_block
    from dermfuse.reproduction.summary import render_block

    for place in summary:
        replace_block(place, "paper", render_block(outcome))
    say_json(outcome.to_dict()) if json else _show_report(outcome, page, left)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _artist(data: list[Path]) -> "Draw":
    from dermfuse.figures.gather import draw_figures

    return partial(draw_figures, data=data)


def _show_estimate(found: "PlanEstimate") -> None:
    from dermfuse.jobs.progress import range_in_words

    rows = [
        (
            *(each.name, each.state, str(each.epochs)),
            range_in_words(each.seconds, each.most_seconds),
            each.basis,
        )
        for each in found.runs
    ]
    say_table(("run", "state", "epochs left", "time", "from"), rows)
    time = range_in_words(found.seconds, found.most_seconds)
    side = f", {found.jobs} side by side" if found.jobs > 1 else ""
    say(
        f"{len(found.runs)} runs: about {time} of training{side}, "
        f"{found.disk_mb / 1000:.1f} GB. Nothing was written."
    )
    say_notice()


def _show_report(outcome: "Outcome", page: Path, left: "Sequence[RunProgress]") -> None:
    from dermfuse.reproduction.words import say_leakage
    from dermfuse.reproduction.words import say_table as say_in_words

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
    say_notice()
