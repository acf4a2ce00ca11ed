"""``dermfuse card``: the model card of a release."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice
from dermfuse.errors import ConfigError

_BLOCK = "release"


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(card)


def card(
    *,
    release: Annotated[
        Path | None,
        typer.Option("--release", metavar="DIR", help="A release folder; else the package's."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A dataset folder it was trained on, to count images and skin tones, repeatable; "
            "or the JSON of an earlier card.",
        ),
    ] = None,
    stress: Annotated[
        Path | None,
        typer.Option("--stress", metavar="FILE", help="The stress.json of: dermfuse stress."),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", metavar="FILE", help="The JSON of: dermfuse bench analyze."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .md file; its content as .json beside it."),
    ] = None,
    summary: Annotated[
        list[Path] | None,
        typer.Option(
            "--summary",
            metavar="PAGE",
            help="Replace the release's table in this page; repeatable.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the model card of a release: every number from a file, the rest "not measured".

    Without --out it is printed.
    """
    from dermfuse.card import (
        CardSources,
        gather_card,
        render_card,
        render_summary,
        write_card_page,
    )
    from dermfuse.report.markdown import replace_block

    if out and out.suffix.lower() != ".md":
        raise ConfigError(f"--out is {out}", expected="the name of a .md file")
    sources = CardSources(release=release, data=data or None, stress=stress, bench=bench)
    with progress("Reading") as advance:
        content = gather_card(sources, progress=advance)
    beside = write_card_page(content, out) if out else None
    for page in summary or ():
        replace_block(page, _BLOCK, render_summary(content))
    if json:
        say_json(content.to_dict())
    elif beside:
        say(f"The card lies in {out}, what it was made from in {beside}.")
        say_notice()
    elif summary:
        say(f"The table stands in {', '.join(map(str, summary))}.")
        say_notice()
    else:
        say(render_card(content).rstrip())
