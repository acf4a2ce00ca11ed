"""The bootstrap: how far a metric would move if other images of the same kind had been drawn.

A draw is kept as counts: how often each image is in it. Images are drawn with replacement within
strata (the classes), so that every draw has the classes in their true numbers and a ranking
metric is defined in all of them or in none. Two models are compared on the same draws.

The metrics of ``dermfuse.predictions.metrics`` in every bootstrap draw at once.

Each takes counts, (D, N): how often each of the N images is in each of the D draws; and returns
the metric in each draw, (D,). With counts of one it equals the plain metric.

DeLong's variance of the AUC, and the paired test of two AUCs.

DeLong, DeLong and Clarke-Pearson (Biometrics 1988); computed with midranks in O(n log n) after
Sun and Xu (IEEE Signal Processing Letters 2014).

The AUC is a mean over pairs of a malignant and a benign image. Each image has a placement, the
share of the other class that it is ordered rightly against; the AUC's variance is the variance of
the mean of the malignant placements plus that of the benign ones, and two models' AUCs covary as
their placements do. Where a class has a single image no variance can be taken.

Whether two shares differ by more than chance: Fisher's exact test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import comb, erfc, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError
from dermfuse.predictions.metrics import (
    CALIBRATION_BINS,
    Counts,
    accuracy,
    auc,
    calibration_bins,
    dice,
    images_needed,
    jaccard,
    sensitivity,
    specificity,
    thresholded_jaccard,
)

DRAWS = 2_000
"""Draws unless asked otherwise: the interval's ends then move by about 0.002 between seeds."""

LEVEL = 0.95
"""The coverage that intervals aim at."""

_CHUNK_CELLS = 2_000_000  # counts held at once: 16 MB, however many images and draws

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Counts (D, N) to the value of K metrics in each draw (D, K)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a metric lies with 95 % confidence.

    Args:
        low: The lower end.
        high: The upper end.
    """

    low: float
    high: float


def resample(
    statistic: Statistic, strata: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Returns the value of each metric in each draw, (draws, K).

    Args:
        statistic: What to take of each draw.
        strata: The stratum of each image; all equal for a plain bootstrap. (N,)
        draws: How many, 1 or more.
        seed: Equal seeds give equal draws for equal strata, whatever the statistic.

    Raises:
        DataError: ``draws`` is below 1, or there is no image.
    """
    if not strata.size:
        raise DataError("no images to draw from", expected="one image or more")
    return np.concatenate(
        [statistic(counts) for counts in draw_counts(strata, draws=draws, seed=seed)]
    )


