"""The commands on predictions folders and on results of analyze, and the figures of both.

``evaluate`` and ``compare`` measure; ``fuse``, ``join`` and ``average`` make one folder of several;
``submit`` and ``convert`` pack what leaves the machine; ``tabulate``, ``ablate`` and ``figures``
make tables and pictures.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from dermfuse.cli.console import finish, progress, require_extra, say, say_notice, say_table
from dermfuse.cli.options import (
    Data,
    Draws,
    FolderA,
    FolderB,
    Folders,
    Json,
    MaybeData,
    Out,
    Partial,
    Seed,
    Truth,
    Tta,
    folder,
)
from dermfuse.errors import ConfigError
from dermfuse.records import estimate_cells
from dermfuse.records.folders import RunFolder, require_free

if TYPE_CHECKING:
    from dermfuse.evaluation.matching import Coverage
    from dermfuse.evaluation.reports import ComparisonReport, EvaluationReport, Row
    from dermfuse.predictions.folder import SubmissionReport
    from dermfuse.predictions.fusion import EnsembleReport, FitOn


def fuse(
    a: FolderA,
    b: FolderB,
    *,
    out: Out,
    weight: Annotated[float | None, Option(help="Weight of A, from 0 to 1.")] = None,
    fit_a: Annotated[Path | None, folder("A's predictions of its validation images.")] = None,
    fit_b: Annotated[Path | None, folder("B's predictions of the same images.")] = None,
    truth: Annotated[
        list[Path] | None, folder("Their labels or masks, to fit on; repeatable.")
    ] = None,
) -> None:
    """Average two predictions folders.

    The weight is given, fitted on predictions of validation images, or 0.5.
    """
    from dermfuse.predictions.fusion import fuse as fuse_folders

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
    predictions: Annotated[Path, Argument(metavar="DIR", help="A predictions folder.")],
    *,
    truth: Truth,
    json: Json = False,
    draws: Draws = 2000,
    seed: Seed = 0,
    threshold: Annotated[
        float | None,
        Option(help="A score above it is malignant; else what the predictions name, or 0.5."),
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
    finish(report.to_dict(), lambda: _show_evaluation(report), json=json)


def compare(
    a: FolderA,
    b: FolderB,
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
    from dermfuse.evaluation.evaluate import compare as compare_folders

    with progress("Comparing"):
        report = compare_folders(a, b, truth, draws=draws, seed=seed, allow_partial=partial)
    finish(report.to_dict(), lambda: _show_comparison(report), json=json)


def join(folders: Folders, *, out: Out, json: Json = False) -> None:
    """Join predictions of different images.

    Those of every fold of a cross-validation predict each image once, out of fold.
    """
    from dermfuse.predictions.fusion import join as join_folders

    with progress("Joining"):
        report = join_folders(folders, out)
    _show(report, out, json=json)


def average(folders: Folders, *, out: Out, json: Json = False) -> None:
    """Average predictions of the same images.

    The unweighted mean of several folds, seeds or networks; masks need probability maps.
    """
    from dermfuse.predictions.fusion import average as average_folders

    with progress("Averaging"):
        report = average_folders(folders, out)
    _show(report, out, json=json)


def submit(
    run: Annotated[Path, Argument(metavar="RUN", help="A finished run, or results of analyze.")],
    *,
    data: MaybeData = None,
    out: Out,
    tta: Tta = False,
    json: Json = False,
) -> None:
    """Pack predictions for scoring elsewhere: a run's of the test split, or analyze's results."""
    report = _submit_run(run, data, out, tta=tta) if data else _pack_results(run, out)
    sentence = f"{report.images} images ({report.task}), {report.size_mb} MB, lie in {out}."
    finish(report.to_dict(), lambda: say(sentence), json=json)


def convert(
    results: Annotated[Path, Argument(metavar="RESULTS", help="What analyze wrote.")],
    *,
    out: Out,
) -> None:
    """Turn results of analyze into predictions, for evaluate, compare and fuse."""
    from dermfuse.analysis.conversion import convert_results

    manifest = convert_results(results, out)
    say(f"Predictions ({manifest.task}; {manifest.source}) lie in {out}.")
    if manifest.withheld:
        say(
            f"{len(manifest.withheld)} images were withheld and have none; evaluate counts the "
            "malignant ones as missed in a second sensitivity, the other commands refuse them"
        )
    say_notice()


def tabulate(
    predictions: Annotated[
        list[Path], Argument(metavar="DIR...", help="Predictions folders, a row each.")
    ],
    *,
    truth: Truth,
    write: Annotated[
        list[Path] | None,
        Option(metavar="PAGE", help="Replace the table in this page; repeatable."),
    ] = None,
    draws: Draws = 2000,
    json: Json = False,
) -> None:
    """Print a Markdown table of measured numbers, or write it into pages."""
    from dermfuse.evaluation.tables import BLOCK, measure, render_tables
    from dermfuse.report.page import replace_block

    with progress("Evaluating"):
        reports = measure(predictions, truth=truth, draws=draws)
    tables = render_tables(reports)
    for page in write or ():
        replace_block(page, BLOCK, tables)
    finish({"results": [each.to_dict() for each in reports]}, lambda: say(tables), json=json)


def ablate(
    steps: Annotated[
        list[str], Argument(metavar="NAME=DIR...", help="Predictions folders, the baseline first.")
    ],
    *,
    truth: Annotated[Path, folder("Labels and masks.")],
    within: Annotated[Path | None, folder("Only images that this folder knows, too.")] = None,
    write: Annotated[
        Path | None, Option(metavar="PAGE", help="Replace the table in this page.")
    ] = None,
    block: Annotated[str, Option(help="Which table of the page.")] = "ablation",
    draws: Draws = 2000,
    json: Json = False,
) -> None:
    """Print what each step of a recipe gains over the one before, on the same images."""
    from dermfuse.evaluation.tables import measure_steps, render_ablation
    from dermfuse.report.page import replace_block

    named = [_named_folder(step) for step in steps]
    with progress("Comparing"):
        found = measure_steps(named, truth, within=within, draws=draws)
    table = render_ablation(found)
    if write:
        replace_block(write, block, table)
    finish(found.to_dict(), lambda: say(table), json=json)


def figures(
    folders: Annotated[
        list[Path], Argument(metavar="RUN...", help="Run folders and predictions folders.")
    ],
    *,
    data: Data,
    out: Out,
    draws: Draws = 2000,
    seed: Annotated[int, Option(help="Of the bootstrap and of t-SNE.")] = 0,
    paper: Annotated[bool, Option("--paper", help="Draw the paper's Figs. 8 to 14 alone.")] = False,
    webp: Annotated[
        bool, Option("--webp", help="Write WebP, a fifth as large, in place of PNG.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw the paper's Figs. 8 to 14 and diagnostic plots.

    Run folders give training curves, activation maps and t-SNE; predictions folders the rest.
    What cannot be drawn from them is listed, with the reason.
    """
    require_extra("figures", "dermfuse figures")
    from dermfuse.figures.gather import draw_figures, write_figures

    require_free(out, what="figures")
    runs = [folder for folder in folders if RunFolder(folder).is_run]
    predictions = [folder for folder in folders if folder not in runs]
    not_drawn: list[tuple[str, str]] = []
    with progress("Drawing"):
        pictures = draw_figures(
            runs,
            predictions,
            data=data,
            draws=draws,
            seed=seed,
            paper=paper,
            skipped=lambda figure, why: not_drawn.append((figure, why)),
        )
    record = write_figures(out, pictures, webp=webp, not_drawn=not_drawn)

    def show() -> None:
        for each in record["figures"]:
            say(f"{out / each['file']}  {each['title']}")
        for figure, why in not_drawn:
            say(f"{figure} is not drawn: {why}")

    finish(record, show, json=json)


