"""From the score of a network to a probability that can be taken at its word."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CLOSEST = 1e-7  # a score of 0 or 1 has no finite logit


@dataclass(frozen=True, slots=True)
class Calibration:
    """A line in logits: ``logit p = logit s / temperature + bias``.

    The networks learn from about as many malignant samples as benign ones, and meet four times
    as many benign images: the bias takes back what that balance adds, the temperature what
    over-confidence does. It never changes the order of two scores.

    Args:
        temperature: Above 0; 1 leaves confidence as it is.
        bias: In logits; 0 leaves the balance as it is.

    Paper:
        Not in it. Temperature: Guo et al., On Calibration of Modern Neural Networks (ICML 2017);
        with the bias it is Platt's scaling (1999).

    Example:
        >>> Calibration(temperature=2.0, bias=0.0)([0.5, 0.9]).round(3).tolist()
        [0.5, 0.75]
    """

    temperature: float
    bias: float

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns the calibrated probabilities of scores in [0, 1], of the same shape."""
        return probability_of(logit_of(scores) / self.temperature + self.bias)

    def to_dict(self) -> dict[str, float]:
        """Returns both numbers as JSON values."""
        return {"temperature": self.temperature, "bias": self.bias}


def logit_of(scores: ArrayLike) -> NDArray[np.float64]:
    """Returns ``ln(s / (1 - s))`` of scores in [0, 1]; 0 and 1 become about -16 and 16."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), _CLOSEST, 1.0 - _CLOSEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def probability_of(logits: ArrayLike) -> NDArray[np.float64]:
    """Returns ``1 / (1 + exp(-l))``, without overflow for any logit."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)))
