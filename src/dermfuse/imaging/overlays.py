"""What a network saw, laid over the image: the outline and the activation map."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dermfuse.imaging.formats import strips_of
from dermfuse.imaging.outlines import outline
from dermfuse.imaging.preprocess import resize_map
from dermfuse.records.folders import NOTICE

Rgb = NDArray[np.uint8]

OUTLINE_COLOUR = (0, 90, 200)
"""Blue, as the predicted outlines of the paper's Figs. 13 and 14."""
HALO_COLOUR = (255, 255, 255)

FOR_COLOUR = (255, 190, 0)
"""Amber: what speaks for malignancy. Told from violet with colour-blind eyes and in grey."""
AGAINST_COLOUR = (84, 39, 136)
"""Violet: what speaks against it."""
LONG_SIDE_PX = 2_560
"""Of a picture; larger images are shrunk to it before anything is drawn."""
FULL_LOG_ODDS = 6.0
"""Of a place that is tinted in full, for or against: the same for every image and network."""
AGAINST_WORDS = "against melanoma"
FOR_WORDS = "for melanoma"

_PEAK_OPACITY = 0.65
_BAND_SHARE = 1 / 26  # of the longer side: the height of a line of the caption
_LEAST_BAND_PX = 16
_LETTER_SHARE = 0.5  # of a line's height
_INK = (19, 36, 42)
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
    halo = width + 2 * max(1, width // 2)
    for colour, thickness in ((HALO_COLOUR, halo), (OUTLINE_COLOUR, width)):
        for loop in loops:
            pen.line(loop, fill=colour, width=thickness, joint="curve")
    return np.asarray(picture)


def draw_activation(image: Rgb, activation: NDArray[np.float32]) -> Rgb:
    """Returns the image under an activation map: amber speaks for malignancy, violet against.

    The map is enlarged bilinearly to the image. A place is the more opaque the more it adds to the
    log-odds or takes from them, up to ``FULL_LOG_ODDS``; what adds nothing leaves the image bare.
    The scale is one for all images: a map that says little shows little.

    Args:
        image: (H, W, 3) uint8, RGB; it is not changed.
        activation: (h, w), in log-odds of malignancy (``Analysis.activation``).

    Paper:
        Fig. 9: class activation maps over the image.
    """
    all_shares = resize_map(activation / np.float32(FULL_LOG_ODDS), *image.shape[:2])
    colours = np.array([AGAINST_COLOUR, FOR_COLOUR], dtype=np.float32)
    drawn = np.empty_like(image)
    for rows in strips_of(len(image)):  # sixty bytes a pixel otherwise
        below, shares = image[rows], all_shares[rows, :, None]
        opacity = np.float32(_PEAK_OPACITY) * np.minimum(np.abs(shares), 1)
        tint = colours[(shares[..., 0] > 0).astype(np.intp)]  # (h, W, 3)
        drawn[rows] = np.rint(below + opacity * (tint - below)).astype(np.uint8)
    return drawn


def add_caption(image: Rgb, *, legend: bool) -> Rgb:
    """Returns the image with the notice below it and, above that, the legend of the tints.

    Args:
        image: (H, W, 3) uint8, RGB.
        legend: Whether the image lies under an activation map.

    Returns:
        (H + one line or two, W, 3)
    """
    height, width = image.shape[:2]
    line = max(_LEAST_BAND_PX, round(_BAND_SHARE * max(height, width)))
    picture = Image.new("RGB", (width, height + line * (1 + legend)), (255, 255, 255))
    picture.paste(Image.fromarray(image))
    if legend:
        _draw_legend(picture, top=height, line=line)
    room = width - 2 * line / 3
    _write(picture, NOTICE, (line / 3, picture.height - line / 2), line=line, room=room)
    return np.asarray(picture)


def encode_png(image: Rgb) -> bytes:
    """Returns an image as the bytes of a PNG file (fast rather than small).

    Example:
        >>> encode_png(np.zeros((4, 4, 3), np.uint8))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _draw_legend(picture: Image.Image, *, top: int, line: int) -> None:
    """Draws the tints on white between the words that say what they mean."""
    third = picture.width / 3
    edge, middle = line / 3, top + line / 2
    room = third - 2 * edge
    _write(picture, AGAINST_WORDS, (third - edge, middle), line=line, room=room, anchor="rm")
    _write(picture, FOR_WORDS, (2 * third + edge, middle), line=line, room=room)
    steps = np.linspace(-FULL_LOG_ODDS, FULL_LOG_ODDS, max(1, round(third)), dtype=np.float32)
    white = np.full((max(1, line // 2), len(steps), 3), 255, np.uint8)
    bar = draw_activation(white, steps[None, :])
    picture.paste(Image.fromarray(bar), (round(third), top + (line - len(bar)) // 2))


def _write(
    picture: Image.Image,
    words: str,
    at: tuple[float, float],
    *,
    line: float,
    room: float,
    anchor: str = "lm",
) -> None:
    """Writes words on one line, smaller where they would not fit into the room.

    Args:
        picture: The picture to write on.
        words: The words.
        at: The words' left or right end, and the middle of the line; in pixels.
        line: The line's height, in pixels.
        room: The greatest length of the words, in pixels.
        anchor: ``lm`` or ``rm``: the end that ``at`` is.
    """
    size = _LETTER_SHARE * line
    length = ImageFont.load_default(size).getlength(words)
    font = ImageFont.load_default(size * min(1.0, room / length))
    ImageDraw.Draw(picture).text(at, words, fill=_INK, font=font, anchor=anchor)
