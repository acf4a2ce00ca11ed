"""Kinds are named, claims are read before decoding, and samples keep the depth of their file."""

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.formats import (
    find_png_damage,
    image_samples,
    name_kind,
    png_samples,
    read_claim,
    turn,
)
from dermfuse.imaging.preprocess import read_image

from . import made
from .made import encode

SIDE = 16
TURNS = (None, *(Image.Transpose[name] for name in (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE",
    "ROTATE_90",
)))  # fmt: skip
"""What undoes the orientations 1 to 8."""


def png(depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes], rows: int = 16) -> bytes:
    """A PNG, 16 x 16, whose rows are alike (filled up with zeros), as many as it holds."""
    row = row.ljust(SIDE * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8, b"\0")
    return made.png((SIDE, SIDE), depth, colour, (b"\0" + row) * rows, *chunks)


class TestKinds:
    @pytest.mark.parametrize(
        ("head", "found"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "a HEIC image"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "a film or a sound"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
            (b"PK\x03\x04", "a ZIP archive"),
            (b"P6\n16 16\n255\n", "a Netpbm image"),
            (b"<svg xmlns=", "a text document"),
        ],
    )
    def test_they_are_told_by_their_first_bytes(self, head: bytes, found: str) -> None:
        assert name_kind(head)[0].startswith(found)
        with pytest.raises(ImageError, match=re.escape(found)) as caught:
            read_image(head + bytes(100))
        assert re.search("Save the image as|Export one frame|Unpack it", str(caught.value))

    @pytest.mark.parametrize(
        ("place", "byte", "found"),
        [
            (4, 12, "a JPEG image of 12 bits per sample"),
            (1, 0xC3, "a JPEG image that is lossless"),
            (1, 0xC9, "a JPEG image that is arithmetic-coded"),
            (1, 0xF7, "a JPEG-LS image"),
        ],
    )
    def test_a_jpeg_of_another_coding_or_depth(self, place: int, byte: int, found: str) -> None:
        data = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
        data[data.index(b"\xff\xc0") + place] = byte
        with pytest.raises(ImageError, match=f"{found}.*Save it as PNG"):
            read_image(bytes(data))


class TestClaims:
    GREY = Image.frombytes("L", (30, 20), bytes(i % 256 for i in range(600)))

    @pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}])
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_every_layout_of_webp_says_its_size(self, mode: str, options: dict[str, Any]) -> None:
        red, blue = Image.new(mode, (300, 200), "red"), Image.new(mode, (300, 200), "blue")
        claim = read_claim(encode(red, "WEBP", **options), "it")
        assert claim is not None
        assert (claim.width, claim.height, claim.several) == (300, 200, False)
        both = read_claim(encode(red, "WEBP", save_all=True, append_images=[blue]), "it")
        assert both is not None
        assert both.several

    def test_a_chunk_that_is_cut_off_claims_nothing(self) -> None:
        cut = read_claim(encode(Image.new("RGB", (300, 200)), "WEBP")[:20], "it")
        assert cut is not None
        assert cut.width == 0

    def test_of_a_gif_the_first_picture_alone_reaches_the_decoder(self) -> None:
        gif = encode(self.GREY, "GIF", comment=b"a" * 10_000, transparency=7)
        claim = read_claim(gif, "it")
        assert claim is not None
        assert (claim.width, claim.height, claim.several) == (30, 20, False)
        assert len(claim.plain) < len(gif) - 10_000
        with Image.open(io.BytesIO(gif)) as whole, Image.open(io.BytesIO(claim.plain)) as plain:
            assert plain.info["transparency"] == whole.info["transparency"]
            assert plain.convert("RGBA").tobytes() == whole.convert("RGBA").tobytes()
        at = gif.index(b",\0\0\0\0\x1e\0\x14\0")  # bytes between blocks mean nothing
        assert read_claim(gif[:at] + b"\0\0\0" + gif[at:], "it") == claim

    def test_a_gif_may_claim_more_than_its_frame_and_hold_several_pictures(self) -> None:
        other = Image.new("L", (30, 20), 9)
        gif = bytearray(encode(self.GREY, "GIF", save_all=True, append_images=[other]))
        struct.pack_into("<HH", gif, 6, 10, 10)
        claim = read_claim(bytes(gif), "it")
        assert claim is not None
        assert (claim.width, claim.height, claim.several) == (30, 20, True)
        with pytest.raises(struct.error):
            read_claim(b"GIF89a\0", "it")


