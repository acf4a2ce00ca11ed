"""A PNG's transparent colour is compared in the file's own depth, and becomes white."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.formats import find_png_damage, png_samples
from dermfuse.imaging.preprocess import read_image

SIDE = 16


def _png(
    depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes], rows: int = SIDE
) -> bytes:
    """A PNG, 16 x 16, whose rows are alike, as many as it holds."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    coded = zlib.compress((b"\0" + row) * rows)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", coded), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _first(data: bytes, count: int) -> list[Any]:
    return read_image(data)[3, :count].tolist()


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, "40", 0, [255, 255, 255]),  # 0 1 0: black is transparent
        (1, "40", 1, [0, 255, 0]),
        (2, "1b", 2, [0, 85, 255, 255]),  # 0 1 2 3
        (4, "0158", 5, [0, 17, 255, 136]),  # 0 1 5 8
        (4, "0158", 0x15, [0, 17, 255, 136]),  # bits above the depth do not count
        (8, "0005ff", 5, [0, 255, 255]),
        (16, "000500060100ffff", 5, [255, 0, 1, 255]),
    ],
)
def test_transparent_grey_of_every_depth(
    depth: int, row: str, key: int, expected: list[int]
) -> None:
    stored = bytes.fromhex(row).ljust(SIDE * depth // 8, b"\0")
    pixels = _first(_png(depth, 0, stored, (b"tRNS", struct.pack(">H", key))), len(expected))
    assert pixels == [[level] * 3 for level in expected]


def test_a_transparent_colour_of_sixteen_bits_is_compared_whole() -> None:
    colours = [(0x0102, 3, 4), (0x0102, 3, 5), (0x0180, 0x0181, 0xFFFF)]
    row = b"".join(struct.pack(">HHH", *colour) for colour in colours).ljust(6 * SIDE, b"\0")
    data = _png(16, 2, row, (b"tRNS", struct.pack(">HHH", 0x0102, 3, 4)))
    # the second differs in a lower byte; the third is rounded: 384 / 257 is 1.49, 385 / 257 is 1.50
    assert _first(data, 3) == [[255] * 3, [1, 0, 0], [1, 1, 255]]


def test_colours_of_sixteen_bits_are_rounded_as_grey_is() -> None:
    row = struct.pack(">HHH", 128, 129, 65535).ljust(6 * SIDE, b"\0")
    assert _first(_png(16, 2, row), 1) == [[0, 1, 255]]


def test_alpha_of_sixteen_bits_is_laid_on_white() -> None:
    row = struct.pack(">HHHH", 0, 0, 0, 257 * 100).ljust(8 * SIDE, b"\0")
    assert np.abs(np.array(_first(_png(16, 6, row), 1)) - 155).max() <= 1


def test_grey_with_alpha_of_sixteen_bits_is_rounded() -> None:
    row = struct.pack(">HHHH", 0x64FF, 0xFFFF, 0x64FF, 0x0000).ljust(4 * SIDE, b"\0")
    assert _first(_png(16, 4, row), 2) == [[0x65] * 3, [255] * 3]


@pytest.mark.parametrize(("depth", "colour", "row_bytes"), [(1, 0, 2), (8, 2, 48), (16, 6, 128)])
def test_rows_that_are_missing_are_told(depth: int, colour: int, row_bytes: int) -> None:
    row = bytes(row_bytes)
    assert find_png_damage(_png(depth, colour, row)) == ""
    assert find_png_damage(_png(depth, colour, row, rows=SIDE + 1)) == ""
    with pytest.raises(ImageError, match="ends before the picture does"):
        read_image(_png(depth, colour, row, rows=SIDE - 1))


def test_a_palette_that_is_missing_is_told() -> None:
    with pytest.raises(ImageError, match="its palette is missing"):
        read_image(_png(8, 3, bytes(SIDE)))


def test_an_interlaced_image_is_whole_with_all_its_passes() -> None:
    buffer = io.BytesIO()
    Image.new("L", (19, 17), 7).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[28] = 1  # says: seven passes of 3, 3, 2, 5, 4, 9 and 8 rows
    header = bytes(data[12:29])
    data[29:33] = struct.pack(">I", zlib.crc32(header))
    start = data.index(b"IDAT") - 4
    for short, found in ((0, ""), (1, "its coded data ends before the picture does")):
        coded = zlib.compress(
            bytes(3 * 4 + 3 * 3 + 2 * 6 + 5 * 6 + 4 * 11 + 9 * 10 + 8 * 20 - short)
        )
        body = struct.pack(">I", len(coded)) + b"IDAT" + coded + bytes(4)
        assert find_png_damage(bytes(data[:start]) + body) == found


def test_a_transparent_colour_in_an_image_that_is_turned() -> None:
    row = struct.pack(">HHH", 9, 9, 9).ljust(6 * SIDE, b"\0")
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"  # upside down
    chunks = (b"tRNS", struct.pack(">HHH", 9, 9, 9)), (b"eXIf", exif)
    pixels = read_image(_png(16, 2, row, *chunks))
    assert pixels[0, -1].tolist() == [255] * 3
    assert pixels[0, 0].tolist() == [0] * 3


def test_grey_and_alpha_of_sixteen_bits() -> None:
    values = (0, 65535, 65535, 65535, 384, 65535, 0, 0)  # grey, alpha
    row = struct.pack(">8H", *values).ljust(4 * SIDE, b"\0")
    assert _first(_png(16, 4, row), 4) == [[0] * 3, [255] * 3, [1] * 3, [255] * 3]


def test_samples_keep_their_depth_and_what_is_transparent() -> None:
    grey, _ = png_samples(_png(16, 0, struct.pack(">HH", 5, 6).ljust(2 * SIDE, b"\0"),
                               (b"tRNS", struct.pack(">H", 5))))  # fmt: skip
    assert grey.top == 65_535
    assert grey.values[0, :3, 0].tolist() == [5, 6, 0]
    assert grey.alpha is not None
    assert grey.alpha[0, :3].tolist() == [0, 65_535, 65_535]
    colours, _ = png_samples(_png(16, 2, struct.pack(">HHH", 1, 2, 258).ljust(6 * SIDE, b"\0")))
    assert colours.values[0, 0].tolist() == [1, 2, 258]
    assert colours.alpha is None
