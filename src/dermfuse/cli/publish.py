"""``dermfuse submit, tabulate``: what leaves the machine that trained."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice
from dermfuse.cli.extras import require_train_extra
from dermfuse.runs import NOTICE

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command()(submit)
    app.command()(tabulate)


def submit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    *,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    tta: Annotated[
        bool, typer.Option("--tta", help="Mean over the square's eight symmetries; 8 x as slow.")
    ] = False,
    json: _Json = False,
) -> None:
    """Predict the test split and pack the predictions for scoring elsewhere."""
    require_train_extra("dermfuse submit")
    from dermfuse.training.submission import submit as submit_run

    with progress("Predicting") as advance:
        report = submit_run(run, data=data, out=out, tta=tta, progress=advance)
    if json:
        say_json(report.to_dict())
        return
    say(f"{report.images} test images ({report.task}), {report.size_mb} MB, lie in {out}.")
    say_notice()


def tabulate(
    predictions: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Predictions folders, a row each.")
    ],
    *,
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="Labels and masks.")],
    write: Annotated[
        list[Path] | None,
        typer.Option("--write", metavar="PAGE", help="Replace the table in this page; repeatable."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Draws of the bootstrap.")] = 2000,
    json: _Json = False,
) -> None:
    """Print a Markdown table of measured numbers, or write it into pages."""
    from dermfuse.tabulation import measure, render_tables, write_tables

    with progress("Evaluating"):
        measured = measure(predictions, truth=truth, draws=draws)
    tables = render_tables(measured)
    for page in write or ():
        write_tables(page, tables)
    if json:
        say_json({"results": [each.report.to_dict() for each in measured], "notice": NOTICE})
        return
    say(tables)
    say_notice()
