"""Random fields and smooth steps: what skin, lesions and interferences are drawn from."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
"""(H, W); float32 throughout, for speed."""
Picture = NDArray[np.float32]
"""(3, H, W), red, green and blue in about [0, 1]: planes, for speed."""

_UNIT_DEVIATION = 1.3  # bicubic interpolation of white noise loses about a quarter of it


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The image plane, in pixels and in units of its shorter side.

    Args:
        x: Column of each pixel from the centre, in shorter sides.
        y: Row of each pixel from the centre, in shorter sides.
        unit_px: The shorter side in pixels.
    """

    x: Field
    y: Field
    unit_px: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def half(self) -> tuple[float, float]:
        """Half the width and half the height, in shorter sides."""
        height, width = self.shape
        return width / self.unit_px / 2, height / self.unit_px / 2


def make_frame(size_px: tuple[int, int]) -> Frame:
    """Returns the plane of an image ``size_px`` wide and high."""
    width, height = size_px
    unit = min(width, height)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / unit
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / unit
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return Frame(grid_x, grid_y, unit)


def make_noise(rng: np.random.Generator, frame: Frame, scale: float, octaves: int = 1) -> Field:
    """Returns smooth noise of about zero mean and unit deviation.

    Args:
        rng: Where chance comes from.
        frame: The plane.
        scale: Size of the largest blotches, in shorter sides.
        octaves: Finer and finer layers, each half as large and 0.6 times as strong.
    """
    total = np.zeros(frame.shape, dtype=np.float32)
    power = 0.0
    for octave in range(octaves):
        cell_px = max(1.0, scale * frame.unit_px / 2**octave)
        weight = 0.6**octave
        total += weight * _interpolated_noise(rng, frame.shape, cell_px)
        power += weight**2
    return total * np.float32(_UNIT_DEVIATION / math.sqrt(power))


def make_grain(rng: np.random.Generator, frame: Frame) -> Field:
    """Returns white noise, one draw a pixel."""
    return rng.standard_normal(frame.shape, dtype=np.float32)


def smooth_step(value: Field, low: float | Field, high: float | Field) -> Field:
    """Returns 0 below ``low``, 1 above ``high`` and a smooth cubic between them."""
    t = np.clip((value - low) / (high - low), 0, 1)
    result: Field = t * t * (3 - 2 * t)
    return result


def absorb(image: Picture, amount: Field, densities: NDArray[np.float32]) -> None:
    """Darkens ``image`` in place as a dye does: by Beer and Lambert's law, per channel."""
    for channel, density in enumerate(densities):
        image[channel] *= np.exp(-density * amount)


def blend(image: Picture, colour: Iterable[Field | np.float32], opacity: Field) -> None:
    """Lays a colour, one value or field a channel, over ``image``, in place."""
    for channel, value in enumerate(colour):
        image[channel] += opacity * (value - image[channel])


def to_field(canvas: Image.Image) -> Field:
    """Returns an 8-bit grey canvas as values in [0, 1]."""
    return np.asarray(canvas, dtype=np.float32) / np.float32(255)


def _interpolated_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    height, width = shape
    rows, columns = height / cell_px, width / cell_px
    coarse = rng.standard_normal((int(rows) + 5, int(columns) + 5), dtype=np.float32)
    left, top = 1 + rng.random(2)  # the lattice shall not always start at the corner
    box = (left, top, left + columns, top + rows)
    resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, dtype=np.float32)
