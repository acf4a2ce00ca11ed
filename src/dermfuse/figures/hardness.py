"""What makes an image hard to segment, as numbers: the rules behind Fig. 13.

Each rule takes an image (H, W, 3) and the lesion's mask (H, W) and returns one number. Lengths
are shares of the shorter side, so that a rule reads the same at any size; Fig. 13 measures all
images at one size. The rules rank images, they do not diagnose: a ruler's ticks count as hair
where they are long, and a coloured sticker counts as marker.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from dermfuse.errors import DataError
from dermfuse.imaging.colours import to_lab
from dermfuse.imaging.geometry import grow, perimeter

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_HAIR_WIDTH = 0.035
"""Structures narrower than this are thin."""
_HAIR_LENGTH = 0.12
"""Thin structures at least this long are hairs."""
_HAIR_DEPTH = 14.0
"""How much darker than its surroundings a hair is, of 255."""
_HAIR_THINNESS = 0.35
"""Largest area of a hair, as a share of the square on its length."""
_MARGIN = 0.03
"""What lies this near to the lesion is its border."""
_RING = 0.25
"""Width of the ring of skin around the lesion, in its mean radii."""
_INK_CHROMA = 18.0
"""How far in a* and b* ink is from the skin around it."""
_INK_OFF_SKIN = 9.0
"""How far in a* and b* ink is from all shades of the skin, from grey to the skin's own colour."""
_INK_HUES_DEGREES = (120.0, 345.0)
"""From green over blue to purple, in the plane of a* and b*."""

_LUMA = np.array((0.299, 0.587, 0.114))


def hair_fraction(image: Image, mask: Mask) -> float:
    """Returns the share of the skin outside the lesion that thin, long, dark lines cover.

    A black-hat (the closing less the image) keeps what is dark and narrow; of its connected
    pieces those count that are long and cover little of the square on their length. Inside the
    lesion and at its border pigment looks alike: they are left out.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W).
    """
    side = min(mask.shape)
    grey = image @ _LUMA
    width = max(3, 2 * round(_HAIR_WIDTH * side / 2) + 1)
    dark = ndimage.grey_closing(grey, size=(width, width)) - grey > _HAIR_DEPTH
    skin = ~grow(mask, max(1, round(_MARGIN * side)))
    pieces, count = ndimage.label(dark & skin, structure=np.ones((3, 3)))
    if not count:
        return 0.0
    areas = ndimage.sum_labels(np.ones(mask.shape), pieces, range(1, count + 1))
    boxes = ndimage.find_objects(pieces)
    lengths = np.array([np.hypot(*(part.stop - part.start for part in box)) for box in boxes])
    is_hair = (lengths >= _HAIR_LENGTH * side) & (areas <= _HAIR_THINNESS * lengths**2)
    return float(areas[is_hair].sum() / np.count_nonzero(skin))


def marker_fraction(image: Image, mask: Mask) -> float:
    """Returns the share of the image outside the lesion that is green, blue or purple.

    Hue is measured from the skin's own: the median a* and b* outside the lesion are taken off,
    so that a camera's tint is no ink. Skin in shadow and in glare fades towards grey, which is
    bluer than it: what lies near the line from grey to the skin's colour is skin. The lesion
    itself may be blue-grey and is left out.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W).
    """
    skin = ~grow(mask, max(1, round(_MARGIN * min(mask.shape))))
    if not skin.any():
        return 0.0
    colours = to_lab(image[skin])[:, 1:].astype(np.float64)  # (N, 2): a*, b*
    usual = np.median(colours, axis=0)
    along = np.clip(colours @ usual / max(float(usual @ usual), 1e-9), 0, 1)
    off_skin = np.linalg.norm(colours - along[:, None] * usual, axis=1)
    a, b = (colours - usual).T
    hue = np.degrees(np.arctan2(b, a)) % 360
    low, high = _INK_HUES_DEGREES
    is_ink = (
        (np.hypot(a, b) > _INK_CHROMA) & (off_skin > _INK_OFF_SKIN) & (hue > low) & (hue < high)
    )
    return float(np.mean(is_ink))


def colour_difference(image: Image, mask: Mask) -> float:
    """Returns the distance of the lesion's mean colour from the skin around it, in CIELAB.

    The skin is a ring a quarter of the lesion's mean radius wide, a little away from its border.
    A difference of 2 is just seen; low contrast is a small number.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W).

    Raises:
        DataError: The mask is empty or the whole frame.
    """
    radius = sqrt(np.count_nonzero(mask) / pi)
    gap = max(1, round(0.05 * radius))
    near = grow(mask, gap)
    ring = grow(near, max(1, round(_RING * radius))) & ~near
    if not mask.any() or not ring.any():
        raise DataError("the mask is empty or the whole frame", expected="a lesion on skin")
    inside, outside = (to_lab(image[part]).mean(axis=0, dtype=float) for part in (mask, ring))
    return float(np.linalg.norm(inside - outside))


def irregularity(_: Image, mask: Mask) -> float:
    """Returns perimeter² / (4 pi area) of the lesion: 1 for a disc, more for all else.

    Args:
        _: Not looked at.
        mask: The lesion, (H, W).

    Raises:
        DataError: The mask is empty.
    """
    if not mask.any():
        raise DataError("the mask is empty", expected="a lesion")
    return perimeter(mask) ** 2 / (4 * pi * np.count_nonzero(mask))


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which an image is hard.

    Args:
        name: In words, for the figure.
        measure: (image, mask) to a number.
        number: What the number is, in words.
        largest_is_hardest: Or the smallest.
    """

    name: str
    measure: Callable[[Image, Mask], float]
    number: str
    largest_is_hardest: bool = True

    def hardest(self, numbers: Mapping[str, float], wanted: int) -> list[str]:
        """Returns the hardest images; none that has nothing of what the rule looks for.

        Args:
            numbers: The rule's number of each image.
            wanted: How many images at most.
        """
        if self.largest_is_hardest:
            numbers = {image_id: -number for image_id, number in numbers.items() if number > 0}
        return sorted(numbers, key=numbers.__getitem__)[:wanted]


RULES = (
    Rule("hair", hair_fraction, "hair on skin, share"),
    Rule("marker or ink", marker_fraction, "ink on skin, share"),
    Rule("low contrast", colour_difference, "colour difference", largest_is_hardest=False),
    Rule("irregular border", irregularity, "irregularity"),
)
"""The hard images of Fig. 13."""
