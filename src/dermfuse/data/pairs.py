"""Pairs of images for the discriminant network, by the paper's two methods.

A training step sees two streams, a and b. Stream a is a shuffled batch. Stream b is
the same batch permuted so that nearly all pairs are same-class pairs (Method 1), or a
second, independently shuffled batch, which holds more different-class pairs (Method 2).
They alternate 1 : 4 over the iterations.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
"""Class labels of a batch, 0 benign / 1 malignant."""

CYCLE = 5
"""Iterations in one round of the alternation: one of Method 1, four of Method 2."""


def match_same_class(labels: Labels) -> NDArray[np.int64]:
    """Returns the permutation that turns stream a into stream b by Method 1.

    The labels are walked from first to last; indices of equal label are matched two by
    two and swap places. What is left of the two classes is matched across them; an index
    left alone keeps its place.

    Args:
        labels: Of the shuffled batch, (N,), 0 benign or 1 malignant.

    Returns:
        ``partner`` (N,), an involution: image i is paired with image ``partner[i]``, and
        ``partner[partner[i]] == i``. At most one matched pair has unequal labels.

    Raises:
        ValueError: If labels are not a vector of 0 and 1.

    Paper:
        Section III-B-2, Method 1. The paper leaves open what becomes of an odd count.

    Example:
        >>> match_same_class(np.array([0, 1, 0, 0, 1, 1])).tolist()
        [2, 4, 0, 5, 1, 3]
    """
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ValueError("labels are not a vector of 0 (benign) and 1 (malignant)")
    partner = np.arange(len(labels), dtype=np.int64)
    left: list[int] = []
    for label in (0, 1):
        indices = np.flatnonzero(labels == label)
        pairs = indices[: len(indices) // 2 * 2].reshape(-1, 2)  # (pairs, 2)
        partner[pairs] = pairs[:, ::-1]
        left += indices[pairs.size :].tolist()
    partner[left] = left[::-1]
    return partner


def pairing_method(iteration: int) -> Literal[1, 2]:
    """Returns which method makes the pairs of an iteration: 1, 2, 2, 2, 2, 1, 2, ...

    Args:
        iteration: Of the training, counted from 0 and not restarted by an epoch.

    Paper:
        Section III-B-2: "used at a frequency of 1: 4".
    """
    return 1 if iteration % CYCLE == 0 else 2
