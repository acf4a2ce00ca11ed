"""The class of a lesion, as the challenge numbers it."""

from enum import IntEnum


class Label(IntEnum):
    """The class of a lesion, as the challenge numbers it."""

    BENIGN = 0
    MALIGNANT = 1
