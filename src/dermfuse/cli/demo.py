"""``dermfuse demo``: what dermfuse does, on images that it drew itself."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from dermfuse.cli.console import (
    announce_stage,
    progress,
    require_extra,
    say,
    say_error,
    say_notice,
    say_progress,
    say_table,
)
from dermfuse.cli.options import Out, ReleaseFolder
from dermfuse.errors import ConfigError, DependencyError
from dermfuse.records import estimate_cells
from dermfuse.report import LESION_SHARE, PROBABILITY, WITHHELD, say_probability, say_share

if TYPE_CHECKING:
    from dermfuse.analysis.examples import DemoReport

_SHOWN_METRICS = ("average precision", "AUC", "Jaccard", "Dice")


def demo(
    *,
    out: Out,
    release: ReleaseFolder = None,
    train: Annotated[
        bool, Option("--train", help="Run the whole line instead: train, fuse, evaluate.")
    ] = False,
    seed: Annotated[int, Option(help="With --train: of images and trainings.")] = 0,
) -> None:
    """Analyse three drawn images; or, with --train, train small networks on drawn images.

    The numbers say nothing about skin: nobody's is on these images.
    """
    if train and release:
        raise ConfigError(
            "--release with --train",
            expected="one of them: --train trains networks of its own",
        )
    _train(out, seed) if train else _analyze(out, release)
    say_notice()


def _analyze(out: Path, release: Path | None) -> None:
    from dermfuse.analysis.examples import analyze_examples

    with progress("Analysing images"):
        report = analyze_examples(out, release=release)
    _show(report)


def _show(report: "DemoReport") -> None:
    for name, error in report.outcome.errors:
        say_error(f"{name}: {error}")
    done = [each for each in report.analyses if "error" not in each]
    say_table(
        ("drawn image", PROBABILITY, "call", "varies by", LESION_SHARE, "colours"),
        [_row(each) for each in done],
    )
    for each in done:
        for warning in each["warnings"]:
            say(f"{each['name']}: {warning}")
    say(f"{report.seconds:.1f} seconds. Open in a browser: {report.page}")


def _row(analysis: dict[str, Any]) -> tuple[str, ...]:
    uncertainty, measures = analysis["uncertainty"], analysis["measures"] or {}
    return (
        analysis["name"],
        say_probability(analysis["malignant_probability"]),
        analysis["predicted"] or WITHHELD,
        "" if uncertainty is None else f"{uncertainty:.3f}",
        say_share(analysis["lesion_area_fraction"]),
        str(measures.get("colour_count") or ""),
    )


def _train(out: Path, seed: int) -> None:
    require_extra("train", "dermfuse demo --train")
    from dermfuse.reproduction.demo import LineSettings, run_line

    draw = None
    try:
        require_extra("figures", "the page's figures")
    except DependencyError as error:
        say_progress(str(error))
    else:
        from dermfuse.figures.gather import draw_figures

        draw = partial(draw_figures, data=out / "data")
    settings = LineSettings(seed=seed)
    report = run_line(out, settings=settings, stage=announce_stage, draw=draw)
    rows = [
        (name, metric, *estimate_cells(estimate))
        for name, evaluation in report.evaluations.items()
        for metric, estimate in evaluation.rows()
        if metric in _SHOWN_METRICS
    ]
    say_table(("network", "metric", "value", "95 % interval"), rows)
    say(f"{report.seconds:.0f} seconds. Open in a browser: {report.page}")
