"""Small working copies of images and masks: what is measured at a few hundred pixels.

Every measure of this package is one of the whole lesion or the whole frame, which a copy with a
longer side of 256 px holds; reading it costs a few milliseconds whatever the camera.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.preprocess import resize_image

LONG_SIDE_PX = 256
"""The longer side of a working copy; smaller images keep their size."""


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """A working copy of an image, and the size that it had.

    Args:
        image: (h, w, 3) uint8, RGB.
        height_px: Of the original.
        width_px: Of the original.
    """

    image: NDArray[np.uint8]
    height_px: int
    width_px: int


def reduce_image(
    image: NDArray[np.uint8] | Image.Image | Reduced, *, long_side_px: int = LONG_SIDE_PX
) -> Reduced:
    """Returns an image at most ``long_side_px`` long (antialiased), and its size before.

    Args:
        image: (H, W, 3) uint8, RGB, or a Pillow image of it; what is reduced already is returned
            as it is, so that one copy can serve several functions.
        long_side_px: The longer side to shrink to.

    Example:
        >>> reduce_image(np.zeros((767, 1022, 3), np.uint8)).image.shape
        (192, 256, 3)
    """
    if isinstance(image, Reduced):
        return image
    if isinstance(image, Image.Image):
        width, height = image.size
    else:
        height, width = image.shape[:2]
    size = small_size(height, width, long_side_px)
    if size == (width, height):
        return Reduced(np.asarray(image), height, width)
    return Reduced(shrink(image, size), height, width)


def shrink(image: NDArray[np.uint8] | Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns an image at a smaller size ``(width, height)``, antialiased."""
    # reducing_gap takes whole-number means first: several times faster, and nearly the same.
    return resize_image(image, size, reducing_gap=1.0)


def reduce_mask(mask: NDArray[np.bool_], *, long_side_px: int = LONG_SIDE_PX) -> NDArray[np.bool_]:
    """Returns a mask at most ``long_side_px`` long: lesion where half of a cell or more is.

    Example:
        >>> reduce_mask(np.ones((767, 1022), bool)).shape
        (192, 256)
    """
    size = small_size(mask.shape[0], mask.shape[1], long_side_px)
    if size == (mask.shape[1], mask.shape[0]):
        return mask
    bytes_ = np.ascontiguousarray(mask).view(np.uint8)  # Pillow's own bilevel arrays hold 255
    shares = Image.fromarray((bytes_ != 0).view(np.uint8) * np.uint8(255))
    small: NDArray[np.bool_] = (
        np.asarray(shares.resize(size, Image.Resampling.BOX, reducing_gap=1.0)) >= 128
    )
    return small


def small_size(height: int, width: int, long_side_px: int) -> tuple[int, int]:
    """Returns the size ``(width, height)`` of a copy at most ``long_side_px`` long.

    Example:
        >>> small_size(600, 800, 256), small_size(60, 80, 256)
        ((256, 192), (80, 60))
    """
    factor = min(1.0, long_side_px / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))
