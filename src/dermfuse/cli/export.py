"""``dermfuse export``: trained networks as files that run without torch."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import announce_stage, progress, say, say_json, say_notice, say_table
from dermfuse.cli.extras import require_export_extra
from dermfuse.cli.releases import show_release
from dermfuse.errors import ConfigError

if TYPE_CHECKING:
    from dermfuse.shipping.build import ReleaseRequest


class Precision(StrEnum):
    """How the networks of a release store and compute."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT8_WEIGHTS = "int8-weights"


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(export)


def export(  # noqa: PLR0913 — an option each
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders.")
    ] = None,
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="What they learnt from; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write into.")],
    int8: Annotated[bool, typer.Option("--int8", help="Also write the 8-bit forms.")] = False,
    calibration: Annotated[
        int, typer.Option(min=1, help="Training images that int8 is calibrated on.")
    ] = 64,
    folds: Annotated[
        list[Path] | None,
        typer.Option(
            "--folds",
            metavar="RUN",
            help="A run of the same preset trained in folds; makes a whole release. Repeated.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the release.")] = "dermfuse",
    precision: Annotated[
        Precision, typer.Option(help="Of the networks of a release.")
    ] = Precision.INT8_WEIGHTS,
    looks: Annotated[
        int, typer.Option(metavar="1|4|8", help="Orientations at which a release looks.")
    ] = 8,
    report_on: Annotated[
        list[Path] | None,
        typer.Option(
            "--report-on",
            metavar="DIR|CSV",
            help="Also measure a release on these images alone: a folder, or a list of ids.",
        ),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Write test vectors of a release instead.")
    ] = False,
    release: Annotated[
        Path | None,
        typer.Option("--release", metavar="DIR", help="With --vectors: else the package's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export trained networks to ONNX.

    Each becomes NAME.onnx and its card NAME.json; answers are compared with torch's. With --folds
    they become a release that dermfuse analyze takes: fused, calibrated, with operating points,
    measured by the networks that were trained in folds. With --vectors no network is exported:
    input pixels and what every stage of an analysis makes of them are written as JSON.
    """
    if vectors:
        _write_vectors(out, release, runs=runs, json=json)
        return
    if not runs or not data or release:
        raise ConfigError(
            f"dermfuse export {'with --release' if release else 'without RUN or --data'}",
            expected="RUN... --data DIR --out DIR, or --vectors --out DIR [--release DIR]",
        )
    require_export_extra("dermfuse export")
    if folds:
        from dermfuse.looks import check_looks
        from dermfuse.shipping.build import ReleaseRequest

        request = ReleaseRequest(
            runs=runs,
            folds=folds,
            data=data,
            out=out,
            name=name,
            precision=precision.value,
            looks=check_looks(looks),
            report_on=report_on or (),
        )
        _export_release(request, json=json)
        return
    from dermfuse.export import export_runs

    with progress("Exporting") as advance:
        report = export_runs(
            runs, data=data, out=out, int8=int8, calibration=calibration, progress=advance
        )
    if json:
        say_json(report.to_dict())
        return
    rows = []
    for network in report.networks:
        card = network.card
        measured = {} if card.measured is None else card.measured.metrics[card.precision]
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
        size, speed = f"{card.bytes / 1e6:.2f}", f"{network.speed:.2f}"
        rows.append(
            (card.name, card.precision, size, f"{network.milliseconds:.1f}", speed, metrics)
        )
    columns = ("network", "precision", "MB", "ms", "speed", "validation")
    say_table(columns, rows)
    say("ms: one image, one thread, this machine; speed: beside float32.")
    say(f"{len(rows)} networks with their cards lie in {out}.")
    say_notice()


def _write_vectors(out: Path, release: Path | None, *, runs: list[Path] | None, json: bool) -> None:
    if runs:
        raise ConfigError(f"RUN {runs[0]} with --vectors", expected="one of them")
    from dermfuse.web.vectors import write_vectors

    written = write_vectors(out, release=release)
    if json:
        say_json({"path": str(written.path), "images": written.images})
        return
    say(f"{written.images} images and what each stage makes of them lie in {written.path}.")
    say_notice()


def _export_release(request: "ReleaseRequest", *, json: bool) -> None:
    from dermfuse.shipping.build import build_release

    release = build_release(request, stage=announce_stage)
    if json:
        say_json(release.to_dict())
        return
    show_release(release, request.out)
