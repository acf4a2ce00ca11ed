"""``dermfuse fuse, evaluate, compare``: the commands on predictions folders."""

# ruff: noqa: PLC0415 — a command imports what it runs, so that --help stays fast

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermfuse.cli.console import estimate_cells, progress, say, say_json, say_notice, say_table
from dermfuse.errors import ConfigError

if TYPE_CHECKING:
    from dermfuse.evaluation.compare import ComparisonReport
    from dermfuse.evaluation.matching import Coverage
    from dermfuse.evaluation.reports import Estimate, EvaluationReport
    from dermfuse.fusion import FitOn

Truth = Annotated[
    list[Path],
    typer.Option("--truth", metavar="DIR", help="Labels and masks; several folders are joined."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Draws = Annotated[int, typer.Option("--draws", help="Draws of the bootstrap.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the bootstrap.")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Evaluate what is there if test images are missing.")
]
_SHOWN_IDS = 5


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for command in (fuse, evaluate, compare):
        app.command()(command)


def fuse(
    a: Annotated[Path, typer.Argument(metavar="A", help="A predictions folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same images.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    weight: Annotated[float | None, typer.Option(help="Weight of A, from 0 to 1.")] = None,
    fit_a: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A's predictions of its validation images.")
    ] = None,
    fit_b: Annotated[
        Path | None, typer.Option(metavar="DIR", help="B's predictions of the same images.")
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Their labels or masks, to fit on; repeatable."),
    ] = None,
) -> None:
    """Average two predictions folders.

    The weight is given, fitted on predictions of validation images, or 0.5.
    """
    from dermfuse.fusion import fuse as fuse_folders

    fit = _fit_on(fit_a, fit_b, truth)
    with progress("Fusing"):
        report = fuse_folders(a, b, out, weight=weight, fit=fit)
    say(
        f"{report.image_count} predictions ({report.task}) of {report.weight:.2f} A + "
        f"{1 - report.weight:.2f} B lie in {out}."
    )
    if report.fit is not None:
        say(
            f"The weight was chosen by {report.fit.metric.replace('_', ' ')} on "
            f"{report.fit.image_count} images: A {report.fit.a:.3f}, B {report.fit.b:.3f}, "
            f"fused {report.fit.fused:.3f}."
        )
    say_notice()


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="DIR", help="A predictions folder.")],
    *,
    truth: Truth,
    json: Json = False,
    draws: Draws = 2000,
    seed: Seed = 0,
    threshold: Annotated[
        float | None,
        typer.Option(help="A score above it is malignant; else what the predictions name, or 0.5."),
    ] = None,
    partial: Partial = False,
) -> None:
    """Print the challenge's metrics.

    Each with its 95 % bootstrap interval.
    """
    from dermfuse.evaluation.evaluate import evaluate as evaluate_folder

    with progress("Evaluating"):
        report = evaluate_folder(
            predictions,
            truth,
            draws=draws,
            seed=seed,
            threshold=threshold,
            allow_partial=partial,
        )
    if json:
        say_json(report.to_dict())
        return
    _show_evaluation(report)
    say_notice()


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A predictions folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same images.")],
    *,
    truth: Truth,
    json: Json = False,
    draws: Draws = 2000,
    seed: Seed = 0,
    partial: Partial = False,
) -> None:
    """Compare two models on the same images.

    By the paired bootstrap, and AUC by DeLong's test, too.
    """
    from dermfuse.evaluation.compare import compare as compare_folders

    with progress("Comparing"):
        report = compare_folders(a, b, truth, draws=draws, seed=seed, allow_partial=partial)
    if json:
        say_json(report.to_dict())
        return
    _show_comparison(report)
    say_notice()


def _fit_on(fit_a: Path | None, fit_b: Path | None, truth: list[Path] | None) -> "FitOn | None":
    """Returns what the weight is fitted on, or None where none of the options is given."""
    from dermfuse.fusion import FitOn

    if fit_a is None and fit_b is None and not truth:
        return None
    if fit_a is None or fit_b is None or not truth:
        raise ConfigError(
            "only some of --fit-a, --fit-b and --truth are given",
            expected="all three, or none of them",
        )
    return FitOn(fit_a, fit_b, truth)


def _show_evaluation(report: "EvaluationReport") -> None:
    classification, segmentation = report.classification, report.segmentation
    say(f"{report.source}{f', {report.split} split' if report.split else ''}")
    if classification:
        say(
            f"{classification.image_count} images, {classification.malignant_count} malignant; "
            f"malignant at score > {classification.threshold:g}"
        )
        _say_coverage(classification.coverage)
        if withheld := classification.withheld:
            say(
                f"withheld: {_share(withheld.malignant, withheld.all_malignant)} malignant and "
                f"{_share(withheld.benign, withheld.all_benign)} benign images; of the numbers "
                "below only the sensitivity that says so counts them"
            )
        _show_estimates(classification.rows())
    if segmentation:
        say(f"{segmentation.image_count} masks")
        _say_coverage(segmentation.coverage)
        _show_estimates(segmentation.rows())
    say(f"Intervals: 95 %, {report.draws} bootstrap draws, seed {report.seed}.")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "0 of 0"


def _show_estimates(rows: "list[tuple[str, Estimate]]") -> None:
    cells = [(name, *estimate_cells(estimate)) for name, estimate in rows]
    say_table(("metric", "value", "95 % interval"), cells)


def _show_comparison(report: "ComparisonReport") -> None:
    say(f"A: {report.source_a}")
    say(f"B: {report.source_b}")
    parts = (report.classification, report.segmentation)
    say(f"{max(part.image_count for part in parts if part)} images")
    rows = [
        (
            name,
            f"{row.a:.3f}",
            f"{row.b:.3f}",
            *estimate_cells(row.difference, sign="+"),
            f"{row.p_value:.4f}",
        )
        for name, row in report.rows()
    ]
    if report.classification and report.classification.auc_delong:
        test = report.classification.auc_delong
        interval = f"{test.low:+.3f} to {test.high:+.3f}"
        difference = f"{test.difference:+.3f}"
        p_value = "undefined" if test.p_value is None else f"{test.p_value:.4f}"
        rows.append(("AUC (DeLong)", "", "", difference, interval, p_value))
    say_table(("metric", "A", "B", "A - B", "95 % interval", "p"), rows)
    say(f"Paired bootstrap, {report.draws} draws, seed {report.seed}; p is two-sided.")


def _say_coverage(coverage: "Coverage") -> None:
    for what, ids in (
        ("without a prediction", coverage.missing),
        ("without a truth, left out", coverage.without_truth),
        ("withheld", coverage.withheld),
    ):
        if ids:
            more = " ..." if len(ids) > _SHOWN_IDS else ""
            say(f"{len(ids)} images {what}: {', '.join(ids[:_SHOWN_IDS])}{more}")
