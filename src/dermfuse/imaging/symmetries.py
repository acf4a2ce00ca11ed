"""The symmetries of the square, by which a network looks at one image several times.

A dermatoscope has no up and no down: the mean over all orientations of an image does not depend on
how it was held. One look is the image as it is, four are its quarter turns, eight are those and
their mirror images.
"""

from collections.abc import Mapping
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import ConfigError

Looks = Literal[1, 4, 8]
"""How many orientations of an image a network sees."""

Answers = Mapping[str, NDArray[np.float32]]
"""What a network says about a batch, by output: (N, ...), or (looks, N, ...) with looks apart."""

_MAP_AXES = 3  # (N, h, w)

SYMMETRIES = tuple((mirror, turns) for mirror in (False, True) for turns in range(4))
"""The eight: whether the image is mirrored left to right, then its quarter turns
counter-clockwise. Four looks are the first four, one look is the first."""


def check_looks(looks: int) -> Looks:
    """Returns ``looks``.

    Raises:
        ConfigError: It is not 1, 4 or 8.
    """
    if looks in get_args(Looks):
        return cast("Looks", looks)
    raise ConfigError(
        f"looks is {looks}",
        expected="1 (the image as it is), 4 (its quarter turns) or 8 (and their mirror images)",
    )


def spread_looks(squares: NDArray[np.uint8], looks: Looks) -> NDArray[np.uint8]:
    """Returns every look at every image: all images of the first symmetry, then of the next.

    Args:
        squares: (N, S, S, 3).
        looks: How many orientations.

    Shape:
        (N, S, S, 3) -> (looks * N, S, S, 3)

    Example:
        >>> square = np.array([[[[1], [2]], [[3], [4]]]], np.uint8)
        >>> spread_looks(square, 4)[1, :, :, 0].tolist()
        [[2, 4], [1, 3]]
    """
    sides = squares, squares[:, :, ::-1]
    moved = [np.rot90(sides[mirror], turns, (1, 2)) for mirror, turns in SYMMETRIES[:looks]]
    return np.ascontiguousarray(np.concatenate(moved))


def gather_all(answers: Answers, looks: Looks) -> dict[str, NDArray[np.float32]]:
    """Returns all that a network says about ``spread_looks``, each output with its looks apart.

    Maps are moved back onto the image as it is.

    Args:
        answers: By output, (looks * N, ...); those of rows and columns, (looks * N, h, w), are
            maps.
        looks: How many orientations.

    Returns:
        By output, (looks, N, ...).
    """
    gathered = {}
    for name, answer in answers.items():
        apart = answer.reshape(looks, -1, *answer.shape[1:])
        if answer.ndim == _MAP_AXES:
            moved = zip(apart, SYMMETRIES[:looks], strict=True)
            turned = [(np.rot90(one, -turns, (-2, -1)), mirror) for one, (mirror, turns) in moved]
            apart = np.stack([one[..., ::-1] if mirror else one for one, mirror in turned])
        gathered[name] = apart
    return gathered


def mean_looks(apart: Answers) -> dict[str, NDArray[np.float32]]:
    """Returns the mean of each output over its looks, which is the answer about an image.

    Args:
        apart: By output, as ``gather_all`` returns it, or without the axis of images.

    Shape:
        (looks, N, ...) -> (N, ...)
    """
    return {name: answer.mean(axis=0) for name, answer in apart.items()}


def describe_looks(looks: int) -> str:
    """Returns a number of looks in words.

    Example:
        >>> describe_looks(1), describe_looks(8)
        ('1 orientation', '8 orientations')
    """
    return f"{looks} orientation{'' if looks == 1 else 's'}"


def describe_other_looks(looks: int, *, measured: int) -> str:
    """Returns what a reader must know where the looks are not those of the release; else nothing.

    Args:
        looks: How many orientations are used.
        measured: With which the release was calibrated and measured.

    Example:
        >>> describe_other_looks(4, measured=1)
        'Each network looked at 4 orientations; probability, operating points and the gate were \
measured with 1.'
    """
    if looks == measured:
        return ""
    return (
        f"Each network looked at {describe_looks(looks)}; probability, operating points and the "
        f"gate were measured with {measured}."
    )
