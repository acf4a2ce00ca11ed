"""Image files, made in memory."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """What Pillow writes of an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(
    size: tuple[int, int], depth: int, colour: int, rows: Iterable[bytes],
    *chunks: tuple[bytes, bytes],
) -> bytes:  # fmt: skip
    """A PNG of any width and height, depth and colour type, that holds the rows given."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    packer = zlib.compressobj(1)
    coded = b"".join(map(packer.compress, rows)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), *chunks, (b"IDAT", coded), (b"IEND", b""))
    )
