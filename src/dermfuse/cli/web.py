"""``dermfuse web``: the app that analyses images in a browser."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.bench import bench_app, in_ratio
from dermfuse.cli.console import progress, say, say_json, say_notice, say_table
from dermfuse.cli.models import ReleaseFolder

if TYPE_CHECKING:
    from dermfuse.bench.browser import BrowserReport

_BLOCK = "browser"

app = typer.Typer(help="The browser app: analysis that never leaves the device.")


@app.callback()
def root() -> None:
    """The browser app: analysis that never leaves the device."""


@app.command()
def build(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    release: ReleaseFolder = None,
    compiled: Annotated[
        Path | None,
        typer.Option("--compiled", metavar="DIR", help="What npm run build in web/ wrote."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build the app as a static folder for any web server.

    Needs a source checkout and Node.js, with --compiled neither. What is built needs no Python.
    """
    from dermfuse.web.build import build_web

    with progress("Building the app"):
        built = build_web(out, release=release, compiled=compiled)
    if json:
        say_json(built.to_dict())
        return
    size, heavy = built.bytes / 1e6, built.heavy_bytes / 1e6
    say(
        f"{built.files} files, {size:.1f} MB ({heavy:.1f} MB networks and WebAssembly): {built.out}"
    )
    say("Any web server can serve them; docs/browser.md says which headers let it use threads.")
    say_notice()


@bench_app.command("browser")
def bench_browser(
    *,
    release: ReleaseFolder = None,
    images: Annotated[int, typer.Option(help="So many are drawn.")] = 5,
    rounds: Annotated[int, typer.Option(help="How often either side does all of them.")] = 8,
    starts: Annotated[int, typer.Option(help="New browsers, for the first result.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the JSON object here.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option("--summary", metavar="PAGE", help="Replace the app's table in this page."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The browser app's size and speed in Chromium, beside the library.

    Builds the app and serves it on this machine. Needs Node.js and Chromium.
    """
    from dermfuse.bench.browser import BrowserOptions, render_browser
    from dermfuse.bench.browser import bench_browser as measure
    from dermfuse.report.markdown import replace_block
    from dermfuse.runs import write_json

    options = BrowserOptions(images=images, rounds=rounds, starts=starts)
    with progress("Measuring") as advance:
        report = measure(release, options=options, progress=advance)
    if out is not None:
        write_json(out, report.to_dict())
    if summary is not None:
        replace_block(summary, _BLOCK, render_browser(report))
    say_json(report.to_dict()) if json else _show_browser(report)


def _show_browser(report: "BrowserReport") -> None:
    from dermfuse.bench.browser import PARTS

    say_table(
        ("milliseconds per image", "threads", "median", "90 % below"),
        [
            (
                PARTS[name].words,
                str(side.threads),
                f"{clock.latency.milliseconds:.0f}",
                f"{clock.latency.percentile_90:.0f}",
            )
            for side in report.sides
            for name, clock in side.clocks.items()
        ],
    )
    say_table(
        ("speed beside the library's", "threads", "ratio (range)"),
        [
            (words, str(side.threads), in_ratio(found))
            for side in report.sides
            for words, found in side.beside_library.items()
        ],
    )
    for side in report.sides:
        seconds = side.first_result_seconds
        say(
            f"First result with {side.threads} threads, nothing kept: {median(seconds):.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f}, {len(seconds)} starts)."
        )
    say(
        f"{report.download_bytes / 1e6:.1f} MB are loaded once, not compressed. {report.release} "
        f"({report.precision}) on {report.data}, {report.rounds} rounds; Chromium "
        f"{report.browser} on {report.machine.cpu}, {report.machine.cores} cores."
    )
    say_notice()