def draw_counts(
    strata: NDArray[np.int64], *, draws: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Yields how often each image is in each draw, (D, N), until all draws are done.

    Args:
        strata: The stratum of each image. (N,)
        draws: How many, 1 or more.
        seed: Of the generator.

    Raises:
        DataError: ``draws`` is below 1.
    """
    if draws < 1:
        raise DataError(f"draws is {draws}", expected="1 or more")
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    count = strata.size
    chunk = max(1, _CHUNK_CELLS // count)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        drawn = np.concatenate(
            [ids[rng.integers(ids.size, size=(rows, ids.size))] for ids in members], axis=1
        )
        cells = drawn + count * np.arange(rows)[:, None]  # (D, N), a cell of the counts each
        counts = np.bincount(cells.ravel(), minlength=rows * count).reshape(rows, count)
        yield counts.astype(np.float64)


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Returns the interval that holds the middle 95 % of a metric's draws.

    Args:
        values: The metric in each draw. (D,)
    """
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def paired_p_value(differences: NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of "no difference" from the differences in paired draws.

    p = 2 (k + 1) / (n + 1), at most 1, where k of n draws reach or cross zero against the
    observed direction: it is never 0, as no finite number of draws could show that.

    Args:
        differences: Metric of A less metric of B in each draw. (D,)

    Example:
        >>> paired_p_value(np.full(1999, 0.1))
        0.001
    """
    against = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1.0, 2 * (against + 1) / (differences.size + 1)))


Values = NDArray[np.float64]


class ResampledRanking:
    """Ranking metrics of one set of scores, in every draw of a stratified bootstrap.

    Sorting and finding the ties is done once, for all draws.

    Args:
        malignant: Which images are malignant; both classes are there. (N,)
        scores: Higher means more likely malignant. (N,)
        counts: How often each image is in each draw. (D, N)
    """

    def __init__(self, malignant: NDArray[np.bool_], scores: Values, counts: Values) -> None:
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        # Images of equal score enter together: only the last of each tie is a threshold.
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
        found = counts[:, order] * malignant[order]
        self._found = np.cumsum(found, axis=1)[:, ends]  # (D, T) malignant at each threshold
        self._called = np.cumsum(counts[:, order], axis=1)[:, ends]  # (D, T) all of them

    def roc(self) -> tuple[Values, Values]:
        """Returns 1 - specificity and sensitivity at each threshold, (D, T + 1) each.

        They start where nothing is called malignant, at (0, 0), and end at (1, 1).
        """
        false = self._called - self._found
        rates = (false / false[:, -1:], self._found / self._found[:, -1:])
        false_rate, sensitivity = (np.pad(rate, ((0, 0), (1, 0))) for rate in rates)
        return false_rate, sensitivity

    def precision_recall(self) -> tuple[Values, Values]:
        """Returns recall and precision at each threshold, (D, T) each."""
        precision = self._found / np.maximum(self._called, 1.0)  # 0 / 0 before the first image
        return self._found / self._found[:, -1:], precision

    def average_precision(self) -> Values:
        """Returns AP in each draw."""
        gained = np.diff(self._found, axis=1, prepend=0.0)
        precision = self._found / np.maximum(self._called, 1.0)  # 0 / 0 before the first image
        return np.asarray((gained * precision).sum(axis=1) / self._found[:, -1])

    def auc(self) -> Values:
        """Returns AUC in each draw: trapezoids between thresholds."""
        false = self._called - self._found
        steps = np.diff(false, axis=1, prepend=0.0)
        before = np.concatenate([np.zeros((len(false), 1)), self._found[:, :-1]], axis=1)
        area = (steps * (self._found + before)).sum(axis=1) / 2
        return np.asarray(area / (self._found[:, -1] * false[:, -1]))

    def specificity_at_sensitivity(self, target: float) -> Values:
        """Returns specificity in each draw at the threshold that completes a sensitivity."""
        needed = images_needed(round(float(self._found[0, -1])), target)
        at = np.argmax(self._found >= needed, axis=1)[:, None]  # the first threshold that does
        false = self._called - self._found
        return 1.0 - np.take_along_axis(false, at, axis=1)[:, 0] / false[:, -1]


def resampled_rates(
    malignant: NDArray[np.bool_], predicted: NDArray[np.bool_], counts: Values
) -> tuple[Values, Values, Values]:
    """Returns accuracy, sensitivity and specificity of predicted labels in each draw."""
    right = predicted == malignant
    return (
        counts @ right / counts.sum(axis=1),
        _share(counts, right, of=malignant),
        _share(counts, right, of=~malignant),
    )


def resampled_calibration_error(
    malignant: NDArray[np.bool_], scores: Values, counts: Values
) -> Values:
    """Returns the expected calibration error in each draw."""
    bins = calibration_bins(scores)
    gaps = np.zeros((scores.size, CALIBRATION_BINS))
    gaps[np.arange(scores.size), bins] = scores - malignant
    return np.asarray(np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1))


def resampled_brier_score(malignant: NDArray[np.bool_], scores: Values, counts: Values) -> Values:
    """Returns the Brier score in each draw."""
    return np.asarray(counts @ (scores - malignant) ** 2 / counts.sum(axis=1))


SEGMENTATION_METRICS = {
    "jaccard": jaccard,
    "dice": dice,
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "thresholded_jaccard": thresholded_jaccard,
}
"""Taken per image, then averaged over the images."""


def per_image(images: list[Counts]) -> Values:
    """Returns each segmentation metric of each image, (N, 6), as ``SEGMENTATION_METRICS``."""
    return np.array([[metric(c) for metric in SEGMENTATION_METRICS.values()] for c in images])


def resampled_means(values: Values, counts: Values) -> Values:
    """Returns the mean over the images of each column of ``values`` (N, K) in each draw (D, K)."""
    return np.asarray(counts @ values / counts.sum(axis=1, keepdims=True))


def resampled_pooled_jaccard(images: list[Counts], counts: Values) -> Values:
    """Returns the Jaccard of all pixels of all images of each draw, taken as one mask."""
    shared = counts @ np.array([c.tp for c in images], dtype=np.float64)
    union = counts @ np.array([c.tp + c.fp + c.fn for c in images], dtype=np.float64)
    return np.where(union > 0, shared / np.maximum(union, 1.0), 1.0)


def _share(counts: Values, right: NDArray[np.bool_], *, of: NDArray[np.bool_]) -> Values:
    """Returns the share of a class that is right; 1 where the class is empty."""
    if not of.any():
        return np.ones(len(counts))
    return np.asarray(counts @ (right & of) / (counts @ of))


_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.96


@dataclass(frozen=True, slots=True)
class AucEstimate:
    """An AUC with DeLong's error.

    Args:
        value: The AUC.
        standard_error: The root of its variance; 0 for a perfect ranking, which DeLong's method
            cannot tell from luck.
        low: The lower end of the 95 % interval (normal approximation, cut at 0).
        high: The upper end (cut at 1).
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DelongTest:
    """DeLong's test of two models on the same images.

    Args:
        difference: AUC of A less AUC of B.
        standard_error: Of the difference.
        low: The lower end of the difference's 95 % interval.
        high: The upper end.
        p_value: Two-sided, of "no difference"; 1 for equal AUCs, None where the AUCs differ
            and the standard error is 0 (perfect rankings), for which the test has no answer.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float | None


def delong_interval(labels: ArrayLike, scores: ArrayLike) -> AucEstimate:
    """Returns the AUC of one model with its standard error and interval.

    Args:
        labels: 0 benign, 1 malignant; two or more of each. (N,)
        scores: Higher means more likely malignant. (N,)

    Raises:
        DataError: A class has fewer than two images, or the arguments do not fit.
    """
    value = auc(labels, scores)
    error = _standard_error(*_placements(labels, scores))
    return AucEstimate(value, error, max(0.0, value - _Z * error), min(1.0, value + _Z * error))


def delong_test(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> DelongTest:
    """Returns the paired test of "A and B have equal AUC".

    Args:
        labels: 0 benign, 1 malignant; two or more of each. (N,)
        scores_a: Scores of model A. (N,)
        scores_b: Scores of model B, for the same images in the same order. (N,)

    Raises:
        DataError: A class has fewer than two images, or the arguments do not fit.
    """
    difference = auc(labels, scores_a) - auc(labels, scores_b)
    found_a, left_out_a = _placements(labels, scores_a)
    found_b, left_out_b = _placements(labels, scores_b)
    # Taken of the differences, as the sum of variances and covariance cancels for like models.
    error = _standard_error(found_a - found_b, left_out_a - left_out_b)
    p_value: float | None
    if error > 0.0:
        p_value = erfc(abs(difference) / error / sqrt(2))
    else:
        p_value = 1.0 if difference == 0.0 else None
    return DelongTest(difference, error, difference - _Z * error, difference + _Z * error, p_value)


def _standard_error(found: NDArray[np.float64], left_out: NDArray[np.float64]) -> float:
    """Returns the standard error of a mean of placements, or of differences of placements.

    Args:
        found: Of the malignant images. (m,)
        left_out: Of the benign images. (n,)
    """
    if min(found.size, left_out.size) < 2:
        raise DataError(
            f"{found.size} malignant and {left_out.size} benign images",
            expected="two or more of each for DeLong's variance",
        )
    error = sqrt(np.var(found, ddof=1) / found.size + np.var(left_out, ddof=1) / left_out.size)
    # Rounding leaves 1e-17 where nothing varies, which would be read as certainty.
    return error if error > 1e-12 else 0.0


def _placements(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns each malignant image's share of benign ones below it, and the reverse.

    A rank among all images less the rank within the own class counts the other class below.
    """
    malignant, values = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    ranks = _midranks(values)
    below = ranks[malignant] - _midranks(values[malignant])  # benign ones, ties as one half
    above = ranks[~malignant] - _midranks(values[~malignant])  # malignant ones not above
    return below / above.size, 1.0 - above / below.size


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns ranks from 1; equal values share the mean of theirs."""
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[inverse])


def fisher_p_value(hits_a: int, count_a: int, hits_b: int, count_b: int) -> float:
    """Returns the two-sided p-value of "both groups are hit alike".

    Of all ways in which as many hits could fall on the two groups, it is the share of those that
    are no likelier than what was seen.

    Args:
        hits_a: Of the first group, 0 to ``count_a``.
        count_a: Size of the first group.
        hits_b: Of the second group, 0 to ``count_b``.
        count_b: Size of the second group.

    Example:
        >>> round(fisher_p_value(3, 4, 1, 4), 4)  # the lady tasting tea, two-sided
        0.4857
    """
    hits = hits_a + hits_b
    fewest, most = max(0, hits - count_b), min(hits, count_a)
    ways = [comb(count_a, k) * comb(count_b, hits - k) for k in range(fewest, most + 1)]
    seen = ways[hits_a - fewest]
    as_odd = sum(way for way in ways if way <= seen)
    return as_odd / sum(ways)
