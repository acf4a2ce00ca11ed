"""The bootstrap: how far a metric would move if other images of the same kind had been drawn.

A draw is kept as counts: how often each image is in it, (D, N) for D draws of N images. Images are
drawn with replacement within strata (the classes), so that every draw has the classes in their
true numbers and a ranking metric is defined in all of them or in none. Two models are compared on
the same draws. With counts of one, each statistic equals the plain metric of
``dermfuse.predictions.metrics``.

Beside it DeLong's variance of the AUC (Biometrics 1988), with midranks in O(n log n) after Sun and
Xu (IEEE Signal Processing Letters 2014), and Fisher's exact test of two shares. The AUC is a mean
over pairs of a malignant and a benign image. Each image has a placement, the share of the other
class that it is ordered rightly against; the AUC's variance is the variance of the mean of the
malignant placements plus that of the benign ones, and two models' AUCs covary as their placements
do. Where a class has a single image no variance can be taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb, erfc, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import ConfigError, DataError
from dermfuse.predictions.metrics import (
    CALIBRATION_BINS,
    Counts,
    accuracy,
    auc,
    average_precision,
    calibration_bins,
    dice,
    images_needed,
    jaccard,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
    thresholded_jaccard,
)
from dermfuse.records import Estimate, PairedTest

DRAWS = 2_000
"""Draws unless asked otherwise: the interval's ends then move by about 0.002 between seeds."""
LEVEL = 0.95
"""The coverage that intervals aim at."""
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""1.96: half the width of a 95 % interval, in standard errors."""

SEGMENTATION_METRICS = {
    "jaccard": jaccard,
    "dice": dice,
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "thresholded_jaccard": thresholded_jaccard,
}
"""Taken per image, then averaged over the images."""

_CHUNK_CELLS = 2_000_000  # counts held at once: 16 MB, however many images and draws

Flags = NDArray[np.bool_]
Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Counts (D, N) to the value of K metrics in each draw (D, K)."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Metrics of some images, and of every bootstrap draw of them.

    Attributes:
        names: Names of the K metrics.
        values: On the images themselves. (K,)
        draws: In each draw. (D, K)
    """

    names: tuple[str, ...]
    values: Values
    draws: Values

    def column(self, name: str) -> tuple[float, Values]:
        """Returns a metric on the images themselves, and in each draw."""
        at = self.names.index(name)
        return float(self.values[at]), self.draws[:, at]

    def estimates(self) -> dict[str, Estimate]:
        """Returns each metric with its interval."""
        ends = percentile_interval(self.draws)
        columns = zip(self.names, self.values.tolist(), *ends.tolist(), strict=True)
        return {name: Estimate(value, low, high) for name, value, low, high in columns}

    def less(self, other: "Drawn") -> "Drawn":
        """Returns by how much each metric is larger than another model's, on the same draws."""
        return Drawn(self.names, self.values - other.values, self.draws - other.draws)


