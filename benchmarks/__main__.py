"""``python -m benchmarks``: measures speed on the machine at hand and prints JSON."""

# ruff: noqa: PLC0415 — a command imports what it runs

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import house
from dermfuse.cli.console import say_error, say_json
from dermfuse.config import find_config
from dermfuse.errors import DermfuseError
from dermfuse.records.folders import write_json

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

Release = Annotated[Path | None, typer.Option("--release", metavar="DIR", help="Else what ships.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Also write the JSON here.")
]
Data = Annotated[
    list[Path] | None, typer.Option("--data", metavar="DIR", help="Images; else drawn ones.")
]


@app.command()
def analyze(
    *,
    release: Release = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="Images; else drawn ones.")
    ] = None,
    looks: Annotated[int | None, typer.Option(help="1, 4 or 8; else the release's.")] = None,
    images: Annotated[int, typer.Option(help="How many.")] = 10,
    rounds: Annotated[int, typer.Option(help="How often each side does all of them.")] = 10,
    plain: Annotated[bool, typer.Option(help="Measure eager float32 PyTorch beside.")] = True,
    out: Out = None,
) -> None:
    """Milliseconds per image, beside eager PyTorch; a new process; a folder."""
    from benchmarks.analysis import bench_analysis

    options = {"looks": looks, "images": images, "rounds": rounds}
    _report(bench_analysis(release, data=data, plain=plain, **options), out)  # type: ignore[arg-type]


@app.command()
def train(
    preset: Annotated[str, typer.Argument(help="A preset, or a TOML file of your own.")],
    *,
    data: Data = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="A setting.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps that are timed.")] = 20,
    out: Out = None,
) -> None:
    """Images per second of a preset's training, and what a step costs."""
    config = find_config(preset).override(assignments or ())
    from benchmarks.training import bench_train

    _report(bench_train(config, data=data or None, steps=steps), out)


@app.command()
def serve(
    images: Annotated[list[Path] | None, typer.Argument(help="Else the examples.")] = None,
    *,
    release: Release = None,
    requests: Annotated[int, typer.Option(help="Images that are sent.")] = 1_000,
    clients: Annotated[int, typer.Option(help="Clients that send side by side.")] = 16,
    threads: Annotated[int, typer.Option(help="Threads of the server, and without it.")] = 2,
    out: Out = None,
) -> None:
    """Images per second of a server, beside the Analyzer without one."""
    from benchmarks.serving import bench_serving
    from dermfuse.analysis.examples import example_images

    counts = {"requests": requests, "clients": clients, "threads": threads}
    _report(bench_serving(images or example_images(), release=release, **counts), out)


@app.command()
def browser(
    *,
    release: Release = None,
    images: Annotated[int, typer.Option(help="How many are drawn.")] = 5,
    rounds: Annotated[int, typer.Option(help="How often either side does all of them.")] = 8,
    starts: Annotated[int, typer.Option(help="New browsers, for the first result.")] = 5,
    out: Out = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="PAGE", help="Replace its table here.")
    ] = None,
) -> None:
    """The browser app's size and speed in Chromium, beside the library (Node.js, Chromium)."""
    from benchmarks.browser import bench_browser, render_browser
    from dermfuse.report.page import replace_block

    report = bench_browser(release, images=images, rounds=rounds, starts=starts)
    _report(report, out)
    if summary is not None:
        replace_block(summary, "browser", render_browser(report))


@app.command("house")
def count_house() -> None:
    """Modules, code lines, rooms and arrows of the package; lines of its tests."""
    _report(house.measure(Path(__file__).parents[1]), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; ends with status 2 and one line where it cannot be done."""
    try:
        app(args=arguments, prog_name="python -m benchmarks")
    except DermfuseError as error:
        say_error(str(error))
        raise SystemExit(2) from error


def _report(record: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_json(out, record)
    say_json(record)


if __name__ == "__main__":
    main()
