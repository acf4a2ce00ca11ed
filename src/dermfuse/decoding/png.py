"""PNG with a transparent colour (tRNS), and colours of 16 bits.

Pillow keeps the upper byte of 16-bit colours alone, and compares a transparent colour with pixels
of another depth. Here it is compared in the file's own depth; what has it becomes white.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from dermfuse.decoding.limits import PIXEL_BYTES, too_many
from dermfuse.decoding.samples import Samples, image_samples, picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # colour types
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_WHOLE = ((0, 0, 1, 1),)  # first pixel and step, across and down
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
MAX_CHUNKS = 100_000
"""So many of 8 kB, as encoders write them, are 800 MB."""
_PIECE = 2**20  # bytes that are inflated at a time
_FED = 2**16  # bytes that are inflated from at a time
_STRIP_ROWS = 64
_DEEP_BYTES = 13  # for each pixel of 16 bits: the upper bytes, the lower ones, and what they make
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # unpack the lower byte instead


def is_png(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be PNG."""
    return head.startswith(_SIGNATURE)


def png_size(data: bytes, name: str) -> tuple[int, int, float]:
    """Returns width, height and what decoding takes for each pixel, in bytes.

    Raises:
        ImageError: The file has more than ``MAX_CHUNKS`` chunks.
        struct.error: It is cut off.
    """
    for count, _ in enumerate(_places(data)):
        if count == MAX_CHUNKS:
            raise too_many(name, "chunks", MAX_CHUNKS)
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    return width, height, _DEEP_BYTES if depth == 16 else PIXEL_BYTES


def find_png_damage(data: bytes) -> str:
    """Returns what a PNG lacks that Pillow does not miss, in words; nothing if it is whole.

    Pillow leaves rows black that the coded data does not hold.

    Args:
        data: A file that Pillow opens.
    """
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    chunks = list(_chunks(data))
    if colour == _PALETTE and not any(name == b"PLTE" for name, _ in chunks):
        return "its palette is missing"
    row_bits = _CHANNELS.get(colour, 0) * depth
    expected = 0
    for left, top, right, down in _ADAM7 if data[28] else _WHOLE:
        across, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + -(-across * row_bits // 8)) if across > 0 and rows > 0 else 0
    coded = b"".join(body for name, body in chunks if name == b"IDAT")
    short = _inflated_bytes(coded, expected) < expected
    return "its coded data ends before the picture does" if short else ""


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, start, length in _places(data):
        yield name, data[start : start + length]


def _places(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields each chunk's name, where its content begins, and how long that is."""
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at + 8, length
        at += length + 12


def _inflated_bytes(coded: bytes, enough: int) -> int:
    """Returns how many bytes a zlib stream holds, counted up to ``enough``."""
    inflater, count = zlib.decompressobj(), 0
    try:
        for start in range(0, len(coded), _FED):
            fed = coded[start : start + _FED]
            while fed and count < enough:
                count += len(inflater.decompress(fed, _PIECE))
                fed = inflater.unconsumed_tail
        if count < enough:
            count += len(inflater.flush())
    except zlib.error:
        return enough  # Pillow meets it too, and finds the words
    return count


def opaque_png(image: Image.Image, data: bytes) -> Image.Image:
    """Returns a decoded PNG with its transparent colour laid on white, 16-bit colours rounded.

    Args:
        image: What Pillow decoded, of any mode.
        data: The file.

    Returns:
        The image itself where there is nothing to do; transparency by an alpha channel or in a
        palette stays.
    """
    depth, colour = struct.unpack_from("BB", data, 24)
    key = image.info.get("transparency") if colour in (_GREY, _RGB) else None
    deep = depth == 16 and image.mode in ("RGB", "RGBA", "LA")
    if not deep and key is None:
        return image
    lower = _lower(data) if deep else None
    mode = "LA" if colour == _GREY_ALPHA else "L" if len(image.getbands()) == 1 else image.mode
    opaque = Image.new(mode, image.size)
    for top in range(0, image.height, _STRIP_ROWS):
        rows = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        values = _values(image.crop(rows), lower and lower.crop(rows), colour)
        levels = _levels(values, depth)
        if key is not None:
            levels[_has(values, key, depth)] = 255
        opaque.paste(picture(levels, mode), (0, top))
    return opaque


def has_own_samples(data: bytes) -> bool:
    """Returns whether ``opaque_png`` changes a PNG: it has 16 bits or a transparent colour."""
    return data[24:25] == b"\x10" or b"tRNS" in data[: data.find(b"IDAT")]


def png_samples(data: bytes) -> tuple[Samples, Image.Image]:
    """Returns what a whole PNG holds in its own depth, as stored, and Pillow's image of it."""
    depth, colour = struct.unpack_from("BB", data, 24)
    image = PngImageFile(io.BytesIO(data))
    image.load()
    if depth < 16 and colour not in (_GREY, _RGB):
        return image_samples(image), image
    lower = _lower(data) if depth == 16 and colour != _GREY else None
    values = _values(image, lower, colour)
    top, alpha = (65_535 if depth == 16 else 1 if depth == 1 else 255), None
    if colour in (_GREY_ALPHA, _RGB_ALPHA):
        values, alpha = values[..., :-1], values[..., -1].astype(np.uint16)
    elif (key := image.info.get("transparency")) is not None:
        alpha = np.where(_has(values, key, depth), np.uint16(0), np.uint16(top))
    grid = values if values.ndim == 3 else values[..., None]
    return Samples(grid.astype(np.uint16), top=top, alpha=alpha, alpha_top=top), image


def _lower(data: bytes) -> Image.Image:
    """Returns the lower bytes of 16-bit colours, or both bytes of grey and alpha as RGBA."""
    image = PngImageFile(io.BytesIO(data))
    if data[25] == _GREY_ALPHA:
        image._mode = "RGBA"
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    else:
        image.tile = [tile._replace(args=_OTHER_BYTES[str(tile.args)]) for tile in image.tile]
    image.load()
    return image


def _values(image: Image.Image, lower: Image.Image | None, colour: int) -> NDArray[np.generic]:
    """Returns the values of some rows: of 16 bits where there are lower bytes."""
    if lower is None:
        return np.asarray(image)
    low = np.asarray(lower).astype(np.uint16)
    if colour == _GREY_ALPHA:
        high, low = low[..., 0::2], low[..., 1::2]  # (h, W, 2)
    else:
        high = np.asarray(image).astype(np.uint16)
    values: NDArray[np.uint16] = high * np.uint16(256) + low
    return values


def _levels(values: NDArray[np.generic], depth: int) -> NDArray[np.uint8]:
    """Returns Pillow's values as levels: they are already, but for one bit and for 16."""
    if depth == 16:
        return ((values.astype(np.uint32) + np.uint32(128)) // np.uint32(257)).astype(np.uint8)
    return np.where(values, np.uint8(255), np.uint8(0)) if depth == 1 else values.astype(np.uint8)


def _has(values: NDArray[np.generic], key: int | tuple[int, ...], depth: int) -> NDArray[np.bool_]:
    """Returns where pixels have the transparent colour; bits above the depth do not count."""
    kept = np.atleast_1d(np.asarray(key)) & (2**depth - 1)
    if depth == 1:
        same = values.astype(bool) == kept.astype(bool)
    else:
        same = values == kept * {2: 85, 4: 17}.get(depth, 1)  # as Pillow spreads few bits
    whole: NDArray[np.bool_] = same if values.ndim == 2 else same.all(axis=2)
    return whole
