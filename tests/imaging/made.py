"""Image files, made in memory."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """What Pillow writes of an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG of any width and height, depth and colour type, that holds the rows given."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
