"""Tables of measured numbers for the README and the docs, written by a command, never typed.

A page marks where the table stands:

    <!-- results:begin -->
    <!-- results:end -->
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dermfuse.data.folders import DataFolders
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.reports import Estimate, EvaluationReport
from dermfuse.predictions import Manifest, read_predictions
from dermfuse.report.markdown import markdown_table, replace_block

_BLOCK = "results"


@dataclass(frozen=True, slots=True)
class Measured:
    """One predictions folder and what it was measured at.

    Attributes:
        manifest: What predicted.
        report: How well.
    """

    manifest: Manifest
    report: EvaluationReport


def measure(
    folders: Sequence[str | Path], *, truth: DataFolders, draws: int = 2000
) -> list[Measured]:
    """Returns the evaluation of each predictions folder.

    Raises:
        DermfuseError: If one of them cannot be evaluated.
    """
    return [
        Measured(read_predictions(folder).manifest, evaluate(folder, truth, draws=draws))
        for folder in folders
    ]


def render_tables(measured: Sequence[Measured]) -> str:
    """Returns Markdown: a table per task, with data, split, seed, n, interval and machine."""
    classes = [(m, m.report.classification) for m in measured]
    masks = [(m, m.report.segmentation) for m in measured]
    parts = []
    if rows := [
        [*_who(m), f"{r.image_count} ({r.malignant_count})"]
        + [_cell(e) for e in (r.auc, r.average_precision, r.accuracy)]
        + [_cell(r.specificity_at_sensitivity.get(0.95)), _cell(r.expected_calibration_error)]
        for m, r in classes
        if r
    ]:
        columns = ["AUC", "AP", "accuracy", "specificity at sensitivity 0.95", "calibration error"]
        parts.append(markdown_table(["network", "split", "epoch", "n (malignant)", *columns], rows))
    if rows := [
        [*_who(m), str(r.image_count)]
        + [_cell(e) for e in (r.jaccard, r.dice, r.accuracy, r.sensitivity, r.specificity)]
        for m, r in masks
        if r
    ]:
        columns = ["Jaccard", "Dice", "accuracy", "sensitivity", "specificity"]
        parts.append(markdown_table(["network", "split", "epoch", "n", *columns], rows))
    return "\n\n".join([*parts, _footnote(measured)])


def write_tables(page: Path, tables: str) -> None:
    """Replaces what stands between the marks of ``page``.

    Raises:
        DataError: If the page is missing or has no marks.
    """
    replace_block(page, _BLOCK, tables)


def _who(measured: Measured) -> list[str]:
    details = measured.manifest.details
    epoch = f"{details['epoch']} of {details['epochs']}" if details.get("epochs") else ""
    return [measured.report.source, measured.report.split, epoch]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return ""
    if estimate.low is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _footnote(measured: Sequence[Measured]) -> str:
    machines = sorted(
        {
            f"{details['device']} ({details['machine']}, {details['precision']})"
            for m in measured
            if "machine" in (details := m.manifest.details)
        }
    )
    data = sorted(
        {str(m.manifest.details["data"]) for m in measured if m.manifest.details.get("data")}
    )
    said = [
        f"Intervals: 95 %, stratified bootstrap, {measured[0].report.draws} draws."
        if measured
        else "",
        "The epoch was chosen on the same validation images, so these numbers lean upwards."
        if any(m.report.split == "validation" for m in measured)
        else "",
        f"Data: {'; '.join(data)}." if data else "",
        f"Trained on: {'; '.join(machines)}." if machines else "",
    ]
    return " ".join(sentence for sentence in said if sentence)
