"""How much each of several networks should count in the mean of their scores."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dermfuse.evaluation.calibrate import fit_calibration
from dermfuse.release.calibration import logit_of

_STEPS = 200
_FIRST_STEP, _SMALLEST_STEP = 4.0, 1e-4
_DIGITS = 3  # finer weights fit the images at hand and no others

Values = NDArray[np.float64]


def fit_weights(labels: ArrayLike, scores: ArrayLike) -> Values:
    """Returns the weights under whose calibrated mean the labels are likeliest.

    The log loss of the mean, calibrated by the best line in logits, is lowered from equal weights
    on by exponentiated gradient: no weight falls below 0, they always add up to 1, and the same
    scores give the same weights. Unlike a ranking metric it is smooth, so that one image more or
    less moves the weights little.

    Args:
        labels: 0 benign, 1 malignant. (N,)
        scores: Of each network, in [0, 1], of images it was not trained on. (N, K)

    Returns:
        In steps of 0.001. (K,)

    Raises:
        DataError: As for ``fit_calibration``.
    """
    truth, columns = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    weights = np.full(columns.shape[1], 1.0 / columns.shape[1])
    best, gradient = _log_likelihood(truth, columns, weights)
    step = _FIRST_STEP
    for _ in range(_STEPS):
        moved = weights * np.exp(step * (gradient - gradient.max()))
        moved /= moved.sum()
        now, next_gradient = _log_likelihood(truth, columns, moved)
        if now > best:
            weights, best, gradient = moved, now, next_gradient
            step *= 2
        else:
            step /= 2
        if step < _SMALLEST_STEP:
            break
    return _rounded(weights)


def _log_likelihood(truth: Values, columns: Values, weights: Values) -> tuple[float, Values]:
    """Returns the mean log likelihood under the best calibration, and its slope by weight.

    At the best line the likelihood does not change with the line, so that its slope by a weight
    is that with the line held fast.
    """
    mean = np.clip(columns @ weights, 1e-7, 1.0 - 1e-7)
    line = fit_calibration(truth, mean)
    chance = line(mean)
    signed = np.where(truth > 0, 1.0, -1.0) * (logit_of(mean) / line.temperature + line.bias)
    by_mean = (truth - chance) / (line.temperature * mean * (1.0 - mean))
    return float(-np.logaddexp(0.0, -signed).mean()), by_mean @ columns / truth.size


def _rounded(weights: Values) -> Values:
    """Returns the weights in steps of 0.001; what rounding leaves goes to the largest."""
    rounded = np.round(weights, _DIGITS)
    largest = int(np.argmax(rounded))
    rounded[largest] = round(1.0 - (rounded.sum() - rounded[largest]), _DIGITS)
    return rounded
