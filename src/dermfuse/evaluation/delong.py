"""DeLong's variance of the AUC, and the paired test of two AUCs.

DeLong, DeLong and Clarke-Pearson (Biometrics 1988); computed with midranks in O(n log n) after
Sun and Xu (IEEE Signal Processing Letters 2014).

The AUC is a mean over pairs of a malignant and a benign image. Each image has a placement, the
share of the other class that it is ordered rightly against; the AUC's variance is the variance of
the mean of the malignant placements plus that of the benign ones, and two models' AUCs covary as
their placements do. Where a class has a single image no variance can be taken.
"""

from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import LEVEL
from dermfuse.metrics import auc

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
