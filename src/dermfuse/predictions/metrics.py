"""The challenge's metrics, on arrays: counts and what follows from them, and rankings.

Segmentation metrics are taken per image and averaged over the images. Cases that the formulas
leave undefined are decided as the challenge decides them, in favour of the prediction: with
nothing to find (no lesion in the truth) sensitivity is 1, with nothing to leave out specificity
is 1, and two empty masks agree fully (Jaccard and Dice 1). A ranking metric without both classes
has no meaning and no such convention: it is refused.

Example:
    >>> truth = np.array([[1, 1, 0, 0]], dtype=bool)
    >>> predicted = np.array([[1, 0, 1, 0]], dtype=bool)
    >>> jaccard(count(predicted, truth))  # one pixel shared, three in the union
    0.3333333333333333
    >>> auc([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])  # 3 of the 4 pairs are in order
    0.75
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError

SENSITIVITIES = (0.82, 0.95, 0.98, 0.99)
"""Where the challenge of 2016 reports specificity."""

CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error."""

JACCARD_THRESHOLD = 0.65
"""Below this Jaccard an image counts as failed (the challenges from 2018 on)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pixels, or images, were predicted rightly and wrongly; "true" means lesion."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def total(self) -> int:
        """All pixels, or images."""
        return self.tp + self.fp + self.tn + self.fn

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.tn + other.tn, self.fn + other.fn
        )


def count(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Counts:
    """Returns the counts of a predicted mask (or of predicted labels) against the truth.

    Raises:
        DataError: The shapes differ.
    """
    if predicted.shape != truth.shape:
        raise DataError(
            f"a prediction of shape {predicted.shape} for a truth of shape {truth.shape}",
            expected="equal shapes",
        )
    tp = int(np.count_nonzero(predicted & truth))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp=tp, fp=fp, tn=truth.size - tp - fp - fn, fn=fn)


def accuracy(counts: Counts) -> float:
    """Returns AC = (TP + TN) / all; 1 where there is nothing to predict."""
    return _ratio(counts.tp + counts.tn, counts.total)


def sensitivity(counts: Counts) -> float:
    """Returns SE = TP / (TP + FN); 1 where there is nothing to find."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Counts) -> float:
    """Returns SP = TN / (TN + FP), not as equation 12 misprints it; 1 with nothing to leave out."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def jaccard(counts: Counts) -> float:
    """Returns JA = TP / (TP + FP + FN); two empty masks agree fully."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def dice(counts: Counts) -> float:
    """Returns DI = 2 TP / (2 TP + FP + FN); two empty masks agree fully."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def thresholded_jaccard(counts: Counts) -> float:
    """Returns the Jaccard of an image, or 0 where it is below 0.65."""
    value = jaccard(counts)
    return value if value >= JACCARD_THRESHOLD else 0.0


def pooled_jaccard(images: Iterable[Counts]) -> float:
    """Returns the Jaccard of all pixels of all images taken as one mask."""
    return jaccard(sum(images, Counts(0, 0, 0, 0)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns AP = sum over thresholds of (recall gained) x (precision there).

    No interpolation; images of equal score enter together. It is the challenge's ranking score.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Higher means more likely malignant. (N,)

    Raises:
        DataError: There is no malignant image, or the arguments do not fit.

    Example:
        >>> average_precision([0, 1, 1], [0.2, 0.5, 0.9])
        1.0
    """
    malignant, values = _check(labels, scores)
    _require(malignant.any(), "average precision", "malignant")
    truth, last_of_tie = _ranked(malignant, values)
    found = np.cumsum(truth)[last_of_tie]
    precision = found / (last_of_tie + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / found[-1])


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the area under the ROC curve, exactly: ties between the classes count one half.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Higher means more likely malignant. (N,)

    Raises:
        DataError: A class is missing, or the arguments do not fit.
    """
    malignant, values = _check_both_classes(labels, scores, "AUC")
    benign_scores = np.sort(values[~malignant])
    below = np.searchsorted(benign_scores, values[malignant], side="left")
    not_above = np.searchsorted(benign_scores, values[malignant], side="right")
    pairs = int(malignant.sum()) * benign_scores.size
    return float((below.sum() + not_above.sum()) / (2 * pairs))


def specificity_at_sensitivity(labels: ArrayLike, scores: ArrayLike, sensitivity: float) -> float:
    """Returns the best specificity of the thresholds that reach a sensitivity; no interpolation.

    An image is malignant at score >= threshold; the threshold is the score of the malignant image
    that completes the sensitivity asked for.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Higher means more likely malignant. (N,)
        sensitivity: Fraction of malignant images to find, in (0, 1].

    Raises:
        DataError: A class is missing, or the arguments do not fit.
    """
    malignant, values = _check_both_classes(labels, scores, "specificity at a sensitivity")
    needed = images_needed(int(malignant.sum()), sensitivity)
    threshold = np.sort(values[malignant])[-needed]
    return float(np.mean(values[~malignant] < threshold))


def images_needed(malignant_count: int, sensitivity: float) -> int:
    """Returns how many malignant images must be found to reach a sensitivity; at least one."""
    if not 0.0 < sensitivity <= 1.0:
        raise DataError(f"sensitivity {sensitivity}", expected="a number in (0, 1]")
    # 0.82 x 50 is 41 and not 41.000000000000001: without the margin a ceiling asks for 42.
    return max(1, ceil(sensitivity * malignant_count - 1e-9))


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the mean distance between score and malignant fraction, over bins of the score.

    ECE = sum_b (n_b / N) |mean score in b - malignant fraction in b|, over 15 bins of equal width;
    bin b holds b/15 <= score < (b+1)/15, the last one also score 1.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Probability of malignant, in [0, 1]. (N,)

    Raises:
        DataError: The arguments do not fit.
    """
    malignant, values = _check(labels, scores)
    gaps = np.bincount(
        calibration_bins(values), weights=values - malignant, minlength=CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / values.size)


def calibration_bins(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the bin of the calibration error, 0 to 14, into which each score falls."""
    bins = np.floor(scores * CALIBRATION_BINS).astype(np.int64)
    return np.clip(bins, 0, CALIBRATION_BINS - 1)


def brier_score(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the mean squared distance between score and label; 0 is best.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Probability of malignant, in [0, 1]. (N,)

    Raises:
        DataError: The arguments do not fit.
    """
    malignant, values = _check(labels, scores)
    return float(np.mean((values - malignant) ** 2))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _ranked(
    malignant: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Returns the labels from the highest score down, and where each run of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(ranked[1:] != ranked[:-1])
    return malignant[order], np.append(ends, ranked.size - 1).astype(np.int64)


def _check(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not truth.size:
        raise DataError(
            f"labels of shape {truth.shape} and scores of shape {values.shape}",
            expected="one label and one score for each of one or more images",
        )
    if not np.isin(truth, (0, 1)).all():
        raise DataError("labels other than 0 and 1", expected="0 benign, 1 malignant")
    if not np.isfinite(values).all():
        raise DataError("a score that is not finite", expected="finite scores")
    return truth.astype(np.bool_), values


def _check_both_classes(
    labels: ArrayLike, scores: ArrayLike, metric: str
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    malignant, values = _check(labels, scores)
    _require(malignant.any(), metric, "malignant")
    _require(not malignant.all(), metric, "benign")
    return malignant, values


def _require(present: bool | np.bool_, metric: str, name: str) -> None:
    if not present:
        raise DataError(
            f"{metric} is not defined: there is no {name} image",
            expected=f"one {name} image or more",
        )
