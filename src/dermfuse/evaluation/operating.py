"""Operating points: the thresholds a user can choose from, and what each costs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import DRAWS, percentile_interval, resample
from dermfuse.metrics import images_needed
from dermfuse.release.operating import OperatingPoint, Rate

SENSITIVITIES = (0.8, 0.9, 0.95, 0.98)
"""Of the points that are named after the sensitivity they reach."""


def choose_points(
    labels: ArrayLike, probabilities: ArrayLike, *, draws: int = DRAWS, seed: int = 0
) -> tuple[OperatingPoint, ...]:
    """Returns the operating points on images that no network was trained on.

    ``balanced`` has the largest sum of sensitivity and specificity (Youden's index); of
    ``sensitivity90`` and its kind the threshold lies half-way between the malignant image that
    completes the sensitivity and the next image below it. Sensitivity and specificity at a
    chosen threshold are measured on the images it was chosen on; the intervals choose anew in
    every draw, so that the luck of the choice is in them.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        probabilities: Calibrated, in [0, 1]. (N,)
        draws: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A class is missing.
    """
    malignant = np.asarray(labels, dtype=bool)
    values = np.asarray(probabilities, dtype=np.float64)
    if malignant.all() or not malignant.any():
        raise DataError("one class is missing", expected="benign and malignant images")
    targets: list[float | None] = [None, *SENSITIVITIES]

    def rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([_rates_of_draw(malignant, values, draw, targets) for draw in counts])

    drawn = resample(rates, malignant.astype(np.int64), draws=draws, seed=seed)
    points = []
    for index, target in enumerate(targets):
        threshold = _threshold(malignant, values, target)
        called = values >= threshold
        found = [
            Rate(float(value), interval.low, interval.high)
            for value, interval in (
                (called[malignant].mean(), percentile_interval(drawn[:, 2 * index])),
                ((~called)[~malignant].mean(), percentile_interval(drawn[:, 2 * index + 1])),
            )
        ]
        name = "balanced" if target is None else f"sensitivity{round(100 * target)}"
        points.append(OperatingPoint(name, threshold, found[0], found[1]))
    return tuple(points)


def _rates_of_draw(
    malignant: NDArray[np.bool_],
    values: NDArray[np.float64],
    counts: NDArray[np.float64],
    targets: Sequence[float | None],
) -> list[float]:
    """Returns what thresholds chosen in a draw reach on the images that it left out.

    An image that was not drawn is new to the threshold: the spread over draws is that of a
    threshold that is chosen once and met by other images.
    """
    times = counts.astype(np.int64)
    drawn_labels, drawn_values = np.repeat(malignant, times), np.repeat(values, times)
    left_out = times == 0
    found: list[float] = []
    for target in targets:
        called = values >= _threshold(drawn_labels, drawn_values, target)
        for of_class, right in ((malignant, called), (~malignant, ~called)):
            new = of_class & left_out
            found.append(float(right[new if new.any() else of_class].mean()))
    return found


def _threshold(
    malignant: NDArray[np.bool_], values: NDArray[np.float64], sensitivity: float | None
) -> float:
    """Returns the threshold, called malignant from there on, half-way to the next value below."""
    if sensitivity is None:
        at = _most_balanced(malignant, values)
    else:
        needed = images_needed(int(malignant.sum()), sensitivity)
        at = float(np.sort(values[malignant])[-needed])
    below = values[values < at]
    return float((at + below.max()) / 2) if below.size else at


def _most_balanced(malignant: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    """Returns the value at which sensitivity and specificity have the largest sum."""
    thresholds = np.unique(values)
    missed = np.searchsorted(np.sort(values[malignant]), thresholds, side="left")
    passed = np.searchsorted(np.sort(values[~malignant]), thresholds, side="left")
    youden = passed / (~malignant).sum() - missed / malignant.sum()
    return float(thresholds[np.argmax(youden)])
