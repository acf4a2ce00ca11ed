"""``dermfuse export``: trained networks as files that run without torch."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import Annotated

import typer

from dermfuse.cli.console import progress, say, say_json, say_notice, say_table
from dermfuse.cli.extras import require_export_extra


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(export)


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    *,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="What they learnt from.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write into.")],
    int8: Annotated[bool, typer.Option("--int8", help="Also write the 8-bit forms.")] = False,
    calibration: Annotated[
        int, typer.Option(min=1, help="Training images that int8 is calibrated on.")
    ] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export trained networks to ONNX.

    Each becomes NAME.onnx and its card NAME.json; answers are compared with torch's.
    """
    require_export_extra("dermfuse export")
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
