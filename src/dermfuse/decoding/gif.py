"""A GIF without what does not belong to its picture.

Pillow joins the blocks of comments one by one, which takes minutes for a file of nothing else.
"""

import struct
from dataclasses import dataclass

from dermfuse.decoding.limits import too_many

MAX_BLOCKS = 1_000_000
_HEADER_BYTES = 13
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_CONTROL = b"!\xf9"


@dataclass(frozen=True, slots=True)
class Gif:
    """The first picture of a GIF.

    Attributes:
        width: Of the frame or, if that is larger, of the picture in it.
        height: The same.
        data: The file with its first picture alone.
        is_animated: Whether another follows.
    """

    width: int
    height: int
    data: bytes
    is_animated: bool


def is_gif(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be GIF."""
    return head.startswith((b"GIF87a", b"GIF89a"))


def read_gif(data: bytes, name: str) -> Gif:
    """Returns the first picture of a GIF.

    Raises:
        ImageError: It has more than ``MAX_BLOCKS`` blocks.
        IndexError, struct.error: It is cut off before its picture.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = _HEADER_BYTES + _table_bytes(flags)
    kept, picture, left_blocks = [data[:at]], b"", MAX_BLOCKS
    while at < len(data) and data[at] != _TRAILER and not (picture and data[at] == _IMAGE):
        start = at
        if data[at] == _IMAGE:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + across), max(height, top + down)
            at += 11 + _table_bytes(flags)  # with the smallest code's size
        elif data[at] == _EXTENSION:
            at += 2
        else:  # a byte that means nothing
            at += 1
        if data[start] in (_IMAGE, _EXTENSION):
            while at < len(data) and data[at] and left_blocks > 0:
                at += data[at] + 1
                left_blocks -= 1
            at += 1
        left_blocks -= 1
        if left_blocks < 0:
            raise too_many(name, "blocks", MAX_BLOCKS)
        if data[start] == _IMAGE:
            picture = data[start:at]
        elif data[start : start + 2] == _CONTROL and not picture:
            kept[1:] = [data[start:at]]
    animated = bool(picture) and data[at : at + 1] == bytes([_IMAGE])
    return Gif(width, height, b"".join([*kept, picture, bytes([_TRAILER])]), animated)


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
