"""Tables of measured numbers for the README and the docs, written by a command, never typed.

One kind sets models side by side. The other shows what each step of a recipe gains: predictions in
a row, each set against the one before on the images that all of them predict. A gain is paired:
the same images, the same draws of the bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse.data.folders import DataFolders, Truth, load_truth
from dermfuse.errors import ConfigError, PredictionsError
from dermfuse.evaluation.bootstrap import DRAWS, Drawn, draw_masks, draw_ranking, paired_test
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.matching import ScoredImages, SegmentedImages, match_masks, match_scores
from dermfuse.evaluation.reports import EvaluationReport
from dermfuse.predictions.folder import Predictions, read_predictions
from dermfuse.records import PairedTest
from dermfuse.records.folders import NOTICE
from dermfuse.report.page import template

BLOCK = "results"
"""The table's place in a page: between ``<!-- results:begin -->`` and ``<!-- results:end -->``."""

_STEP_METRICS = {
    "classification": {"AUC": "auc", "AP": "average_precision"},
    "segmentation": {"Jaccard": "jaccard", "Dice": "dice"},
}


def measure(
    folders: Sequence[str | Path], *, truth: DataFolders, draws: int = DRAWS
) -> list[EvaluationReport]:
    """Returns the evaluation of each predictions folder.

    Raises:
        DermfuseError: If one of them cannot be evaluated.
    """
    return [evaluate(folder, truth, draws=draws) for folder in folders]


def render_tables(reports: Sequence[EvaluationReport]) -> str:
    """Returns Markdown: a table per task, with data, split, seed, n, interval and machine."""
    return template("evaluation", "results.md").render(reports=reports).strip()


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what it gains.

    Attributes:
        name: What was changed.
        source: Who predicted, in the manifest's words.
        values: Each metric by its name.
        gains: Over the step before, by metric; none for the first.
    """

    name: str
    source: str
    values: Mapping[str, float]
    gains: Mapping[str, PairedTest]


@dataclass(frozen=True, slots=True)
class Ablation:
    """Steps on the same images.

    Attributes:
        task: Classification or segmentation.
        images: How many.
        malignant: How many of them are malignant; None for masks.
        draws: Number of bootstrap draws.
        steps: In their order.
    """

    task: str
    images: int
    malignant: int | None
    draws: int
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the ablation as JSON values."""
        return {**asdict(self), "notice": NOTICE}


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
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: There are fewer than two steps, or no draws.
        PredictionsError: They have no image or no task in common.
        DermfuseError: A folder cannot be used.
    """
    if len(steps) < 2:
        raise ConfigError(
            f"{len(steps)} step", expected="a baseline and at least one step, as NAME=FOLDER"
        )
    predicted = [read_predictions(folder) for _, folder in steps]
    matched = _match(predicted, load_truth(Path(truth)))
    common = frozenset.intersection(*(frozenset(each.coverage.evaluated) for each in matched))
    if within is not None:
        common &= load_truth(Path(within)).known
    if not common:
        raise PredictionsError(
            "the steps predict no image that all of them know",
            expected="predictions of the same images",
        )
    first, *_ = alike = [each.only(common) for each in matched]
    drawn = [_draw(each, draws, seed) for each in alike]
    task = "classification" if isinstance(first, ScoredImages) else "segmentation"
    before: list[Drawn | None] = [None, *drawn]
    return Ablation(
        task=task,
        images=len(common),
        malignant=int(first.malignant.sum()) if isinstance(first, ScoredImages) else None,
        draws=draws,
        steps=tuple(
            _step(name, each, now, then, _STEP_METRICS[task])
            for (name, _), each, now, then in zip(steps, predicted, drawn, before, strict=False)
        ),
    )


def render_ablation(ablation: Ablation) -> str:
    """Returns a Markdown table: each step, its metrics and its gain over the one before."""
    return template("evaluation", "ablation.md").render(ablation=ablation).strip()


def _match(predicted: Sequence[Predictions], true: Truth) -> list[ScoredImages | SegmentedImages]:
    scored = [match_scores(each, true, allow_partial=True) for each in predicted]
    if all(scored):
        return [each for each in scored if each]
    outlined = [match_masks(each, true, allow_partial=True) for each in predicted]
    if all(outlined):
        return [each for each in outlined if each]
    raise PredictionsError(
        "the steps have no task in common", expected="scores in all of them, or masks"
    )


def _step(
    name: str, predicted: Predictions, now: Drawn, before: Drawn | None, metrics: Mapping[str, str]
) -> Step:
    return Step(
        name=name,
        source=predicted.manifest.source or predicted.folder.name,
        values={title: now.column(metric)[0] for title, metric in metrics.items()},
        gains={title: paired_test(now, before, metric) for title, metric in metrics.items()}
        if before
        else {},
    )


def _draw(images: ScoredImages | SegmentedImages, draws: int, seed: int) -> Drawn:
    if isinstance(images, SegmentedImages):
        return draw_masks(images.counts, draws=draws, seed=seed)
    return draw_ranking(images.malignant, images.scores, draws=draws, seed=seed)
