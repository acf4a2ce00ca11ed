"""``dermfuse bench``: how fast this machine trains and analyses."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import progress, require_train_extra, say, say_json, say_notice, say_table
from dermfuse.cli.models import Assignments, LooksOption, Preset, ReleaseFolder
from dermfuse.config import find_config

if TYPE_CHECKING:
    from dermfuse.bench import Comparison
    from dermfuse.bench.reports import AnalysisReport
    from dermfuse.bench.steps import StepCost

bench_app = typer.Typer(help="Measure speed on this machine.")


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.add_typer(bench_app, name="bench")


@bench_app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@bench_app.command("train")
def bench_train(
    preset: Preset,
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="Images, repeatable; else drawn ones."),
    ] = None,
    assignments: Assignments = None,
    batches: Annotated[int, typer.Option(help="Training steps of each loop.")] = 20,
    workers: Annotated[int, typer.Option(help="Loading processes of the plain loop.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Images per second, beside a plain PyTorch loop, and what a training step costs.

    Of training and of the input path alone; both loops do the same work and take turns. A step's
    time, operator calls and, on a GPU, its kernels, copies and waits say what bounds it.
    """
    config = find_config(preset).override(assignments or ())
    require_train_extra("dermfuse bench")
    from dermfuse.bench import bench_train as measure

    with progress("Measuring") as advance:
        report = measure(
            config, data=data or None, batches=batches, workers=workers, progress=advance
        )
    if json:
        say_json(report.to_dict())
        return
    rows = [
        (
            name,
            f"{speed.images_per_second:.1f}",
            f"{speed.plain_images_per_second:.1f}",
            in_ratio(speed),
        )
        for name, speed in (("training", report.training), ("input path", report.input_path))
    ]
    say_table(("images per second", "dermfuse", "plain loop", "ratio (range)"), rows)
    say(
        f"{report.preset} on {report.data}: {report.batches} batches of "
        f"{report.images_per_batch} images; dermfuse decodes once, {report.cache_seconds:.1f} s "
        f"for {report.cached_images} files."
    )
    say(
        f"A training step multiplies and adds {report.gflop_per_image:.2f} GFLOP per image; at "
        f"the rate of a large matrix product here that is {report.limit_images_per_second:.1f} "
        f"images/s, of which training reaches {report.share_of_limit:.0%}."
    )
    say(_describe_step(report.step))
    say(
        f"{report.device}, {report.precision} against float32, {report.threads} threads, "
        f"{report.workers} loading processes, PyTorch {report.torch}."
    )
    say_notice()


def _describe_step(step: "StepCost") -> str:
    words = f"A step takes {step.milliseconds:.1f} ms and {step.operators:.0f} operator calls"
    if step.device_milliseconds is None:
        return f"{words}; a GPU's kernels and waits are counted where there is one."
    return (
        f"{words}; the GPU is at work for {step.device_milliseconds:.1f} ms on {step.kernels:.0f} "
        f"kernels, gets {step.copies:.1f} copies from the host and is waited for "
        f"{step.waits:.1f} times."
    )


@bench_app.command("analyze")
def bench_analyze(  # noqa: PLR0913 — an option each
    *,
    release: ReleaseFolder = None,
    looks: LooksOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="An image or a folder; else drawn ones."),
    ] = None,
    images: Annotated[int, typer.Option(help="The first so many, or so many drawn.")] = 10,
    rounds: Annotated[int, typer.Option(help="How often each side does all of them.")] = 10,
    plain: Annotated[bool, typer.Option(help="Measure eager float32 PyTorch beside.")] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the JSON object here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Milliseconds per image, beside eager PyTorch; a new process; a folder.

    Each side does the same work on the same images, and they take turns. Without torch installed
    dermfuse is measured alone. The folder needs two idle cores.
    """
    from dermfuse.bench.analysis import AnalysisOptions, bench_analysis
    from dermfuse.folders import write_json

    options = AnalysisOptions(looks=looks, images=images, rounds=rounds, plain=plain)
    with progress("Measuring") as advance:
        report = bench_analysis(release, data=data, options=options, progress=advance)
    if out is not None:
        write_json(out, report.to_dict())
    say_json(report.to_dict()) if json else _show_analysis(report)


def _show_analysis(report: "AnalysisReport") -> None:
    from dermfuse.bench.reports import TASKS
    from dermfuse.imaging.symmetries import describe_looks

    rows = [
        (TASKS[name], str(each.threads), f"{time.milliseconds:.1f}", f"{time.percentile_90:.1f}")
        for each in report.by_threads
        for name, time in each.latencies.items()
    ]
    say_table(("milliseconds per image", "threads", "median", "90 % below"), rows)
    ratios = [
        (words, str(each.threads), in_ratio(found))
        for each in report.by_threads
        for words, found in (
            ("full analysis", each.analysis),
            ("without the measures, which both share", each.networks),
        )
        if found is not None
    ]
    folder = ("a folder, two threads beside one", "2", in_ratio(report.folder))
    say_table(("times as fast", "threads", "ratio (range)"), [*ratios, folder])
    if report.plain_left_out:
        say(f"PyTorch was left out: {report.plain_left_out}.")
    start = report.cold_start
    say(
        f"A new process has its first analysis after {start.first_analysis_seconds:.2f} s, "
        f"{start.import_seconds:.2f} s of these for imports ({start.starts} starts), and needs "
        f"{_megabytes(start.peak_mb)}, {_megabytes(start.later_peak_mb)} after "
        f"{start.later_images} more images."
    )
    say(
        f"The folder has {report.folder_images} files: {report.folder.images_per_second:.1f} "
        f"images/s by two threads, {report.folder.plain_images_per_second:.1f} by one; two cores "
        f"must be free for that."
    )
    machine = report.machine
    torch = f", PyTorch {machine.torch} in float32" if machine.torch else ""
    say(
        f"{report.release} ({', '.join(report.networks)}; {report.precision}) on {report.data}, "
        f"{report.rounds} rounds, {describe_looks(report.looks)}; {machine.cpu}, {machine.cores} "
        f"cores, ONNX Runtime {machine.onnxruntime}{torch}."
    )
    say_notice()


def in_ratio(found: "Comparison") -> str:
    """Returns a ratio with its range."""
    return f"{found.ratio:.2f} ({found.lowest_ratio:.2f} to {found.highest_ratio:.2f})"


def _megabytes(size: float | None) -> str:
    return "memory unknown" if size is None else f"{size:.0f} MB"
