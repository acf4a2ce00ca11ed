"""``dermfuse join, average``: many predictions folders as one."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice

if TYPE_CHECKING:
    from dermfuse.ensembles import EnsembleReport

Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Predictions folders.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for command in (join, average):
        app.command()(command)


def join(
    folders: Folders,
    *,
    out: Out,
    json: Json = False,
) -> None:
    """Join predictions of different images.

    Those of every fold of a cross-validation predict each image once, out of fold.
    """
    from dermfuse.ensembles import join as join_folders

    with progress("Joining"):
        report = join_folders(folders, out)
    _show(report, out, json=json)


def average(
    folders: Folders,
    *,
    out: Out,
    json: Json = False,
) -> None:
    """Average predictions of the same images.

    The unweighted mean of several folds, seeds or networks; masks need probability maps.
    """
    from dermfuse.ensembles import average as average_folders

    with progress("Averaging"):
        report = average_folders(folders, out)
    _show(report, out, json=json)


def _show(report: "EnsembleReport", out: Path, *, json: bool) -> None:
    if json:
        say_json({**report.to_dict(), "out": str(out)})
        return
    say(
        f"{report.image_count} predictions ({report.task}) from {report.folder_count} folders "
        f"lie in {out}."
    )
    say_notice()
