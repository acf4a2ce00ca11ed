"""From scores of images that no network was trained on to probabilities and calls.

A calibration, the operating points that a user can choose from and what each costs, and how much
each of several networks should count in the mean of their scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import DRAWS, Flags, Values, percentile_interval, resample
from dermfuse.predictions.metrics import (
    CALIBRATION_BINS,
    calibration_bins,
    expected_calibration_error,
    images_needed,
)
from dermfuse.records import Estimate
from dermfuse.release.folder import Calibration, OperatingPoint, Rate, logit_of, probability_of

_STEPS, _ENOUGH = 100, 1e-10
_RIDGE = 1e-6  # keeps Newton's step finite where the scores separate the classes
_FOLDS = 10

SENSITIVITIES = (0.8, 0.9, 0.95, 0.98)
"""Of the points that are named after the sensitivity they reach."""

_WEIGHT_STEPS = 200
_FIRST_STEP, _SMALLEST_STEP = 4.0, 1e-4
_DIGITS = 3  # finer weights fit the images at hand and no others


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration and what it does.

    Args:
        calibration: Fitted to all images.
        images: How many.
        malignant: How many of them are malignant.
        error_before: Expected calibration error of the scores as they are.
        error_of_temperature: The same after temperature scaling alone, out of fold.
        error_after: The same after the whole calibration, out of fold.
        mean_before: Mean score, beside the malignant fraction that it should equal.
        mean_after: Mean probability, out of fold.
    """

    calibration: Calibration
    images: int
    malignant: int
    error_before: float
    error_of_temperature: float
    error_after: float
    mean_before: float
    mean_after: float


def fit_calibration(labels: ArrayLike, scores: ArrayLike, *, bias: bool = True) -> Calibration:
    """Returns the calibration under which the labels are likeliest.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Scores of images that were not trained on, in [0, 1]. (N,)
        bias: Whether the balance is fitted too, or the temperature alone.

    Raises:
        DataError: A class is missing, or higher scores do not go with malignancy: no temperature
            above 0 fits then.
    """
    truth, logits = np.asarray(labels, dtype=np.float64), logit_of(scores)
    if not 0 < truth.sum() < truth.size:
        raise DataError(
            "one class is missing, so no calibration can be fitted",
            expected="benign and malignant images",
        )
    slope, offset = _maximise(logits, truth, bias=bias)
    if slope <= 0:
        raise DataError(
            "higher scores do not go with malignancy, so no temperature fits them",
            expected="scores that rank better than chance",
            action="Train longer, or check that scores and labels belong together",
        )
    return Calibration(temperature=1.0 / slope, bias=offset)


def calibrate(
    labels: ArrayLike, scores: ArrayLike, out_of_fold: Values, *, seed: int = 0
) -> CalibrationReport:
    """Returns the calibration of scores, and its error before and after.

    Args:
        labels: 0 benign, 1 malignant; ten or more of each. (N,)
        scores: Scores of images that were not trained on, in [0, 1]. (N,)
        out_of_fold: Their probabilities, each by a line that was fitted to other images. (N,)
        seed: Seed of the folds on which temperature scaling alone is measured.

    Raises:
        DataError: See ``fit_calibration``; or there are fewer than ten images of a class.
    """
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    malignant = int(truth.sum())
    if min(malignant, truth.size - malignant) < _FOLDS:
        raise DataError(
            f"{malignant} malignant and {truth.size - malignant} benign images",
            expected=f"{_FOLDS} or more of each, to measure a calibration out of fold",
        )
    folds, scaled = draw_folds(truth, seed=seed), np.empty_like(values)
    for number in range(_FOLDS):
        own = folds == number
        scaled[own] = fit_calibration(truth[~own], values[~own], bias=False)(values[own])
    return CalibrationReport(
        calibration=fit_calibration(truth, values),
        images=truth.size,
        malignant=malignant,
        error_before=expected_calibration_error(truth, values),
        error_of_temperature=expected_calibration_error(truth, scaled),
        error_after=expected_calibration_error(truth, out_of_fold),
        mean_before=float(values.mean()),
        mean_after=float(out_of_fold.mean()),
    )


