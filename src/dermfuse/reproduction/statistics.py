"""What can be said of a difference: errors of measured and published numbers, and Holm's rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import LEVEL

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
