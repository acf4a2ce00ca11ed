"""Tables of measured numbers for the README and the docs, written by a command, never typed.

A page marks where the table stands:

    <!-- results:begin -->
    <!-- results:end -->

What each step of a recipe gains: predictions in a row, each set against the one before.

Every step is measured on the images that all of them predict, and its gain is paired: the same
images, the same draws of the bootstrap.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dermfuse.data.folders import DataFolders, load_truth
from dermfuse.errors import ConfigError, PredictionsError
from dermfuse.evaluation.bootstrap import DRAWS
from dermfuse.evaluation.evaluate import PairedDifference, compare_masks, compare_scores, evaluate
from dermfuse.evaluation.matching import ScoredImages, SegmentedImages, match_masks, match_scores
from dermfuse.evaluation.reports import Estimate, EvaluationReport
from dermfuse.folders import NOTICE
from dermfuse.predictions.folder import Manifest, Predictions, read_predictions
from dermfuse.report.page import markdown_table, replace_block

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


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what it gains.

    Attributes:
        name: What was changed.
        source: Who predicted, in the manifest's words.
        values: Of each metric.
        gains: Over the step before, by metric; none for the first.
    """

    name: str
    source: str
    values: Mapping[str, float]
    gains: Mapping[str, PairedDifference]

    def to_dict(self) -> dict[str, Any]:
        """Returns the step as JSON values."""
        return {
            "name": self.name,
            "source": self.source,
            "values": dict(self.values),
            "gains": {metric: asdict(gain) for metric, gain in self.gains.items()},
        }


@dataclass(frozen=True, slots=True)
class Ablation:
    """Steps on the same images.

    Attributes:
        task: Classification or segmentation.
        images: How many.
        malignant: Of them; None for masks.
        steps: In their order.
        draws: Of the bootstrap.
    """

    task: str
    images: int
    malignant: int | None
    steps: tuple[Step, ...]
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the ablation as JSON values."""
        return {
            "task": self.task,
            "images": self.images,
            "malignant": self.malignant,
            "draws": self.draws,
            "steps": [step.to_dict() for step in self.steps],
            "notice": NOTICE,
        }


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is measured, and how.

    Attributes:
        names: Of the steps.
        predicted: Of each step.
        known: The images that are looked at; None for all.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """

    names: Sequence[str]
    predicted: Sequence[Predictions]
    known: Collection[str] | None
    draws: int
    seed: int


def measure_steps(
    steps: Sequence[tuple[str, str | Path]],
    truth: str | Path,
    *,
    within: str | Path | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Ablation:
    """Returns what each step gains over the one before.

    Args:
        steps: Names and predictions folders, the baseline first; all of one task.
        truth: Labels and masks, as for ``evaluate``.
        within: Only images that this folder of labels and masks knows, too.
        draws: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ConfigError: There are fewer than two steps.
        PredictionsError: They have no image or no task in common.
        DermfuseError: A folder cannot be used.
    """
    truth = Path(truth)
    within = None if within is None else Path(within)
    if len(steps) < 2:
        raise ConfigError(
            f"{len(steps)} step", expected="a baseline and at least one step, as NAME=FOLDER"
        )
    true = load_truth(truth)
    predicted = [read_predictions(folder) for _, folder in steps]
    known = load_truth(within).known if within else None
    asked = _Asked([name for name, _ in steps], predicted, known, draws, seed)
    scored = [match_scores(each, true, allow_partial=True) for each in predicted]
    if all(scored):
        return _rank([each for each in scored if each], asked)
    outlined = [match_masks(each, true, allow_partial=True) for each in predicted]
    if not all(outlined):
        raise PredictionsError(
            "the steps have no task in common", expected="scores in all of them, or masks"
        )
    return _overlap([each for each in outlined if each], asked)


def _rank(scored: Sequence[ScoredImages], asked: _Asked) -> Ablation:
    common = _common([each.coverage.evaluated for each in scored], asked.known)
    rows = [_positions(each.coverage.evaluated, common) for each in scored]
    alike = [
        replace(each, malignant=each.malignant[at], scores=each.scores[at])
        for each, at in zip(scored, rows, strict=True)
    ]
    found = []
    for before, now in zip([alike[0], *alike], alike, strict=False):
        compared = compare_scores(now, before, draws=asked.draws, seed=asked.seed)
        found.append({"AUC": compared.auc, "AP": compared.average_precision})
    return Ablation(
        task="classification",
        images=len(common),
        malignant=int(alike[0].malignant.sum()),
        steps=_steps(asked, found),
        draws=asked.draws,
    )


def _overlap(outlined: Sequence[SegmentedImages], asked: _Asked) -> Ablation:
    common = _common([each.coverage.evaluated for each in outlined], asked.known)
    alike = [
        replace(
            each,
            counts=tuple(each.counts[i] for i in _positions(each.coverage.evaluated, common)),
        )
        for each in outlined
    ]
    found = []
    for before, now in zip([alike[0], *alike], alike, strict=False):
        compared = compare_masks(now, before, draws=asked.draws, seed=asked.seed)
        found.append({"Jaccard": compared.jaccard, "Dice": compared.dice})
    return Ablation(
        task="segmentation",
        images=len(common),
        malignant=None,
        steps=_steps(asked, found),
        draws=asked.draws,
    )


def _common(covered: Sequence[Sequence[str]], known: Collection[str] | None) -> list[str]:
    common = set.intersection(*(set(ids) for ids in covered))
    common &= set(known) if known is not None else common
    if not common:
        raise PredictionsError(
            "the steps predict no image that all of them know",
            expected="predictions of the same images",
        )
    return sorted(common)


def _positions(ids: Sequence[str], wanted: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    at = {image_id: index for index, image_id in enumerate(ids)}
    return np.array([at[image_id] for image_id in wanted], np.int64)


def _steps(asked: _Asked, found: Sequence[Mapping[str, PairedDifference]]) -> tuple[Step, ...]:
    return tuple(
        Step(
            name=name,
            source=each.manifest.source or each.folder.name,
            values={metric: gain.a for metric, gain in gains.items()},
            gains=gains if index else {},
        )
        for index, (name, each, gains) in enumerate(
            zip(asked.names, asked.predicted, found, strict=True)
        )
    )


def render_ablation(ablation: Ablation) -> str:
    """Returns a Markdown table: each step, its metrics and its gain over the one before."""
    metrics = list(ablation.steps[0].values)
    columns = ["step", *metrics, *(f"gain in {metric} (95 % interval)" for metric in metrics)]
    rows = [
        [
            step.name,
            *(f"{value:.3f}" for value in step.values.values()),
            *(_gain(step.gains.get(metric)) for metric in metrics),
        ]
        for step in ablation.steps
    ]
    of = f" ({ablation.malignant} malignant)" if ablation.malignant is not None else ""
    foot = (
        f"{ablation.images} images{of} that no network of a row was trained on, the same in every"
        f" row; each gain is over the row above, by the paired bootstrap with {ablation.draws}"
        " draws. Written by `dermfuse ablate`."
    )
    return f"{markdown_table(columns, rows)}\n\n{foot}"


def _gain(gain: PairedDifference | None) -> str:
    if gain is None:
        return ""
    of = gain.difference
    return f"{of.value:+.3f} ({of.low:+.3f} to {of.high:+.3f})"
