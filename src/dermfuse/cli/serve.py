"""``dermfuse serve``: a release behind HTTP. ``dermfuse web``: the app that runs in a browser."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from dermfuse.cli.console import finish, progress, require_extra, say, say_notice
from dermfuse.cli.options import Json, Looks, Out, ReleaseFolder, folder, split_names
from dermfuse.errors import ConfigError
from dermfuse.imaging.limits import MAX_PIXELS
from dermfuse.records.folders import core_count

_HELD_UPLOADS = 10  # of the largest size, in memory at a time, those that arrive included


def serve(
    *,
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65_535, help="0 for a free one.")] = 8000,
    workers: Annotated[int, Option(min=1, help="Processes.")] = 1,
    threads: Annotated[
        int | None, Option(min=1, help="Images side by side in each process; else by cores.")
    ] = None,
    release: ReleaseFolder = None,
    looks: Looks = None,
    app: Annotated[Path | None, folder("A built browser app, for /.")] = None,
    root_path: Annotated[
        str, Option(metavar="/PATH", help="Under which a proxy shows the server.")
    ] = "",
    trusted_proxies: Annotated[
        str, Option(metavar="ADDRESS,...", help="Whose X-Forwarded-For and -Proto are believed.")
    ] = "",
    token_file: Annotated[
        Path | None, Option(metavar="FILE", help="Ask for the token in it; or set DERMFUSE_TOKEN.")
    ] = None,
    max_mb: Annotated[float, Option(help="Of one upload, in megabytes.")] = 25.0,
    max_pixels: Annotated[int, Option(help="Of one image.")] = MAX_PIXELS,
    upload_seconds: Annotated[float, Option(help="For an upload to arrive.")] = 30.0,
    analysis_seconds: Annotated[float, Option(help="For an answer, with waiting.")] = 30.0,
    waiting: Annotated[int, Option(min=0, help="Uploads that may wait, per process.")] = 32,
    connections: Annotated[int, Option(min=1, help="Open at a time, per process.")] = 1_000,
) -> None:
    """Serve analyses over HTTP: POST /v1/analyze, /docs for the rest. Research only.

    No upload is stored. It ends on SIGTERM or Ctrl-C, after it has finished what it accepted.
    """
    require_extra("serve", "dermfuse serve")
    from dermfuse.server.protocol import serve as run_server
    from dermfuse.server.settings import Limits, ServerSettings, load_token

    if not math.isfinite(max_mb):
        raise ConfigError(f"--max-mb is {max_mb}", expected="a number of megabytes")
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
        trusted_proxies=tuple(filter(None, split_names(trusted_proxies))),
    )

    def announce(address: str) -> None:
        say(f"Serving at {address}")
        say_notice()
        sys.stdout.flush()  # a pipe would keep it until the end

    run_server(settings, host=host, port=port, workers=workers, announce=announce)


app = typer.Typer(help="The browser app: analysis that never leaves the device.")


@app.callback()
def root() -> None:
    """The browser app: analysis that never leaves the device."""


@app.command()
def build(
    *,
    out: Out,
    release: ReleaseFolder = None,
    compiled: Annotated[Path | None, folder("What npm run build in web/ wrote.")] = None,
    json: Json = False,
) -> None:
    """Build the app as a static folder for any web server.

    Needs a source checkout and Node.js, with --compiled neither. What is built needs no Python.
    """
    from dermfuse.web.build import build_web

    with progress("Building the app"):
        built = build_web(out, release=release, compiled=compiled)
    sentences = (
        f"{built.files} files, {built.bytes / 1e6:.1f} MB ({built.heavy_bytes / 1e6:.1f} MB "
        f"networks and WebAssembly): {built.out}\n"
        "Any web server can serve them; docs/browser.md says which headers let it use threads."
    )
    finish(built.to_dict(), lambda: say(sentences), json=json)