def draw_ranking(
    malignant: Flags,
    scores: Values,
    *,
    sensitivities: Sequence[float] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Drawn:
    """Returns AP and AUC of scores, then the specificity at each sensitivity asked for.

    Args:
        malignant: Labels. (N,)
        scores: Higher means more likely malignant. (N,)
        sensitivities: Each in (0, 1].
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.

    Raises:
        DataError: A class is missing.
    """
    values = [
        average_precision(malignant, scores),
        auc(malignant, scores),
        *(specificity_at_sensitivity(malignant, scores, one) for one in sensitivities),
    ]

    def statistic(counts: Values) -> Values:
        ranking = ResampledRanking(malignant, scores, counts)
        at = [ranking.specificity_at_sensitivity(one) for one in sensitivities]
        return np.stack([ranking.average_precision(), ranking.auc(), *at], axis=1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    names = ("average_precision", "auc", *(f"specificity_at_{one}" for one in sensitivities))
    return Drawn(names, np.array(values), drawn)


def draw_calls(
    malignant: Flags, scores: Values, called: Flags, *, draws: int = DRAWS, seed: int = 0
) -> Drawn:
    """Returns accuracy, sensitivity and specificity of calls, and how far scores are calibrated.

    Args:
        malignant: Labels. (N,)
        scores: Probabilities of malignancy. (N,)
        called: Which images are called malignant. (N,)
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.
    """
    right, every = called == malignant, np.ones(len(malignant))
    shares = {
        "accuracy": (right, every),
        "sensitivity": (right & malignant, malignant),
        "specificity": (right & ~malignant, ~malignant),
        "brier_score": ((scores - malignant) ** 2, every),
    }
    gaps = np.zeros((scores.size, CALIBRATION_BINS))
    gaps[np.arange(scores.size), calibration_bins(scores)] = scores - malignant

    def statistic(counts: Values) -> Values:
        error = np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)
        return np.column_stack([_shares(shares, counts), error])

    names = (*shares, "expected_calibration_error")
    return _draw(names, statistic, malignant.astype(np.int64), draws=draws, seed=seed)


def draw_masks(images: Sequence[Counts], *, draws: int = DRAWS, seed: int = 0) -> Drawn:
    """Returns the segmentation metrics of counted masks: means over the images, and pooled."""
    every = np.ones(len(images))
    shares: dict[str, tuple[ArrayLike, ArrayLike]] = {
        name: ([metric(one) for one in images], every)
        for name, metric in SEGMENTATION_METRICS.items()
    }
    shares["pooled_jaccard"] = (
        [one.tp for one in images],
        [one.tp + one.fp + one.fn for one in images],
    )
    return draw_shares(shares, every, draws=draws, seed=seed)


def draw_shares(
    shares: Mapping[str, tuple[ArrayLike, ArrayLike]],
    strata: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Drawn:
    """Returns sums over images as shares of other sums; 1 where there is nothing to share.

    Args:
        shares: By name what is summed up, and the whole; a mean has a whole of ones. (N,) each
        strata: The stratum of each image; all equal for a plain bootstrap. (N,)
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.
    """
    return _draw(
        tuple(shares),
        lambda counts: _shares(shares, counts),
        np.asarray(strata, dtype=np.int64),
        draws=draws,
        seed=seed,
    )


def resample(
    statistic: Statistic, strata: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0
) -> Values:
    """Returns the value of each metric in each draw, (draws, K).

    Args:
        statistic: What to take of each draw.
        strata: The stratum of each image; all equal for a plain bootstrap. (N,)
        draws: How many, 1 or more.
        seed: Equal seeds give equal draws for equal strata, whatever the statistic.

    Raises:
        ConfigError: ``draws`` is below 1.
        DataError: There is no image.
    """
    check_draws(draws)
    if not strata.size:
        raise DataError("no images to draw from", expected="one image or more")
    return np.concatenate(
        [statistic(counts) for counts in draw_counts(strata, draws=draws, seed=seed)]
    )


def check_draws(draws: int) -> None:
    """Raises ConfigError unless there are draws to take."""
    if draws < 1:
        raise ConfigError(f"draws is {draws}", expected="1 or more")


def draw_counts(strata: NDArray[np.int64], *, draws: int, seed: int) -> Iterator[Values]:
    """Yields how often each image is in each draw, (D, N), until all draws are done.

    Args:
        strata: The stratum of each image. (N,)
        draws: How many, 1 or more.
        seed: Seed of the generator.
    """
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


def percentile_interval(draws: Values) -> Values:
    """Returns the ends of the interval that holds the middle 95 % of the draws of each metric.

    Args:
        draws: The metrics in each draw. (D, K)

    Returns:
        The lower ends, then the upper ends. (2, K)
    """
    tail = 100 * (1 - LEVEL) / 2
    return np.asarray(np.percentile(draws, [tail, 100 - tail], axis=0))


def paired_test(a: Drawn, b: Drawn, name: str) -> PairedTest:
    """Returns the paired bootstrap of a metric of two models, on the same draws."""
    difference = a.less(b)
    of_a, of_b = (drawn.column(name)[0] for drawn in (a, b))
    p_value = paired_p_value(difference.column(name)[1])
    return PairedTest(of_a, of_b, difference.estimates()[name], p_value)


def paired_p_value(differences: Values) -> float:
    """Returns the two-sided p-value of "no difference" from the differences in paired draws.

    p = 2 (k + 1) / (n + 1), at most 1, where k of n draws reach or cross zero against the
    observed direction: it is never 0, as no finite number of draws could show that.

    Args:
        differences: Metric of A less metric of B in each draw. (D,)

    Example:
        >>> paired_p_value(np.full(1999, 0.1))
        0.001
    """
    exact = np.round(differences, 12)  # rounding leaves 1e-17 where two models agree
    against = min(np.count_nonzero(exact <= 0), np.count_nonzero(exact >= 0))
    return float(min(1.0, 2 * (against + 1) / (differences.size + 1)))


class ResampledRanking:
    """Ranking metrics of one set of scores, in every draw of a stratified bootstrap.

    Sorting and finding the ties is done once, for all draws.

    Args:
        malignant: Which images are malignant; both classes are there. (N,)
        scores: Higher means more likely malignant. (N,)
        counts: How often each image is in each draw. (D, N)
    """

    def __init__(self, malignant: Flags, scores: Values, counts: Values) -> None:
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
        _, precision = self.precision_recall()
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


@dataclass(frozen=True, slots=True)
class AucEstimate(Estimate):
    """An AUC, or a difference of two, with DeLong's interval: the normal approximation.

    Args:
        standard_error: The root of its variance; 0 for a perfect ranking, which DeLong's method
            cannot tell from luck.
    """

    standard_error: float


def delong_interval(labels: ArrayLike, scores: ArrayLike) -> AucEstimate:
    """Returns the AUC of one model with its standard error and interval, cut at 0 and 1.

    Args:
        labels: 0 benign, 1 malignant; two or more of each. (N,)
        scores: Higher means more likely malignant. (N,)

    Raises:
        DataError: A class has fewer than two images, or the arguments do not fit.
    """
    value = auc(labels, scores)
    error = _standard_error(*_placements(labels, scores))
    return AucEstimate(value, max(0.0, value - Z * error), min(1.0, value + Z * error), error)


def delong_test(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> PairedTest:
    """Returns the paired test of "A and B have equal AUC"; the difference has a standard error.

    The p-value is 1 for equal AUCs, and None where the AUCs differ and the standard error is 0
    (perfect rankings).

    Args:
        labels: 0 benign, 1 malignant; two or more of each. (N,)
        scores_a: Scores of model A. (N,)
        scores_b: Scores of model B, for the same images in the same order. (N,)

    Raises:
        DataError: A class has fewer than two images, or the arguments do not fit.
    """
    of_a, of_b = auc(labels, scores_a), auc(labels, scores_b)
    value = of_a - of_b
    placed = zip(_placements(labels, scores_a), _placements(labels, scores_b), strict=True)
    # Taken of the differences, as the sum of variances and covariance cancels for like models.
    error = _standard_error(*(a - b for a, b in placed))
    if error > 0.0:
        p_value: float | None = erfc(abs(value) / error / sqrt(2))
    else:
        p_value = 1.0 if value == 0.0 else None
    difference = AucEstimate(value, value - Z * error, value + Z * error, error)
    return PairedTest(of_a, of_b, difference, p_value)


def fisher_p_value(hits_a: int, count_a: int, hits_b: int, count_b: int) -> float:
    """Returns the two-sided p-value of "both groups are hit alike".

    Of all ways in which as many hits could fall on the two groups, it is the share of those that
    are no likelier than what was seen.

    Args:
        hits_a: Hits in the first group, 0 to ``count_a``.
        count_a: Size of the first group.
        hits_b: Hits in the second group, 0 to ``count_b``.
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


def _draw(
    names: tuple[str, ...],
    statistic: Statistic,
    strata: NDArray[np.int64],
    *,
    draws: int,
    seed: int,
) -> Drawn:
    drawn = resample(statistic, strata, draws=draws, seed=seed)
    return Drawn(names, statistic(np.ones((1, strata.size)))[0], drawn)


def _shares(shares: Mapping[str, tuple[ArrayLike, ArrayLike]], counts: Values) -> Values:
    parts, wholes = (
        counts @ np.stack([np.asarray(pair[at], dtype=np.float64) for pair in shares.values()], 1)
        for at in (0, 1)
    )
    return np.divide(parts, wholes, out=np.ones_like(parts), where=wholes > 0)


def _standard_error(found: Values, left_out: Values) -> float:
    """Returns the standard error of a mean of placements, or of differences of placements.

    Args:
        found: Placements of the malignant images. (m,)
        left_out: Placements of the benign images. (n,)
    """
    if min(found.size, left_out.size) < 2:
        raise DataError(
            f"{found.size} malignant and {left_out.size} benign images",
            expected="two or more of each for DeLong's variance",
        )
    error = sqrt(np.var(found, ddof=1) / found.size + np.var(left_out, ddof=1) / left_out.size)
    # Rounding leaves 1e-17 where nothing varies, which would be read as certainty.
    return error if error > 1e-12 else 0.0


def _placements(labels: ArrayLike, scores: ArrayLike) -> tuple[Values, Values]:
    """Returns each malignant image's share of benign ones below it, and the reverse.

    A rank among all images less the rank within the own class counts the other class below.
    """
    malignant, values = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    ranks = _midranks(values)
    below = ranks[malignant] - _midranks(values[malignant])  # benign ones, ties as one half
    above = ranks[~malignant] - _midranks(values[~malignant])  # malignant ones not above
    return below / above.size, 1.0 - above / below.size


def _midranks(values: Values) -> Values:
    """Returns ranks from 1; equal values share the mean of theirs."""
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[inverse])
