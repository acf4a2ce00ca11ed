"""The bootstrap: how far a metric would move if other images of the same kind had been drawn.

A draw is kept as counts: how often each image is in it. Images are drawn with replacement within
strata (the classes), so that every draw has the classes in their true numbers and a ranking
metric is defined in all of them or in none. Two models are compared on the same draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import DataError

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
