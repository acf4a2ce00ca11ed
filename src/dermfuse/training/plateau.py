"""The paper's plateau rule, as a function of the validation losses that are written down."""

import math
from collections.abc import Sequence

KERAS_MIN_DELTA = 1e-4
"""Smallest fall of the validation loss that counts, as in Keras's ReduceLROnPlateau."""


def count_plateaus(losses: Sequence[float], *, patience: int) -> int:
    """Returns how often the learning rate has been lowered after some epochs.

    It depends on nothing but the losses, so that a resumed run follows the rule as one that was
    never interrupted.

    Args:
        losses: Of validation, one per epoch.
        patience: After so many epochs in a row without a fall of the loss the rate is lowered,
            and the epochs are counted anew.

    Example:
        >>> [count_plateaus([1.0, 1.0, 1.0, 1.0, 1.0][:epochs], patience=2) for epochs in range(6)]
        [0, 0, 0, 1, 1, 2]

    Paper:
        The rate is halved when the validation loss has not fallen for 3 epochs.
    """
    best, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        waited += 1
        if loss < best - KERAS_MIN_DELTA:
            best, waited = loss, 0
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus
