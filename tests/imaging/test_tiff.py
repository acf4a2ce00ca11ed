"""TIFF files, written byte by byte, show what their tags say; other layouts are named."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import image_pixels, read_image, read_samples

from .made import encode

SIDE = 16
WIDTH, HEIGHT, BITS, CODING, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, ROWS, COUNTS, PLANES, PREDICTOR, COLOURS = 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA, FORMAT, XMP = 338, 339, 700


def _tiff(
    parts: list[bytes], tags: dict[int, Any], *, order: str = "<", following: int = 0
) -> bytes:
    """A file of strips (tiles if there is a tile's width), its directory behind them."""
    starts = np.cumsum([8, *(len(part) for part in parts)]).tolist()
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if TILE_WIDTH in tags else (OFFSETS, COUNTS)
    given = {
        WIDTH: SIDE, HEIGHT: SIDE, BITS: 8, CODING: 1, PHOTOMETRIC: 1, SAMPLES: 1,
        offsets: starts[:-1], counts: [len(part) for part in parts],
    } | ({} if TILE_WIDTH in tags else {ROWS: SIDE})  # fmt: skip
    entries, behind, all_tags = b"", b"", given | tags
    at = starts[-1] + 2 + 12 * len(all_tags) + 4
    for tag, value in sorted(all_tags.items()):
        values = value if isinstance(value, list) else [value]
        field = struct.pack(f"{order}{len(values)}I", *values)
        if len(field) > 4:
            field, behind = struct.pack(order + "I", at + len(behind)), behind + field
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", starts[-1])
    directory = struct.pack(order + "H", len(all_tags)) + entries
    return head + b"".join(parts) + directory + struct.pack(order + "I", following) + behind


def _grid(first: list[Any], kind: str) -> NDArray[Any]:
    """Zeros, (16, 16) or (16, 16, C), that begin with some pixels."""
    pixels = np.zeros((SIDE, SIDE, *np.shape(first)[1:]), kind)
    pixels[0, : len(first)] = first
    return pixels


def _packed(first: list[int], bits: int, *, in_row: int = SIDE) -> bytes:
    """The same in ``bits`` bits each, highest first, rows filled up to whole bytes."""
    row = "".join(f"{value:0{bits}b}" for value in [*first, *[0] * (in_row - len(first))])
    length = -(-len(row) // 8)
    return int(row.ljust(8 * length, "0"), 2).to_bytes(length, "big") + bytes(length * (SIDE - 1))


def _planes(first: list[Any], kind: str = "<u2") -> list[bytes]:
    """The channels of ``_grid``, one after the other."""
    return [plane.tobytes() for plane in np.moveaxis(_grid(first, kind), -1, 0)]


RGB8, RGB16, RGBA16, GREY16 = (
    {BITS: [bits] * channels, SAMPLES: channels, PHOTOMETRIC: 2 if channels > 1 else 1}
    for bits, channels in ((8, 3), (16, 3), (16, 4), (16, 1))
)
GREYS = [0, 128, 129, 25700, 65535]
DIFFERENT = [257, 514, 65022, *[0] * 13]  # each value less the one before it: 257, 771, 257
ALPHA, MULTIPLIED = (
    _grid([[*colour, 25700]], "<u2").tobytes() for colour in ((0, 65535, 65535), (0, 0, 0))
)
NINE = zlib.compress(_grid([9], "u1").tobytes())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # packed grey is scaled by its own depth, and inverted where white is zero
        *((_tiff([_packed(values, bits)], {BITS: bits, PHOTOMETRIC: black}),
           [level if black else 255 - level for level in levels])
          for black in (0, 1) for bits, values, levels in (
            (1, [1, 0], [255, 0]), (2, [1, 2, 3], [85, 170, 255]), (4, [1, 8, 15], [17, 136, 255]),
            (6, [1, 32, 63], [4, 130, 255]), (8, [5, 255], [5, 255]), (10, [512, 1023], [128, 255]),
            (12, [16, 2048, 4095], [1, 128, 255]), (14, [64, 8192, 16383], [1, 128, 255]))),
        # words of either order
        *((_tiff([_grid(GREYS, order + "u2").tobytes()], GREY16, order=order), [0, 0, 1, 100, 255])
          for order in "<>"),
        *((_tiff(_planes([[257, 514, 771], [65535, 0, 257 * 9]], order + "u2"),
                 RGB16 | {PLANES: 2}, order=order), [[1, 2, 3], [255, 0, 9]]) for order in "<>"),
        # colours across bytes; ink in planes; differences or none, compressed in planes
        (_tiff([_packed([4095, 0, 2048, 0, 4095, 16], 12, in_row=3 * SIDE)],
               RGB16 | {BITS: [12] * 3}), [[255, 0, 128], [0, 255, 1]]),
        (_tiff(_planes([[0, 65535, 65535, 0]]), RGBA16 | {PHOTOMETRIC: 5, PLANES: 2}),
         [[255, 0, 0], [255, 255, 255]]),
        *((_tiff([zlib.compress(_grid(stored, "<u2").tobytes())] * 3,
                 RGB16 | {PLANES: 2, CODING: 8, PREDICTOR: predictor}), [1, 3, 1])
          for predictor, stored in ((1, [257, 771, 257]), (2, DIFFERENT))),
        # red, green and blue of the entries 0 to 3, of 8 or of 16 bits
        *((_tiff([_packed([0, 1, 2], 2)], {BITS: 2, PHOTOMETRIC: 3, COLOURS: [
              factor * v for v in (200, 10, 0, 0, 255, 20, 0, 0, 0, 30, 255, 0)]}),
           [[200, 255, 0], [10, 20, 30], [0, 0, 255]]) for factor in (1, 256, 257)),
        # alpha of which nothing is said, straight, associated (multiplied already), and none
        (_tiff([ALPHA], RGBA16), [[155, 255, 255]]),
        (_tiff([ALPHA], RGBA16 | {EXTRA: 2}), [[155, 255, 255]]),
        (_tiff([MULTIPLIED], RGBA16 | {EXTRA: 1}), [155]),
        (_tiff([ALPHA], RGBA16 | {EXTRA: 0}), [[0, 255, 255]]),
        (_tiff(_planes([[50, 255], [50, 0]], "u1"),
               {BITS: [8] * 2, SAMPLES: 2, PLANES: 2, EXTRA: 2}), [50, 255]),
        (_tiff([NINE], {CODING: 8}), [9]),
    ],
)  # fmt: skip
def test_first_pixels_are_those_of_the_tags(data: bytes, expected: list[Any]) -> None:
    shown = read_image(data)[0, : len(expected)]
    assert shown.tolist() == [each if isinstance(each, list) else [each] * 3 for each in expected]


