"""What a WebP says of its size: its decoder takes memory for it before anybody can ask."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dermfuse.decoding.limits import too_many

MAX_CHUNKS = 100_000
WEBP_PIXEL_BYTES = 18
"""What Pillow's decoder takes for each pixel: two canvases, a copy, and the image."""
_FIRST = 12
_SIDE_BITS = 14


@dataclass(frozen=True, slots=True)
class WebP:
    """What the chunks of a WebP say.

    Attributes:
        width: The largest that one of them claims.
        height: The same.
        frames: How many frames its animation has; 0 if there is none.
    """

    width: int
    height: int
    frames: int


def is_webp(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read_webp(data: bytes, name: str) -> WebP:
    """Returns the size that a WebP claims.

    Raises:
        ImageError: It has more than ``MAX_CHUNKS`` chunks.
    """
    width = height = frames = 0
    for count, (kind, start) in enumerate(_chunks(data)):
        if count == MAX_CHUNKS:
            raise too_many(name, "chunks", MAX_CHUNKS)
        frames += kind == b"ANMF"
        own_width, own_height = _size(kind, data[start : start + 12])
        width, height = max(width, own_width), max(height, own_height)
    return WebP(width, height, frames)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = _FIRST
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8
        at += 8 + length + length % 2


def _size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Returns the size that a chunk claims; nothing for one that claims none or is cut off."""
    padded = head.ljust(12, b"\0")
    if kind in (b"VP8X", b"ANMF"):
        at = 4 if kind == b"VP8X" else 6
        fields = (padded[at : at + 3], padded[at + 3 : at + 6])
        width, height = (int.from_bytes(each, "little") + 1 for each in fields)
        return width, height
    mask = (1 << _SIDE_BITS) - 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", padded, 6)
        return width & mask, height & mask
    if kind == b"VP8L":
        bits = int.from_bytes(padded[1:5], "little")
        return (bits & mask) + 1, (bits >> _SIDE_BITS & mask) + 1
    return 0, 0
