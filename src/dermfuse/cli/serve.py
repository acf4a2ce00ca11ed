"""``dermfuse serve`` and ``bench serve``: the networks of a release behind HTTP.

``dermfuse web``: the app that analyses images in a browser.
"""

import os
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.bench import bench_app, in_ratio
from dermfuse.cli.console import progress, require_serve_extra, say, say_json, say_notice, say_table
from dermfuse.cli.models import LooksOption, ReleaseFolder
from dermfuse.folders import core_count
from dermfuse.imaging.limits import MAX_PIXELS

if TYPE_CHECKING:
    from dermfuse.bench.browser import BrowserReport

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast


_HELD_UPLOADS = 10  # of the largest size, in memory at a time, those that arrive included


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command()(serve)
    bench_app.command("serve")(bench_serve)


def serve(  # noqa: PLR0913 — an option each
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Images side by side in each process; else by cores.")
    ] = None,
    release: ReleaseFolder = None,
    looks: LooksOption = None,
    app: Annotated[
        Path | None, typer.Option("--app", metavar="DIR", help="A built browser app, for /.")
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="/PATH", help="Under which a proxy shows the server.")
    ] = "",
    trusted_proxies: Annotated[
        str,
        typer.Option(metavar="ADDRESS,...", help="Whose X-Forwarded-For and -Proto are believed."),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask for the token in it; or set DERMFUSE_TOKEN."),
    ] = None,
    max_mb: Annotated[float, typer.Option(help="Of one upload, in megabytes.")] = 25.0,
    max_pixels: Annotated[int, typer.Option(help="Of one image.")] = MAX_PIXELS,
    upload_seconds: Annotated[float, typer.Option(help="For an upload to arrive.")] = 30.0,
    analysis_seconds: Annotated[float, typer.Option(help="For an answer, with waiting.")] = 30.0,
    waiting: Annotated[int, typer.Option(min=0, help="Uploads that may wait, per process.")] = 32,
    connections: Annotated[int, typer.Option(min=1, help="Open at a time, per process.")] = 1_000,
) -> None:
    """Serve analyses over HTTP: POST /v1/analyze, /docs for the rest. Research only.

    No upload is stored. It ends on SIGTERM or Ctrl-C, after it has finished what it accepted.
    """
    require_serve_extra("dermfuse serve")
    from dermfuse.server.protocol import serve as run_server
    from dermfuse.server.routes import load_token
    from dermfuse.server.settings import Limits, ServerSettings

    upload_bytes = round(max_mb * 1_000_000)
    limits = Limits(
        upload_bytes=upload_bytes,
        held_bytes=_HELD_UPLOADS * upload_bytes,
        pixels=max_pixels,
        upload_seconds=upload_seconds,
        analysis_seconds=analysis_seconds,
        waiting=waiting,
        connections=connections,
    )
    settings = ServerSettings(
        release=release,
        looks=looks,
        threads=threads or max(1, core_count() // workers),
        limits=limits,
        token=load_token(token_file, os.environ),
        app=app,
        root_path=root_path,
        trusted_proxies=tuple(filter(None, map(str.strip, trusted_proxies.split(",")))),
    )

    def announce(address: str) -> None:
        say(f"Serving at {address}")
        say_notice()
        sys.stdout.flush()  # a pipe would keep it until the end

    run_server(settings, host=host, port=port, workers=workers, announce=announce)


def bench_serve(
    *,
    release: ReleaseFolder = None,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="Else drawn ones.")
    ] = None,
    requests: Annotated[int, typer.Option(help="Images that are sent.")] = 1_000,
    clients: Annotated[int, typer.Option(help="That send side by side.")] = 16,
    threads: Annotated[int, typer.Option(help="Of the server, and without it.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Images per second of a server, beside the Analyzer without one; they take turns."""
    require_serve_extra("dermfuse bench serve")
    from dermfuse.analysis.examples import example_images
    from dermfuse.bench.serving import bench_serving

    with progress("Measuring") as advance:
        report = bench_serving(
            images or example_images(),
            release=release,
            requests=requests,
            clients=clients,
            threads=threads,
            progress=advance,
        )
    if json:
        say_json(report.to_dict())
        return
    say_table(
        ("images per second", "server", "Analyzer alone", "ratio (range)"),
        [
            (
                f"{report.threads} threads",
                f"{report.images_per_second:.1f}",
                f"{report.bare_images_per_second:.1f}",
                f"{report.ratio:.2f} ({report.lowest_ratio:.2f} to {report.highest_ratio:.2f})",
            )
        ],
    )
    say(
        f"{report.requests} requests of {report.clients} clients on the same machine, "
        f"{report.errors} errors; half within {report.p50_seconds:.3f} s, 99 of 100 within "
        f"{report.p99_seconds:.3f} s."
    )
    if report.memory_mb:
        say(f"Memory after each turn: {', '.join(f'{each:.0f}' for each in report.memory_mb)} MB.")
    say_notice()


# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast


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
    from dermfuse.folders import write_json
    from dermfuse.report.page import replace_block

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