def test_strips_of_planes_and_tiles_beyond_the_image_are_put_together() -> None:
    pixels = np.zeros((SIDE, SIDE, 3), "<u2")
    pixels[12, 0] = [257, 514, 771]  # in the second strip of each plane
    planes = np.moveaxis(pixels, -1, 0)
    strips = [part.tobytes() for plane in planes for part in (plane[:10], plane[10:])]
    read = read_image(_tiff(strips, RGB16 | {PLANES: 2, ROWS: 10}))
    assert (read[12, 0].tolist(), read.sum()) == ([1, 2, 3], 6)
    pixels = np.zeros((SIDE, 32), "<u2")
    pixels[3, 18], pixels[3, 30] = 257 * 7, 65535  # the second lies beyond 20 columns
    tiles = [pixels[:, :16].tobytes(), pixels[:, 16:].tobytes()]
    read = read_image(_tiff(tiles, GREY16 | {WIDTH: 20, TILE_WIDTH: 16, TILE_HEIGHT: 16}))
    assert (read.shape, read[3, 18].tolist(), read.sum()) == ((16, 20, 3), [7, 7, 7], 21)


def test_the_directorys_tag_turns_the_image_and_that_of_xmp_does_not() -> None:
    turned = read_image(_tiff([_grid([9], "u1").tobytes()], {ORIENTATION: 3}))
    assert turned[-1, -1].tolist() == [9, 9, 9]
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    for coding in ("raw", "jpeg"):
        data = encode(Image.new("RGB", (32, 20)), "TIFF", tiffinfo={XMP: xmp}, compression=coding)
        assert read_image(data).shape == (20, 32, 3)


