"""``dermfuse release``: from a plan and data to a release, in one command.

exit    3 where a training failed, or the deadline left some
"""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

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
from dermfuse.cli.extras import require_export_extra
from dermfuse.cli.models import Data
from dermfuse.cli.overview import Deadline, JobsOption, say_left, watch_lines, watch_live
from dermfuse.cli.releases import show_release

if TYPE_CHECKING:
    from dermfuse.shipping.make import MakeReport, MakeRequest, Prepared

NOT_ALL_TRAINED = 3


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(release)


def release(  # noqa: PLR0913 — an option each
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="shipped, h200, or a TOML file of your own.")
    ],
    *,
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write, or to go on with.")
    ],
    imagenet: Annotated[
        Path | None,
        typer.Option("--imagenet", metavar="DIR", help="ImageNet weights; else downloaded."),
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option("--leave-out", metavar="FILE", help="CSV of image_id,part not to be used."),
    ] = None,
    report_on: Annotated[
        list[Path] | None,
        typer.Option(
            "--report-on",
            metavar="DIR|CSV",
            help="Also measure these images alone: a folder, or a list of ids; may be repeated.",
        ),
    ] = None,
    jobs: JobsOption = None,
    deadline: Deadline = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, in which order, how long.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a plan's networks and make a release of them, with its card.

    Folds and the networks that ship are trained side by side, teachers first; what is finished in
    OUT/runs is reused and what was interrupted gone on with. Then they are exported, fused,
    calibrated and measured out of fold.
    """
    require_export_extra("dermfuse release")
    from dermfuse.jobs.capacity import parse_jobs
    from dermfuse.shipping.make import MakeRequest, make_release, prepare_release
    from dermfuse.shipping.plan import read_plan

    request = MakeRequest(
        plan=plan,
        data=data,
        out=out,
        imagenet=imagenet,
        leave_out=leave_out,
        report_on=report_on or (),
        jobs=parse_jobs(jobs),
        minutes=deadline,
    )
    read_plan(plan)  # what is no plan is refused before anything is timed
    with progress("Timing steps of each network") as advance:
        prepared = prepare_release(request, progress=advance)
    if dry_run:
        say_json(prepared.to_dict()) if json else _show_plan(prepared)
        return
    count = prepared.estimate.jobs
    with (watch_live if on_terminal() else watch_lines)(count) as watch:
        report = make_release(request, prepared=prepared, watch=watch, stage=announce_stage)
    say_json(report.to_dict()) if json else _show_report(report, request)
    if report.failed or report.left:
        raise typer.Exit(NOT_ALL_TRAINED)


def _show_plan(prepared: "Prepared") -> None:
    from dermfuse.jobs.progress import range_in_words

    rows = [
        (
            *(each.name, each.state, str(each.epochs)),
            range_in_words(each.seconds, each.most_seconds),
            each.basis,
        )
        for each in prepared.estimate.runs
    ]
    say_table(("run", "state", "epochs left", "time", "from"), rows)
    found, jobs = prepared.estimate, prepared.estimate.jobs
    time = range_in_words(found.seconds, found.most_seconds)
    side = f", {jobs} side by side" if jobs > 1 else ""
    say(
        f"{prepared.plan.name}: {len(rows)} runs, about {time} of"
        f" training{side}. Nothing was written."
    )
    say_notice()


def _show_report(report: "MakeReport", request: "MakeRequest") -> None:
    for run in report.failed:
        say(f"{run.name} failed: {run.error}")
    say_left(report.left)
    if report.release is None:
        if not report.left:
            say("Without them there is no release; the same command tries again.")
        say_notice()
        return
    for kind, path in report.written.items():
        say(f"{kind}: {path}")
    show_release(report.release, request.out / "release")
