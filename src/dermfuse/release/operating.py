"""Where a probability becomes a call: thresholds with what they find and what they cost."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of a class, with its 95 % interval; all in [0, 1].

    Args:
        value: As measured.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One threshold.

    Args:
        name: ``balanced``, or the sensitivity it reaches, like ``sensitivity95``.
        threshold: Calibrated probability from which on an image is called malignant.
        sensitivity: Share of malignant images that are called so.
        specificity: Share of benign images that are not.
    """

    name: str
    threshold: float
    sensitivity: Rate
    specificity: Rate

    def to_dict(self) -> dict[str, Any]:
        """Returns the point as JSON values."""
        return asdict(self)