def _overlong(compression: str) -> bytes:
    """A file whose one strip reaches a byte beyond its end."""
    data = encode(np.tile(np.arange(64, dtype=np.uint8), (64, 1)), "TIFF", compression=compression)
    (at,) = Image.open(io.BytesIO(data)).tag_v2[OFFSETS]  # type: ignore[attr-defined]
    length = data.index(struct.pack("<HHI", COUNTS, 4, 1)) + 8
    return data[:length] + struct.pack("<I", len(data) - at + 1) + data[length + 4 :]


def _holed() -> bytes:
    """A file whose strip is coded as JPEG and damaged inside."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(pixels, "TIFF", compression="jpeg")
    assert read_image(data).shape == (64, 64, 3)
    at = data.rindex(b"\xff\xda") + 1000
    return data[:at] + bytes(400) + data[at + 400 :]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        *((_tiff([bytes(256)], tags), match) for tags, match in (
            (RGB8 | {BITS: [32] * 3, FORMAT: [3] * 3}, "floating-point.*Save the image as PNG"),
            (GREY16 | {FORMAT: 3}, "floating-point pixels of 16 bits"),
            ({BITS: 32, FORMAT: 6}, "neither integers nor floating-point"),
            ({BITS: 24}, "of 24 bits"),
            (RGB8 | {BITS: [32] * 3}, r"3 channel\(s\) of 32 bits"),
            (RGB8 | {BITS: [5, 6, 5]}, "channels of different depths"),
            ({FORMAT: 2}, "signed samples of 8 bits"),
            ({PHOTOMETRIC: 3, COLOURS: [0] * 9}, "colour map that is cut off or missing"),
            ({BITS: 12, PREDICTOR: 2}, "predictor 2 on samples of 12 bits"),
            (RGB8 | {PHOTOMETRIC: 6}, "YCbCr pixels that share"),
            ({BITS: [8] * 5, SAMPLES: 5, PHOTOMETRIC: 5, EXTRA: 2}, "CMYK and transparency"),
            (GREY16 | {PHOTOMETRIC: 32803}, "photometric interpretation 32803"),
            (RGB8 | {SAMPLES: 2, BITS: [8] * 2}, "interpretation 2"),
            (GREY16, "cut off or damaged"),
            ({CODING: 50001}, "compression 50001, which is WebP"),
            ({WIDTH: 8}, "16 or more on each side"),
            (GREY16 | {WIDTH: 60000, HEIGHT: 60000}, "60000 x 60000 pixels"))),
        (_tiff([bytes(256)], {}, following=8), "several pages"),
        (_tiff([_grid([-5], "<i2").tobytes()], GREY16 | {FORMAT: 2}), "grey values from -5"),
        (b"II*\0" + struct.pack("<I", 1000) + bytes(100), "cut off or damaged"),
        *((_tiff([strip], {CODING: 8}), "cut off or damaged")  # another checksum, or none
          for strip in (NINE[:-1] + bytes([NINE[-1] ^ 1]), NINE[:-4])),
        *((_overlong(compression), "its pixels lie outside the file")
          for compression in ("tiff_lzw", "jpeg", "tiff_deflate")),
        (_holed(), "the JPEG image is damaged inside"),
    ],
)  # fmt: skip
def test_other_layouts_and_damage_are_named(
    data: bytes, match: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError, match=match):
        read_image(data)
    assert capfd.readouterr().err == ""  # libtiff itself would write there


def test_a_pillow_image_that_is_not_decoded_yet_reads_as_its_file() -> None:
    with Image.open(io.BytesIO(_tiff([_packed([2048], 12)], {BITS: 12}))) as image:
        assert image_pixels(image)[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize(
    ("bits", "photometric", "expected"), [(12, 1, [1, 4095]), (16, 1, [1, 4095]), (1, 0, [0, 1])]
)
def test_samples_keep_their_own_depth(
    tmp_path: Path, bits: int, photometric: int, expected: list[int]
) -> None:
    stored = expected if photometric else [1 - value for value in expected]
    data = _tiff([_packed(stored, bits)], {BITS: bits, PHOTOMETRIC: photometric}, order=">")
    (tmp_path / "mask.tif").write_bytes(data)
    assert read_samples(tmp_path / "mask.tif").values[0, :2, 0].tolist() == expected
