"""From predictions to numbers: each metric, its bootstrap draws, and the mean over seeds.

All models that predict the same images see the same draws, so that two of them are compared
draw by draw, and the seeds of one are averaged draw by draw.

What can be said of a difference: errors of measured and published numbers, and Holm's rule.

Counts of predicted masks, kept beside them: reading large masks twice is slow.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Task
from dermfuse.data.folders import Truth
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    LEVEL,
    SEGMENTATION_METRICS,
    ResampledRanking,
    paired_p_value,
    per_image,
    percentile_interval,
    resample,
    resampled_means,
    resampled_rates,
)
from dermfuse.evaluation.matching import (
    Coverage,
    ScoredImages,
    SegmentedImages,
    match_masks,
    match_scores,
)
from dermfuse.folders import write_text
from dermfuse.predictions.folder import MANIFEST_NAME, read_predictions
from dermfuse.predictions.metrics import Counts, auc, average_precision
from dermfuse.reproduction.paper import Metric

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""1.96: half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The same number from several seeds.

    Args:
        mean: Over the seeds.
        deviation: Standard deviation between seeds; None of a single one.
        count: How many seeds.
    """

    mean: float
    deviation: float | None
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and standard deviation of one number per seed.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, deviation=1.0, count=3)
    """
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns Holm's corrected p-values of one family of tests, in the order given.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below the one
    before it, none above 1. Below 0.05 they keep the chance of one false finding in the whole
    family below 0.05, whatever the tests have in common.

    Example:
        >>> holm([0.25, 0.125, 0.5])
        (0.5, 0.375, 0.5)
    """
    count = len(p_values)
    corrected = [1.0] * count
    highest = 0.0
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = highest
    return tuple(corrected)


def auc_error(auc: float, *, malignant: int, benign: int) -> float:
    """Returns the standard error of a published AUC, which is all there is to know it from.

    Hanley and McNeil (Radiology 1982): with Q1 = A / (2 - A) and Q2 = 2 A^2 / (1 + A),
    the variance is (A (1 - A) + (m - 1)(Q1 - A^2) + (n - 1)(Q2 - A^2)) / (m n).

    Args:
        auc: In [0, 1].
        malignant: m, 1 or more.
        benign: n, 1 or more.

    Raises:
        DataError: A class is empty.

    Example:
        >>> round(auc_error(0.845, malignant=75, benign=304), 4)
        0.0293
    """
    if min(malignant, benign) < 1:
        raise DataError(f"{malignant} malignant and {benign} benign images", expected="both")
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    parts = auc * (1 - auc) + (malignant - 1) * (q1 - auc**2) + (benign - 1) * (q2 - auc**2)
    return sqrt(max(parts, 0.0) / (malignant * benign))


def share_error(share: float, count: int) -> float:
    """Returns the standard error of a share of ``count`` images that are right.

    Example:
        >>> share_error(0.5, 100)
        0.05
    """
    return sqrt(share * (1 - share) / count)


def rescaled_error(error: float, count: int, other_count: int) -> float:
    """Returns the standard error that other images would give, if as many as ``other_count``.

    Args:
        error: On ``count`` images of the kind that limits the metric.
        count: How many these were.
        other_count: How many there are of them elsewhere.

    Example:
        >>> rescaled_error(0.02, 400, 100)
        0.04
    """
    return error * sqrt(count / other_count)


def noise_margin(*errors: float | None) -> float:
    """Returns how far apart two numbers may lie by chance: 1.96 times their errors' root sum.

    Example:
        >>> round(noise_margin(0.03, None, 0.04), 3)
        0.098
    """
    return Z * sqrt(sum(error**2 for error in errors if error is not None))


_COLUMNS = ("tp", "fp", "tn", "fn")


def count_folder(folder: Path, truth: Truth) -> SegmentedImages | None:
    """Returns the counts of every mask of a predictions folder; None where there are none.

    They are kept in ``<folder>-counts.csv`` and read from there while that is younger than the
    predictions.

    Raises:
        DermfuseError: The masks cannot be read or do not fit the truth.
    """
    kept, made = folder.with_name(f"{folder.name}-counts.csv"), folder / MANIFEST_NAME
    if kept.is_file() and kept.stat().st_mtime_ns >= made.stat().st_mtime_ns:
        return _read(kept, truth)
    counted = match_masks(read_predictions(folder), truth)
    if counted is not None:
        rows = zip(counted.coverage.evaluated, counted.counts, strict=True)
        lines = [f"{image_id},{c.tp},{c.fp},{c.tn},{c.fn}" for image_id, c in rows]
        write_text(kept, "\n".join([f"image_id,{','.join(_COLUMNS)}", *lines]) + "\n")
    return counted


def _read(kept: Path, truth: Truth) -> SegmentedImages:
    with kept.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = tuple(row["image_id"] for row in rows)
    counts = tuple(Counts(**{column: int(row[column]) for column in _COLUMNS}) for row in rows)
    return SegmentedImages(Coverage(ids, (), (), len(truth.masks)), counts)


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