class TestPng:
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
    def test_transparent_grey_is_compared_in_the_files_depth(
        self, depth: int, row: str, key: int, expected: list[int]
    ) -> None:
        data = png(depth, 0, bytes.fromhex(row), (b"tRNS", struct.pack(">H", key)))
        assert read_image(data)[3, : len(expected)].tolist() == [[level] * 3 for level in expected]

    @pytest.mark.parametrize(
        ("colour", "values", "key", "expected"),
        [
            # the second differs in a lower byte; 384 / 257 is 1.49, 385 / 257 is 1.50
            (2, [0x0102, 3, 4, 0x0102, 3, 5, 384, 385, 65535], [0x0102, 3, 4],
             [[255] * 3, [1, 0, 0], [1, 1, 255]]),
            (2, [128, 129, 65535], None, [[0, 1, 255]]),
            (6, [0, 0, 0, 257 * 100], None, [[155] * 3]),  # laid on white
            (4, [0, 65535, 65535, 65535, 384, 65535, 0, 0, 0x64FF, 65535], None,
             [[0] * 3, [255] * 3, [1] * 3, [255] * 3, [0x65] * 3]),
        ],
    )  # fmt: skip
    def test_sixteen_bits_are_rounded(
        self, colour: int, values: list[int], key: list[int] | None, expected: list[list[int]]
    ) -> None:
        chunks = [] if key is None else [(b"tRNS", struct.pack(">HHH", *key))]
        data = png(16, colour, struct.pack(f">{len(values)}H", *values), *chunks)
        assert read_image(data)[3, : len(expected)].tolist() == expected

    def test_a_transparent_colour_in_an_image_that_is_turned(self) -> None:
        exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"  # upside down
        key = struct.pack(">HHH", 9, 9, 9)
        pixels = read_image(png(16, 2, key, (b"tRNS", key), (b"eXIf", exif)))
        assert pixels[0, [0, -1]].tolist() == [[0] * 3, [255] * 3]

    @pytest.mark.parametrize(("depth", "colour"), [(1, 0), (8, 2), (16, 6)])
    def test_rows_or_a_palette_that_are_missing_are_told(self, depth: int, colour: int) -> None:
        assert find_png_damage(png(depth, colour, b"")) == ""
        assert find_png_damage(png(depth, colour, b"", rows=SIDE + 1)) == ""
        with pytest.raises(ImageError, match="ends before the picture does"):
            read_image(png(depth, colour, b"", rows=SIDE - 1))
        with pytest.raises(ImageError, match="its palette is missing"):
            read_image(png(8, 3, b""))

    def test_an_interlaced_image_is_whole_with_all_its_passes(self) -> None:
        data = bytearray(encode(Image.new("L", (19, 17), 7), "PNG"))
        data[28] = 1  # says: seven passes of 3, 3, 2, 5, 4, 9 and 8 rows
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        start, held = data.index(b"IDAT") - 4, 12 + 9 + 12 + 30 + 44 + 90 + 160
        for short, found in ((0, ""), (1, "its coded data ends before the picture does")):
            coded = zlib.compress(bytes(held - short))
            body = struct.pack(">I", len(coded)) + b"IDAT" + coded + bytes(4)
            assert find_png_damage(bytes(data[:start]) + body) == found


class TestSamples:
    def test_png_keeps_its_depth_and_what_is_transparent(self) -> None:
        row = struct.pack(">HH", 5, 6)
        grey, _ = png_samples(png(16, 0, row, (b"tRNS", struct.pack(">H", 5))))
        assert (grey.top, grey.values[0, :3, 0].tolist()) == (65_535, [5, 6, 0])
        assert grey.alpha is not None
        assert grey.alpha[0, :3].tolist() == [0, 65_535, 65_535]
        colours, _ = png_samples(png(16, 2, struct.pack(">HHH", 1, 2, 258)))
        assert colours.values[0, 0].tolist() == [1, 2, 258]
        assert colours.alpha is None

    def test_each_mode_says_what_it_holds(self) -> None:
        assert image_samples(Image.new("L", (2, 1), 7)).values.tolist() == [[[7], [7]]]
        assert image_samples(Image.new("I;16", (1, 1), 300)).values.tolist() == [[[300]]]
        rgba = image_samples(Image.new("RGBA", (1, 1), (1, 2, 3, 4)))
        assert rgba.values.tolist() == [[[1, 2, 3]]]
        assert rgba.alpha is not None
        assert rgba.alpha.tolist() == [[4]]
        palette = Image.new("P", (1, 1), 1)
        palette.putpalette([0, 0, 0, 9, 8, 7])
        samples = image_samples(palette)
        assert samples.values.tolist() == [[[9, 8, 7]]]
        assert samples.indices is not None
        assert samples.indices.tolist() == [[1]]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_they_are_turned_as_images_are(self, orientation: int) -> None:
        stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
        how = TURNS[orientation - 1]
        upright = stored if how is None else np.asarray(Image.fromarray(stored).transpose(how))
        assert turn(stored.astype(np.uint16), orientation).tolist() == upright.tolist()
