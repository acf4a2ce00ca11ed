"""One synthetic image: skin, lesion, interferences, light, in this order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.synthetic.fields import make_frame
from dermfuse.data.synthetic.interference import (
    PAINTING_ORDER,
    Interference,
    draw_kinds,
    paint_interference,
)
from dermfuse.data.synthetic.lesion import draw_outline, draw_signs, paint_lesion
from dermfuse.data.synthetic.skin import draw_skin, shine
from dermfuse.errors import ConfigError
from dermfuse.scores import Label

SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 4096


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticLesion:
    """One drawn image.

    Args:
        image: (H, W, 3) RGB.
        mask: (H, W), True on the lesion: where it has at least half of its pigment.
        label: What was drawn.
        interferences: What was drawn over it.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: Label
    interferences: frozenset[Interference]


def draw_lesion(
    rng: np.random.Generator,
    *,
    label: Label,
    size_px: tuple[int, int] = (320, 240),
    interferences: frozenset[Interference] | None = None,
    difficulty: float = 0.4,
) -> SyntheticLesion:
    """Returns one drawn lesion on skin.

    Args:
        rng: Where chance comes from; equal states draw equal images.
        label: Its class.
        size_px: Width and height.
        interferences: What to draw over it; None leaves it to chance.
        difficulty: 0 keeps the classes apart, 1 all but mixes them.

    Raises:
        ConfigError: If the size or the difficulty is out of range.

    Example:
        >>> drawn = draw_lesion(np.random.default_rng(1), label=Label.BENIGN)
        >>> drawn.image.shape, drawn.mask.shape
        ((240, 320, 3), (240, 320))
    """
    check_size(size_px)
    check_between("difficulty", difficulty, 0.0, 1.0)
    kinds = draw_kinds(rng) if interferences is None else interferences
    frame = make_frame(size_px)
    signs = draw_signs(rng, label, difficulty)
    largest = 0.22 if Interference.COLOURED_DISC in kinds else 0.55  # room for the sticker
    outline = draw_outline(rng, frame, signs, largest=largest)
    image = draw_skin(rng, frame)
    paint_lesion(rng, frame, image, outline, signs)
    mask = outline.mask
    for kind in PAINTING_ORDER:
        if kind in kinds:
            paint_interference(rng, frame, image, mask, kind)
    shine(rng, frame, image)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # (H, W, 3)
    return SyntheticLesion(pixels, mask, label, kinds)


def check_size(size_px: tuple[int, int]) -> None:
    """Refuses a width or a height that cannot be drawn.

    Raises:
        ConfigError: If a side is out of range.
    """
    if not all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in size_px):
        raise ConfigError(
            f"the image size is {size_px[0]} x {size_px[1]} px",
            expected=f"sides from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px",
        )


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value out of range, NaN among them.

    Raises:
        ConfigError: If it is.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}", expected=f"a value from {low} to {high}")
