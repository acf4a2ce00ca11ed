"""What a network saw, laid over the image: the outline and the activation map."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dermfuse.outlines import outline

Rgb = NDArray[np.uint8]

OUTLINE_COLOUR = (0, 90, 200)
"""Blue, as the predicted outlines of the paper's Figs. 13 and 14."""
HALO_COLOUR = (255, 255, 255)

VIRIDIS = (
    (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135),
    (57, 86, 140), (49, 104, 142), (42, 120, 142), (35, 136, 142),
    (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104),
    (122, 209, 81), (165, 219, 54), (210, 226, 27), (253, 231, 37),
)  # fmt: skip
"""Viridis (van der Walt and Smith, 2015; CC0) at 16 equal steps: even in lightness, and told
apart with colour-blind eyes and in grey."""

_PEAK_OPACITY = 0.65
_LINE_SHARE = 1 / 320  # of the longer side; with its halo a line is twice as wide


def draw_outline(image: Rgb, mask: NDArray[np.bool_]) -> Rgb:
    """Returns the image with the outline of a mask in blue between white lines.

    Args:
        image: (H, W, 3) uint8, RGB; it is not changed.
        mask: (H, W); an empty one leaves the image as it is.

    Raises:
        ValueError: Image and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image and mask differ in size: {image.shape[:2]} and {mask.shape}")
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    width = max(1, round(_LINE_SHARE * max(mask.shape)))
    # A pixel's centre is half a pixel from the corner that outlines count from.
    loops = [[(x - 0.5, y - 0.5) for x, y in ring + ring[:2]] for ring in outline(mask)]
    for colour, thickness in (
        (HALO_COLOUR, width + 2 * max(1, width // 2)),
        (OUTLINE_COLOUR, width),
    ):
        for loop in loops:
            pen.line(loop, fill=colour, width=thickness, joint="curve")
    return np.asarray(picture)


def draw_activation(
    image: Rgb, activation: NDArray[np.float32], *, low: float = 0.0, high: float | None = None
) -> Rgb:
    """Returns the image under an activation map in viridis, the more opaque the higher it is.

    The map is enlarged bilinearly to the image. What is at ``low`` or below is not tinted at
    all: by default what speaks against malignancy, or not at all, leaves the image bare.

    Args:
        image: (H, W, 3) uint8, RGB; it is not changed.
        activation: (h, w), any range.
        low: The value at which the tint begins.
        high: The value at which it is full; the map's maximum if not given, so that maps of two
            images can only be compared when it is.

    Paper:
        Fig. 9: class activation maps over the image.
    """
    top = float(activation.max()) if high is None else high
    span = top - low
    if span <= 0:  # nothing is above low
        return image.copy()
    height, width = image.shape[:2]
    shares = np.clip((activation - np.float32(low)) / np.float32(span), 0.0, 1.0)
    small = Image.fromarray(np.ascontiguousarray(shares, dtype=np.float32) * np.float32(255))
    level = small.resize((width, height), Image.Resampling.BILINEAR).convert("L")
    opacity = level.point([round(_PEAK_OPACITY * value) for value in range(256)])
    tint = level.copy()
    tint.putpalette(_lookup_table().tobytes())
    return np.asarray(Image.composite(tint.convert("RGB"), Image.fromarray(image), opacity))


def encode_png(image: Rgb) -> bytes:
    """Returns an image as the bytes of a PNG file (fast rather than small).

    Example:
        >>> encode_png(np.zeros((4, 4, 3), np.uint8))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _lookup_table() -> Rgb:
    """Returns viridis at 256 steps, interpolated between its anchors."""
    anchors = np.array(VIRIDIS, dtype=np.float64)
    steps = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(steps, np.arange(len(anchors)), channel) for channel in anchors.T]
    table: Rgb = np.rint(np.stack(channels, axis=1)).astype(np.uint8)  # (256, 3)
    return table
