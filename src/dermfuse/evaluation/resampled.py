"""The metrics of ``dermfuse.metrics`` in every bootstrap draw at once.

Each takes counts, (D, N): how often each of the N images is in each of the D draws; and returns
the metric in each draw, (D,). With counts of one it equals the plain metric.
"""

import numpy as np
from numpy.typing import NDArray

from dermfuse.metrics import (
    CALIBRATION_BINS,
    Counts,
    accuracy,
    calibration_bins,
    dice,
    images_needed,
    jaccard,
    sensitivity,
    specificity,
    thresholded_jaccard,
)

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
