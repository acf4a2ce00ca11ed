"""``dermfuse web``: the app that analyses images in a browser."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice

app = typer.Typer(help="The browser app: analysis that never leaves the device.")


@app.callback()
def root() -> None:
    """The browser app: analysis that never leaves the device."""


@app.command()
def build(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    release: Annotated[
        Path | None,
        typer.Option("--release", metavar="DIR", help="Networks of your own; else the package's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build the app as a static folder for any web server.

    Needs a source checkout and Node.js; what is built needs neither, and no Python.
    """
    from dermfuse.web.build import build_web

    with progress("Building the app"):
        built = build_web(out, release=release)
    if json:
        say_json(built.to_dict())
        return
    size, heavy = built.bytes / 1e6, built.heavy_bytes / 1e6
    say(
        f"{built.files} files, {size:.1f} MB ({heavy:.1f} MB networks and WebAssembly): {built.out}"
    )
    say("Any web server can serve them; docs/browser.md says which headers let it use threads.")
    say_notice()
