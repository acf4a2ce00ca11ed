"""PNG with a transparent colour (tRNS), and colours of 16 bits.

Pillow keeps the upper byte of 16-bit colours alone, and compares a transparent colour with pixels
of another depth. Here it is compared in the file's own depth; what has it becomes white.
"""

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types that a transparent colour may belong to
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # unpack the lower byte instead


def is_png(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be PNG."""
    return head.startswith(_SIGNATURE)


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
    if depth == 16 and image.mode in ("RGB", "RGBA"):
        values = _sixteen_bits(image, data)
        levels = ((values + np.uint32(128)) // np.uint32(257)).astype(np.uint8)
    elif key is not None:
        values = np.asarray(image)
        levels = _levels(values, depth)
    else:
        return image
    if key is not None:
        levels[_has(values, key, depth)] = 255
    return Image.frombytes(
        "L" if levels.ndim == 2 else image.mode, image.size, np.ascontiguousarray(levels).tobytes()
    )


def _sixteen_bits(image: Image.Image, data: bytes) -> NDArray[np.uint32]:
    """Returns 16-bit colours; Pillow is asked a second time, for the lower bytes."""
    with PngImageFile(io.BytesIO(data)) as lower:
        lower.tile = [tile._replace(args=_OTHER_BYTES[str(tile.args)]) for tile in lower.tile]
        low = np.asarray(lower)
    values: NDArray[np.uint32] = np.asarray(image).astype(np.uint32) * np.uint32(256) + low
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
