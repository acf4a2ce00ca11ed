"""ROC and precision-recall curves of scores, as lines of a chart."""

import numpy as np
from numpy.typing import NDArray

from dermfuse.report.chart import Series


def roc_series(name: str, malignant: NDArray[np.bool_], scores: NDArray[np.float64]) -> Series:
    """Returns sensitivity over 1 - specificity, from the highest threshold to the lowest.

    The area under the line is the AUC: images of equal score are joined by a straight line.

    Args:
        name: For the legend.
        malignant: Labels, both classes among them. (N,)
        scores: Higher means more likely malignant. (N,)
    """
    found, called = _found_and_called(malignant, scores)
    false = called - found
    return Series(name, _from_zero(false / false[-1]), _from_zero(found / found[-1]))


def precision_recall_series(
    name: str, malignant: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Series:
    """Returns precision over sensitivity; the area under its steps is the average precision.

    Args:
        name: For the legend.
        malignant: Labels, at least one malignant. (N,)
        scores: Higher means more likely malignant. (N,)
    """
    found, called = _found_and_called(malignant, scores)
    precision, recall = found / called, found / found[-1]
    # Average precision weighs a gain of recall by the precision at its end: the step to a recall
    # is drawn at that height, so each precision stands from the recall before.
    start = np.concatenate([[0.0], recall[:-1]])
    return Series(
        name,
        np.stack([start, recall], axis=1).ravel(),
        np.repeat(precision, 2),
    )


def _found_and_called(
    malignant: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns how many malignant images are found and how many called, at each threshold."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(malignant[order])[last_of_tie]
    return found.astype(np.float64), (last_of_tie + 1).astype(np.float64)


def _from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], values])
