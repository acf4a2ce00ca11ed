"""``dermfuse submit, convert, tabulate, ablate``: what leaves the machine that trained."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice
from dermfuse.cli.extras import require_train_extra
from dermfuse.cli.results import Truth
from dermfuse.errors import ConfigError
from dermfuse.runs import NOTICE

if TYPE_CHECKING:
    from dermfuse.packing import SubmissionReport

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command()(submit)
    app.command()(convert)
    app.command()(tabulate)
    app.command()(ablate)


def submit(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run, or results of analyze.")
    ],
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="A dataset folder, for a run; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    tta: Annotated[
        bool, typer.Option("--tta", help="Mean over the square's eight symmetries; 8 x as slow.")
    ] = False,
    json: _Json = False,
) -> None:
    """Pack predictions for scoring elsewhere: a run's of the test split, or analyze's results."""
    report = _submit_run(run, data, out, tta=tta) if data else _pack_results(run, out)
    if json:
        say_json(report.to_dict())
        return
    say(f"{report.images} images ({report.task}), {report.size_mb} MB, lie in {out}.")
    say_notice()


def _submit_run(run: Path, data: list[Path], out: Path, *, tta: bool) -> "SubmissionReport":
    require_train_extra("dermfuse submit")
    from dermfuse.training.submission import submit as submit_run

    with progress("Predicting") as advance:
        return submit_run(run, data=data, out=out, tta=tta, progress=advance)


def _pack_results(results: Path, out: Path) -> "SubmissionReport":
    from dermfuse.analysis.conversion import pack_results
    from dermfuse.runs import RunFolder

    if RunFolder(results).is_run:
        raise ConfigError(
            f"{results} is a run, and no dataset is given",
            expected="the dataset whose test images it shall predict",
            action="Add --data DIR",
        )
    return pack_results(results, out)


def convert(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="What analyze wrote.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
) -> None:
    """Turn results of analyze into predictions, for evaluate, compare and fuse."""
    from dermfuse.analysis.conversion import convert_results

    manifest = convert_results(results, out)
    say(f"Predictions ({manifest.task}; {manifest.source}) lie in {out}.")
    if manifest.withheld:
        say(
            f"{len(manifest.withheld)} images were withheld and have none; evaluate counts the "
            "malignant ones as missed in a second sensitivity, the other commands refuse them"
        )
    say_notice()


def tabulate(
    predictions: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Predictions folders, a row each.")
    ],
    *,
    truth: Truth,
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


def ablate(
    steps: Annotated[
        list[str],
        typer.Argument(metavar="NAME=DIR...", help="Predictions folders, the baseline first."),
    ],
    *,
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="Labels and masks.")],
    within: Annotated[
        Path | None,
        typer.Option("--within", metavar="DIR", help="Only images that this folder knows, too."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="PAGE", help="Replace the table in this page.")
    ] = None,
    block: Annotated[str, typer.Option(help="Which table of the page.")] = "ablation",
    draws: Annotated[int, typer.Option("--draws", help="Draws of the bootstrap.")] = 2000,
    json: _Json = False,
) -> None:
    """Print what each step of a recipe gains over the one before, on the same images."""
    from dermfuse.ablation import measure_steps, render_ablation
    from dermfuse.report.markdown import replace_block

    named = [_named_folder(step) for step in steps]
    with progress("Comparing"):
        found = measure_steps(named, truth, within=within, draws=draws)
    if write:
        replace_block(write, block, render_ablation(found))
    if json:
        say_json(found.to_dict())
        return
    say(render_ablation(found))
    say_notice()


def _named_folder(step: str) -> tuple[str, Path]:
    name, equals, folder = step.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f'"{step}" names no step', expected="NAME=DIR, DIR a predictions folder")
    return name, Path(folder)