def error_if_perfect(probabilities: ArrayLike, *, draws: int = 1_000, seed: int = 0) -> Estimate:
    """Returns the calibration error that these probabilities show where they hold exactly.

    It is not 0: of few images the malignant share of a bin differs from its mean probability by
    chance. Labels are drawn from the probabilities themselves.

    Args:
        probabilities: Of malignant, in [0, 1]. (N,)
        draws: How often labels are drawn.
        seed: Seed of the draws.

    Returns:
        The mean over the draws, and the ends between which 95 % of them lie.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    malignant = np.random.default_rng(seed).random((draws, values.size)) < values
    in_bin = np.eye(CALIBRATION_BINS)[calibration_bins(values)]  # (N, bins)
    errors = np.abs((values - malignant) @ in_bin).sum(axis=1) / values.size
    return Estimate(float(errors.mean()), *percentile_interval(errors).tolist())


def draw_folds(labels: ArrayLike, *, folds: int = _FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Returns the fold of each image, from 0; every class is spread evenly.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        folds: How many.
        seed: Seed of the draw.
    """
    truth = np.asarray(labels, dtype=np.int64)
    rng = np.random.default_rng(seed)
    fold = np.empty(truth.size, dtype=np.int64)
    for label in (0, 1):
        members = rng.permutation(np.flatnonzero(truth == label))
        fold[members] = np.arange(members.size) % folds
    return fold


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
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.

    Raises:
        DataError: A class is missing.
    """
    malignant = np.asarray(labels, dtype=bool)
    values = np.asarray(probabilities, dtype=np.float64)
    if malignant.all() or not malignant.any():
        raise DataError("one class is missing", expected="benign and malignant images")
    targets: list[float | None] = [None, *SENSITIVITIES]

    def rates(counts: Values) -> Values:
        return np.array([_rates_of_draw(malignant, values, draw, targets) for draw in counts])

    drawn = resample(rates, malignant.astype(np.int64), draws=draws, seed=seed)
    ends = percentile_interval(drawn).T.reshape(len(targets), 2, 2)  # of both rates: low, high
    points = []
    for target, (of_sensitivity, of_specificity) in zip(targets, ends.tolist(), strict=True):
        threshold = _threshold(malignant, values, target)
        called = values >= threshold
        points.append(
            OperatingPoint(
                "balanced" if target is None else f"sensitivity{round(100 * target)}",
                threshold,
                Rate(float(called[malignant].mean()), *of_sensitivity),
                Rate(float((~called)[~malignant].mean()), *of_specificity),
            )
        )
    return tuple(points)


def fit_weights(labels: ArrayLike, scores: ArrayLike) -> Values:
    """Returns the weights under whose calibrated mean the labels are likeliest.

    The log loss of the mean, calibrated by the best line in logits, is lowered from equal weights
    on by exponentiated gradient: no weight falls below 0, they always add up to 1, and the same
    scores give the same weights. Unlike a ranking metric it is smooth, so that one image more or
    less moves the weights little.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Scores by each network of images it was not trained on, in [0, 1]. (N, K)

    Returns:
        In steps of 0.001. (K,)

    Raises:
        DataError: See ``fit_calibration``.
    """
    truth, columns = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    weights = np.full(columns.shape[1], 1.0 / columns.shape[1])
    best, gradient = _log_likelihood(truth, columns, weights)
    step = _FIRST_STEP
    for _ in range(_WEIGHT_STEPS):
        moved = weights * np.exp(step * (gradient - gradient.max()))
        moved /= moved.sum()
        now, next_gradient = _log_likelihood(truth, columns, moved)
        if now > best:
            weights, best, gradient, step = moved, now, next_gradient, step * 2
        elif (step := step / 2) < _SMALLEST_STEP:
            break
    rounded = np.round(weights, _DIGITS)
    largest = int(np.argmax(rounded))  # it takes what rounding leaves
    rounded[largest] = round(1.0 - (rounded.sum() - rounded[largest]), _DIGITS)
    return rounded


def _maximise(logits: Values, truth: Values, *, bias: bool) -> tuple[float, float]:
    """Returns slope and offset of the likeliest line, by Newton's method."""
    design = np.stack([logits, np.ones_like(logits)][: 1 + bias], axis=1)  # (N, 1 or 2)
    line = np.array([1.0, 0.0][: 1 + bias])
    best = _likelihood(design @ line, truth)
    for _ in range(_STEPS):
        chance = probability_of(design @ line)
        gradient = design.T @ (truth - chance) - _RIDGE * line
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(curvature + _RIDGE * np.eye(line.size), gradient)
        now = _likelihood(design @ (line + step), truth)
        while now < best and np.abs(step).max() > _ENOUGH:
            step = step / 2  # the likelihood is concave: a shorter step does rise
            now = _likelihood(design @ (line + step), truth)
        line, best = line + step, now
        if np.abs(step).max() <= _ENOUGH:
            break
    return float(line[0]), float(line[1]) if bias else 0.0


def _likelihood(logits: Values, truth: Values) -> float:
    return float(-np.logaddexp(0.0, np.where(truth > 0, -logits, logits)).sum())


def _rates_of_draw(
    malignant: Flags, values: Values, counts: Values, targets: Sequence[float | None]
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


def _threshold(malignant: Flags, values: Values, sensitivity: float | None) -> float:
    """Returns the threshold, called malignant from there on, half-way to the next value below."""
    if sensitivity is None:
        at = _most_balanced(malignant, values)
    else:
        needed = images_needed(int(malignant.sum()), sensitivity)
        at = float(np.sort(values[malignant])[-needed])
    below = values[values < at]
    return float((at + below.max()) / 2) if below.size else at


def _most_balanced(malignant: Flags, values: Values) -> float:
    """Returns the value at which sensitivity and specificity have the largest sum."""
    thresholds = np.unique(values)
    missed = np.searchsorted(np.sort(values[malignant]), thresholds, side="left")
    passed = np.searchsorted(np.sort(values[~malignant]), thresholds, side="left")
    youden = passed / (~malignant).sum() - missed / malignant.sum()
    return float(thresholds[np.argmax(youden)])


def _log_likelihood(truth: Values, columns: Values, weights: Values) -> tuple[float, Values]:
    """Returns the mean log likelihood under the best calibration, and its slope by weight.

    At the best line the likelihood does not change with the line, so that its slope by a weight
    is that with the line held fast.
    """
    mean = np.clip(columns @ weights, 1e-7, 1.0 - 1e-7)
    line = fit_calibration(truth, mean)
    by_mean = (truth - line(mean)) / (line.temperature * mean * (1.0 - mean))
    likelihood = _likelihood(logit_of(mean) / line.temperature + line.bias, truth)
    return likelihood / truth.size, by_mean @ columns / truth.size
