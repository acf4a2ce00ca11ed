"""From predictions to numbers: each metric, its bootstrap draws, and the mean over seeds.

All models that predict the same images see the same draws, so that two of them are compared
draw by draw, and the seeds of one are averaged draw by draw.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Task
from dermfuse.data.truth import Truth
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    paired_p_value,
    percentile_interval,
    resample,
)
from dermfuse.evaluation.matching import (
    Coverage,
    ScoredImages,
    SegmentedImages,
    match_scores,
)
from dermfuse.evaluation.resampled import (
    SEGMENTATION_METRICS,
    ResampledRanking,
    per_image,
    resampled_means,
    resampled_rates,
)
from dermfuse.metrics import auc, average_precision
from dermfuse.predictions import read_predictions
from dermfuse.reproduction.counting import count_folder
from dermfuse.reproduction.paper import Metric
from dermfuse.reproduction.statistics import spread

_CLASS_METRICS: tuple[Metric, ...] = ("accuracy", "auc", "average_precision")
_MASK_METRICS: tuple[Metric, ...] = (
    "jaccard",
    "dice",
    "accuracy",
    "sensitivity",
    "specificity",
)
_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One model's metrics on one set of images, and in every bootstrap draw of them.

    Attributes:
        image_ids: The images, sorted.
        malignant_count: How many are malignant; None where masks are measured.
        metrics: Names of the K metrics.
        values: On the images themselves. (K,)
        draws: (D, K).
    """

    image_ids: tuple[str, ...]
    malignant_count: int | None
    metrics: tuple[Metric, ...]
    values: NDArray[np.float64]
    draws: NDArray[np.float64]

    def column(self, metric: Metric) -> int:
        """Returns where a metric stands."""
        return self.metrics.index(metric)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric of one row.

    Attributes:
        value: Mean over the seeds.
        low: Lower end of the 95 % interval over images.
        high: Upper end.
        standard_error: Standard deviation of the draws: what other images would change.
        single_error: The same of one seed alone, mean over the seeds.
        deviation: Standard deviation between seeds; None of one.
        seeds: How many.
    """

    value: float
    low: float
    high: float
    standard_error: float
    single_error: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A metric of one row less that of another, on the same images.

    Attributes:
        difference: Mean over the seeds.
        low: Lower end of the 95 % interval of the paired bootstrap.
        high: Upper end.
        p_value: Two-sided, of "no difference".
    """

    difference: float
    low: float
    high: float
    p_value: float


def draw_folder(
    folder: Path,
    truth: Truth,
    task: Task,
    *,
    draws: int = DRAWS,
    only: Collection[str] | None = None,
) -> Drawn:
    """Returns the metrics of a predictions folder, in every draw.

    Args:
        folder: Of scores or of masks.
        truth: Labels or masks.
        task: Which of the two is measured.
        draws: Of the bootstrap.
        only: The images to measure on; None takes all.

    Raises:
        DermfuseError: The folder cannot be read or does not fit the truth.
    """
    if task == "classification":
        scored = match_scores(read_predictions(folder), truth)
        if scored is not None:
            return draw_scores(_only_scores(scored, only), draws=draws)
    else:
        segmented = count_folder(folder, truth)
        if segmented is not None:
            return draw_masks(_only_masks(segmented, only), draws=draws)
    raise DataError(
        f"{folder} and {truth.source} have no {task} in common",
        expected="scores and labels, or masks and masks",
    )


def draw_scores(images: ScoredImages, *, draws: int = DRAWS) -> Drawn:
    """Returns accuracy (at a score above 0.5), AUC and AP of scores, in every draw.

    Raises:
        DataError: A class is missing.
    """
    malignant, scores = images.malignant, images.scores
    predicted = scores > _THRESHOLD
    values = [
        float((predicted == malignant).mean()),
        auc(malignant, scores),
        average_precision(malignant, scores),
    ]

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        ranking = ResampledRanking(malignant, scores, draw)
        accuracy, _, _ = resampled_rates(malignant, predicted, draw)
        return np.stack([accuracy, ranking.auc(), ranking.average_precision()], axis=1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws)
    ids = images.coverage.evaluated
    return Drawn(ids, int(malignant.sum()), _CLASS_METRICS, np.array(values), drawn)


def draw_masks(images: SegmentedImages, *, draws: int = DRAWS) -> Drawn:
    """Returns the challenge's metrics of masks, means over the images, in every draw."""
    names = list(SEGMENTATION_METRICS)
    columns = [names.index(metric) for metric in _MASK_METRICS]
    of_images = per_image(list(images.counts))[:, columns]  # (N, 5)
    strata = np.zeros(len(of_images), dtype=np.int64)
    drawn = resample(lambda draw: resampled_means(of_images, draw), strata, draws=draws)
    ids = images.coverage.evaluated
    return Drawn(ids, None, _MASK_METRICS, of_images.mean(axis=0), drawn)


def measure(seeds: Sequence[Drawn], metric: Metric) -> Measurement:
    """Returns a metric's mean over seeds, with interval and errors."""
    columns = [drawn.draws[:, drawn.column(metric)] for drawn in seeds]
    between = spread([float(drawn.values[drawn.column(metric)]) for drawn in seeds])
    mean = np.mean(columns, axis=0)  # (D,)
    interval = percentile_interval(mean)
    return Measurement(
        value=between.mean,
        low=interval.low,
        high=interval.high,
        standard_error=float(mean.std()),
        single_error=float(np.mean([column.std() for column in columns])),
        deviation=between.deviation,
        seeds=between.count,
    )


def compare_drawn(a: Sequence[Drawn], b: Sequence[Drawn], metric: Metric) -> PairedTest | None:
    """Returns the paired bootstrap of two rows, seed by seed; None unless the images are equal.

    Where one row has several replicates for each of the other's (a network per fold, against
    their ensemble), each of the other's stands for as many.
    """
    count = max(len(a), len(b))
    if not a or not b or count % len(a) or count % len(b):
        return None
    a, b = ([each for each in row for _ in range(count // len(row))] for row in (a, b))
    if any(one.image_ids != other.image_ids for one, other in zip(a, b, strict=True)):
        return None
    at = a[0].column(metric)
    differences = np.mean(
        [one.draws[:, at] - other.draws[:, at] for one, other in zip(a, b, strict=True)], axis=0
    )
    point = np.mean(
        [one.values[at] - other.values[at] for one, other in zip(a, b, strict=True)], axis=0
    )
    interval = percentile_interval(differences)
    return PairedTest(float(point), interval.low, interval.high, paired_p_value(differences))


def _only_scores(images: ScoredImages, only: Collection[str] | None) -> ScoredImages:
    if only is None:
        return images
    kept = np.array([image_id in only for image_id in images.coverage.evaluated])
    coverage = _only_covered(images.coverage, only)
    return ScoredImages(coverage, images.malignant[kept], images.scores[kept])


def _only_masks(images: SegmentedImages, only: Collection[str] | None) -> SegmentedImages:
    if only is None:
        return images
    pairs = zip(images.coverage.evaluated, images.counts, strict=True)
    counts = tuple(counts for image_id, counts in pairs if image_id in only)
    return SegmentedImages(_only_covered(images.coverage, only), counts)


def _only_covered(coverage: Coverage, only: Collection[str]) -> Coverage:
    return replace(coverage, evaluated=tuple(i for i in coverage.evaluated if i in only))
