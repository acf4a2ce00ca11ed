"""Numbers of a release with their 95 % intervals, as JSON values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.evaluation.bootstrap import Interval, percentile_interval, resample
from dermfuse.evaluation.resampled import ResampledRanking
from dermfuse.metrics import auc, average_precision

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def rank(malignant: Flags, scores: Values) -> dict[str, Any]:
    """Returns AUC and AP of scores.

    Args:
        malignant: (N,)
        scores: (N,)
    """
    return _named(_ranked(malignant, scores), _draw_ranking(malignant, scores))


def gain_in_ranking(malignant: Flags, scores: Values, before: Values) -> dict[str, Any]:
    """Returns by how much scores rank the same images better than others do, paired.

    Args:
        malignant: (N,)
        scores: (N,)
        before: (N,)
    """
    values = _ranked(malignant, scores) - _ranked(malignant, before)
    drawn = _draw_ranking(malignant, scores) - _draw_ranking(malignant, before)
    return _named(values, drawn)


def mean(values: Values) -> dict[str, float]:
    """Returns the mean over images; of differences it is the paired difference.

    Args:
        values: (N,)
    """

    def statistic(draw: Values) -> Values:
        return np.asarray(draw @ values / draw.sum(axis=1))[:, None]

    drawn = resample(statistic, np.zeros(values.size, dtype=np.int64))
    return _rate(float(values.mean()), percentile_interval(drawn[:, 0]))


def _ranked(malignant: Flags, scores: Values) -> Values:
    return np.array([auc(malignant, scores), average_precision(malignant, scores)])


def _draw_ranking(malignant: Flags, scores: Values) -> Values:
    def statistic(draw: Values) -> Values:
        ranking = ResampledRanking(malignant, scores, draw)
        return np.stack([ranking.auc(), ranking.average_precision()], axis=1)

    return resample(statistic, malignant.astype(np.int64))


def _named(values: Values, drawn: Values) -> dict[str, Any]:
    return {
        name: _rate(float(values[index]), percentile_interval(drawn[:, index]))
        for index, name in enumerate(("auc", "average_precision"))
    }


def _rate(value: float, interval: Interval) -> dict[str, float]:
    return {"value": value, "low": interval.low, "high": interval.high}