def _fit_on(fit_a: Path | None, fit_b: Path | None, truth: list[Path] | None) -> "FitOn | None":
    """Returns what the weight is fitted on, or None where none of the options is given."""
    from dermfuse.predictions.fusion import FitOn

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


def _show_estimates(rows: "list[Row]") -> None:
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
            *estimate_cells(row.difference, "+.3f"),
            f"{row.p_value:.4f}",
        )
        for name, row in report.rows()
    ]
    if report.classification and report.classification.auc_delong:
        test = report.classification.auc_delong
        p_value = "undefined" if test.p_value is None else f"{test.p_value:.4f}"
        rows.append(("AUC (DeLong)", "", "", *estimate_cells(test.difference, "+.3f"), p_value))
    say_table(("metric", "A", "B", "A - B", "95 % interval", "p"), rows)
    say(f"Paired bootstrap, {report.draws} draws, seed {report.seed}; p is two-sided.")


def _say_coverage(coverage: "Coverage") -> None:
    from dermfuse.data.isic2016 import name_some

    for what, ids in (
        ("without a prediction", coverage.missing),
        ("without a truth, left out", coverage.without_truth),
        ("withheld", coverage.withheld),
    ):
        if ids:
            say(f"{len(ids)} images {what}: {name_some(ids)}")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "0 of 0"


def _show(report: "EnsembleReport", out: Path, *, json: bool) -> None:
    sentence = (
        f"{report.image_count} predictions ({report.task}) from {report.folder_count} folders "
        f"lie in {out}."
    )
    finish({**report.to_dict(), "out": str(out)}, lambda: say(sentence), json=json)


def _submit_run(run: Path, data: list[Path], out: Path, *, tta: bool) -> "SubmissionReport":
    require_extra("train", "dermfuse submit")
    from dermfuse.training.prediction import submit as submit_run

    with progress("Predicting") as advance:
        return submit_run(run, data=data, out=out, tta=tta, progress=advance)


def _pack_results(results: Path, out: Path) -> "SubmissionReport":
    from dermfuse.analysis.conversion import pack_results

    if RunFolder(results).is_run:
        raise ConfigError(
            f"{results} is a run, and no dataset is given",
            expected="the dataset whose test images it predicts",
            action="Add --data DIR",
        )
    return pack_results(results, out)


def _named_folder(step: str) -> tuple[str, Path]:
    name, equals, folder = step.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f'"{step}" names no step', expected="NAME=DIR, DIR a predictions folder")
    return name, Path(folder)
