"""Fitting a calibration to scores of images that no network was trained on."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DataError
from dermfuse.metrics import expected_calibration_error
from dermfuse.release.calibration import Calibration, logit_of, probability_of

_STEPS, _ENOUGH = 100, 1e-10
_RIDGE = 1e-6  # keeps Newton's step finite where the scores separate the classes
_FOLDS = 10


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration and what it does.

    Args:
        calibration: Fitted to all images.
        images: How many.
        malignant: How many of them are malignant.
        error_before: Expected calibration error of the scores as they are.
        error_of_temperature: The same after temperature scaling alone, out of fold.
        error_after: The same after the whole calibration, out of fold: each tenth of the images
            is calibrated by a line that was fitted to the others.
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return asdict(self)


def fit_calibration(labels: ArrayLike, scores: ArrayLike, *, bias: bool = True) -> Calibration:
    """Returns the calibration under which the labels are likeliest.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Of malignancy, in [0, 1]; of images that were not trained on. (N,)
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


def calibrate(labels: ArrayLike, scores: ArrayLike, *, seed: int = 0) -> CalibrationReport:
    """Returns the calibration of scores and its error before and after, measured out of fold.

    Args:
        labels: 0 benign, 1 malignant; ten or more of each. (N,)
        scores: Of malignancy, in [0, 1]; of images that were not trained on. (N,)
        seed: Of the folds, which are stratified by label.

    Raises:
        DataError: As for ``fit_calibration``, or there are fewer than ten images of a class.
    """
    truth = np.asarray(labels, dtype=np.int64)
    values = np.asarray(scores, dtype=np.float64)
    if min(np.bincount(truth, minlength=2)) < _FOLDS:
        raise DataError(
            f"{int(truth.sum())} malignant and {int((1 - truth).sum())} benign images",
            expected=f"{_FOLDS} or more of each, to measure a calibration out of fold",
        )
    fold = draw_folds(truth, seed=seed)
    after, of_temperature = (_out_of_fold(truth, values, fold, bias=bias) for bias in (True, False))
    return CalibrationReport(
        calibration=fit_calibration(truth, values),
        images=truth.size,
        malignant=int(truth.sum()),
        error_before=expected_calibration_error(truth, values),
        error_of_temperature=expected_calibration_error(truth, of_temperature),
        error_after=expected_calibration_error(truth, after),
        mean_before=float(values.mean()),
        mean_after=float(after.mean()),
    )


def draw_folds(labels: ArrayLike, *, folds: int = _FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Returns the fold of each image, from 0; every class is spread evenly.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        folds: How many.
        seed: Of the draw.
    """
    truth = np.asarray(labels, dtype=np.int64)
    rng = np.random.default_rng(seed)
    fold = np.empty(truth.size, dtype=np.int64)
    for label in (0, 1):
        members = rng.permutation(np.flatnonzero(truth == label))
        fold[members] = np.arange(members.size) % folds
    return fold


def _maximise(
    logits: NDArray[np.float64], truth: NDArray[np.float64], *, bias: bool
) -> tuple[float, float]:
    """Returns slope and offset of the likeliest line, by Newton's method."""
    columns = [logits, np.ones_like(logits)] if bias else [logits]
    design = np.stack(columns, axis=1)  # (N, 1 or 2)
    line = np.zeros(design.shape[1])
    line[0] = 1.0
    best = _likelihood(design @ line, truth)
    for _ in range(_STEPS):
        chance = probability_of(design @ line)
        gradient = design.T @ (truth - chance) - _RIDGE * line
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(curvature + _RIDGE * np.eye(line.size), gradient)
        while (now := _likelihood(design @ (line + step), truth)) < best and np.abs(
            step
        ).max() > _ENOUGH:
            step = step / 2  # the likelihood is concave: a shorter step does rise
        line, best = line + step, now
        if np.abs(step).max() <= _ENOUGH:
            break
    return float(line[0]), float(line[1]) if bias else 0.0


def _likelihood(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    signed = np.where(truth > 0, logits, -logits)
    return float(-np.logaddexp(0.0, -signed).sum())


def _out_of_fold(
    truth: NDArray[np.int64],
    values: NDArray[np.float64],
    fold: NDArray[np.int64],
    *,
    bias: bool,
) -> NDArray[np.float64]:
    found = np.empty_like(values)
    for number in range(_FOLDS):
        held_out = fold == number
        fitted = fit_calibration(truth[~held_out], values[~held_out], bias=bias)
        found[held_out] = fitted(values[held_out])
    return found
