"""Pixels at the depth of their own file, with what is transparent kept apart.

Photographs are brought to 8 bits; a mask of 0 and 255 in 16 bits would not survive that.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BYTE = 255
_STRIP_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What a file holds, not scaled and not laid on any ground.

    Args:
        values: Grey, (H, W, 1), or RGB, (H, W, 3).
        top: The largest value that the file's type has room for.
        alpha: How opaque each pixel is, (H, W); None if every pixel is.
        alpha_top: The alpha of an opaque pixel.
        indices: The entries of a palette that ``values`` were taken from, (H, W); else None.
        lossy: Whether the coding may have changed the values.
    """

    values: NDArray[np.uint16]
    top: int
    alpha: NDArray[np.uint16] | None = None
    alpha_top: int = _BYTE
    indices: NDArray[np.uint16] | None = None
    lossy: bool = False


def image_samples(image: Image.Image) -> Samples:
    """Returns the samples of a decoded image of any mode but a floating-point one.

    Example:
        >>> samples = image_samples(Image.new("1", (2, 1), 1))
        >>> samples.top, samples.values.tolist()
        (1, [[[1], [1]]])
    """
    if image.mode == "1":
        return Samples(_wide(np.asarray(image)), top=1)
    if image.mode.startswith("I"):
        return Samples(_wide(np.asarray(image)), top=65_535)
    indices = np.asarray(image) if image.mode == "P" else None
    if image.has_transparency_data:
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = np.asarray(straight.convert("RGBA"))
        values, alpha = rgba[..., :3], rgba[..., 3].astype(np.uint16)
    else:
        shown = image if image.mode == "L" else image.convert("RGB")
        values, alpha = np.asarray(shown), None
    return Samples(
        _wide(values), top=_BYTE, alpha=alpha,
        indices=None if indices is None else indices.astype(np.uint16),
    )  # fmt: skip


def picture(levels: NDArray[np.uint8], mode: str) -> Image.Image:
    """Returns pixels as a Pillow image, made in strips: no copy of the whole lies beside it.

    Args:
        levels: (H, W) or (H, W, C); need not be contiguous.
        mode: Of the image: as many channels as there are.
    """
    height, width = levels.shape[:2]
    image = Image.new(mode, (width, height))
    for top in range(0, height, _STRIP_ROWS):
        rows = levels[top : top + _STRIP_ROWS]
        image.paste(Image.frombytes(mode, (width, len(rows)), rows.tobytes()), (0, top))
    return image


def turn_samples(samples: Samples, orientation: int) -> Samples:
    """Returns the samples upright.

    Args:
        samples: As stored.
        orientation: How they lie, 1 to 8, as EXIF and TIFF count.
    """
    return replace(
        samples,
        values=turn(samples.values, orientation),
        alpha=None if samples.alpha is None else turn(samples.alpha, orientation),
        indices=None if samples.indices is None else turn(samples.indices, orientation),
    )


def turn(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Returns (H, W, ...) upright; orientations other than 2 to 8 leave it as it is.

    Example:
        >>> turn(np.array([[1, 2]], np.uint16), 6).tolist()
        [[1], [2]]
    """
    mirrored = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # counter-clockwise
    return np.rot90(mirrored, turns)


def _wide(values: NDArray[np.generic]) -> NDArray[np.uint16]:
    grid: NDArray[np.uint16] = values.astype(np.uint16)
    return grid if grid.ndim == 3 else grid[..., None]
