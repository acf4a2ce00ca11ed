"""Kinds are named, claims are read before decoding, and samples keep the depth of their file."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.formats import Claim, find_png_damage, read_claim
from dermfuse.imaging.preprocess import read_image

from . import made
from .made import encode

SIDE = 16
JPEG = encode(Image.new("RGB", (16, 16)), "JPEG")
FRAME = JPEG.index(b"\xff\xc0")
RAMP = Image.frombytes("L", (30, 20), bytes(i % 256 for i in range(600)))


def png(depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes], rows: int = 16) -> bytes:
    """A PNG, 16 x 16, whose rows are alike (filled up with zeros), as many as it holds."""
    row = row.ljust(SIDE * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8, b"\0")
    return made.png((SIDE, SIDE), depth, colour, [b"\0" + row] * rows, *chunks)


def deep(colour: int, *values: int, key: bytes | None = None) -> bytes:
    """One of 16 bits, with a transparent colour or none."""
    chunks = [] if key is None else [(b"tRNS", key)]
    return png(16, colour, struct.pack(f">{len(values)}H", *values), *chunks)


def claimed(data: bytes) -> Claim:
    claim = read_claim(data)
    assert claim is not None
    return claim


@pytest.mark.parametrize(
    ("data", "match"),
    [
        *((head + bytes(100), match) for head, match in (
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image.*Save the image as JPEG or PNG"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image.*Save the image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "a HEIC image"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "a film or a sound.*Export one frame"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image.*Save the image"),
            (b"PK\x03\x04", "a ZIP archive.*Unpack it"),
            (b"P6\n16 16\n255\n", "a Netpbm image.*Save the image"),
            (b"<svg xmlns=", "a text document.*Save the image"))),
        *((JPEG[: FRAME + at] + byte + JPEG[FRAME + at + 1 :], f"{match}.*Save it as PNG")
          for at, byte, match in (
            (4, b"\x0c", "a JPEG image of 12 bits per sample"),
            (1, b"\xc3", "a JPEG image that is lossless"),
            (1, b"\xc9", "a JPEG image that is arithmetic-coded"),
            (1, b"\xf7", "a JPEG-LS image"))),
        *((png(depth, colour, b"", rows=SIDE - 1), "ends before the picture does")
          for depth, colour in ((1, 0), (8, 2), (16, 6))),
        (png(8, 3, b""), "its palette is missing"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(data: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        read_image(data)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_layout_of_webp_says_its_size(mode: str, options: dict[str, Any]) -> None:
    red, blue = Image.new(mode, (300, 200), "red"), Image.new(mode, (300, 200), "blue")
    claim = claimed(encode(red, "WEBP", **options))
    assert (claim.width, claim.height, claim.several) == (300, 200, False)
    assert claimed(encode(red, "WEBP", save_all=True, append_images=[blue])).several
    assert claimed(encode(red, "WEBP")[:20]).width == 0  # cut off


def test_of_a_gif_the_first_picture_alone_reaches_the_decoder() -> None:
    gif = encode(RAMP, "GIF", comment=b"a" * 10_000, transparency=7)
    claim = claimed(gif)
    assert (claim.width, claim.height, claim.several) == (30, 20, False)
    assert len(claim.plain) < len(gif) - 10_000
    with Image.open(io.BytesIO(gif)) as whole, Image.open(io.BytesIO(claim.plain)) as plain:
        assert plain.info["transparency"] == whole.info["transparency"]
        assert plain.convert("RGBA").tobytes() == whole.convert("RGBA").tobytes()
    at = gif.index(b",\0\0\0\0\x1e\0\x14\0")  # bytes between blocks mean nothing
    assert read_claim(gif[:at] + b"\0\0\0" + gif[at:]) == claim
    several = encode(RAMP, "GIF", save_all=True, append_images=[Image.new("L", (30, 20))])
    less = struct.pack("<HH", 10, 10)  # than its frame
    claim = claimed(several[:6] + less + several[10:])
    assert (claim.width, claim.height, claim.several) == (30, 20, True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # grey, and the one that is transparent, in the file's depth; bits above it do not count
        *((png(depth, 0, bytes.fromhex(row), (b"tRNS", struct.pack(">H", key))), levels)
          for depth, row, key, levels in (
            (1, "40", 0, [255, 255, 255]), (1, "40", 1, [0, 255, 0]),
            (2, "1b", 2, [0, 85, 255, 255]), (4, "0158", 5, [0, 17, 255, 136]),
            (4, "0158", 0x15, [0, 17, 255, 136]), (8, "0005ff", 5, [0, 255, 255]),
            (16, "000500060100ffff", 5, [255, 0, 1, 255]))),
        # the second differs in a lower byte; 384 / 257 is 1.49, 385 / 257 is 1.50
        (deep(2, 0x0102, 3, 4, 0x0102, 3, 5, 384, 385, 65535, key=b"\1\2\0\3\0\4"),
         [255, [1, 0, 0], [1, 1, 255]]),
        (deep(2, 128, 129, 65535), [[0, 1, 255]]),
        (deep(6, 0, 0, 0, 257 * 100), [155]),  # laid on white
        (deep(4, 0, 65535, 65535, 65535, 384, 65535, 0, 0, 0x64FF, 65535), [0, 255, 1, 255, 0x65]),
    ],
)  # fmt: skip
def test_depths_and_transparent_colours_of_png(data: bytes, expected: list[Any]) -> None:
    shown = read_image(data)[3, : len(expected)]
    assert shown.tolist() == [each if isinstance(each, list) else [each] * 3 for each in expected]


def test_a_png_is_whole_with_all_its_rows_and_passes() -> None:
    for rows in (SIDE, SIDE + 1):
        assert find_png_damage(png(8, 2, b"", rows=rows)) == ""
    data = bytearray(made.png((19, 17), 8, 0, []))
    data[28] = 1  # interlaced: seven passes of 3, 3, 2, 5, 4, 9 and 8 rows
    held = 12 + 9 + 12 + 30 + 44 + 90 + 160
    for short, found in ((0, ""), (1, "its coded data ends before the picture does")):
        coded = zlib.compress(bytes(held - short))
        whole = data[:33] + struct.pack(">I", len(coded)) + b"IDAT" + coded + bytes(4)
        assert find_png_damage(bytes(whole)) == found
