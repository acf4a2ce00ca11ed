"""TIFF files, written byte by byte, show what their tags say; other layouts are named."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import image_pixels, read_image
from dermfuse.imaging.tiff import page_samples, read_page

from .made import encode

SIDE = 16
WIDTH, HEIGHT, BITS, CODING, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, ROWS, COUNTS, PLANES, PREDICTOR, COLOURS = 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA, FORMAT, SUBSAMPLING = 338, 339, 530
RED, BLUE, WHITE = [255, 0, 0], [0, 0, 255], [255, 255, 255]


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
    start = starts[-1]
    at = start + 2 + 12 * len(all_tags) + 4
    for tag, value in sorted(all_tags.items()):
        values = value if isinstance(value, list) else [value]
        field = struct.pack(f"{order}{len(values)}I", *values)
        if len(field) > 4:
            field, behind = struct.pack(order + "I", at + len(behind)), behind + field
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
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


RGB16 = {BITS: [16] * 3, SAMPLES: 3, PHOTOMETRIC: 2}
RGBA16 = {BITS: [16] * 4, SAMPLES: 4, PHOTOMETRIC: 2}
GREY16 = [0, 128, 129, 25700, 65535]
DIFFERENT = [257, 514, 65022, *[0] * 13]  # each value less the one before it: 257, 771, 257
ALPHA = _grid([[0, 65535, 65535, 25700]], "<u2").tobytes()
MULTIPLIED = _grid([[0, 0, 0, 25700]], "<u2").tobytes()


class TestLayouts:
    @pytest.mark.parametrize(
        ("bits", "values", "levels"),
        [
            (1, [1, 0], [255, 0]),
            (2, [1, 2, 3], [85, 170, 255]),
            (4, [1, 8, 15], [17, 136, 255]),
            (6, [1, 32, 63], [4, 130, 255]),
            (8, [5, 255], [5, 255]),
            (10, [512, 1023], [128, 255]),
            (12, [16, 2048, 4095], [1, 128, 255]),
            (14, [64, 8192, 16383], [1, 128, 255]),
        ],
    )
    def test_packed_grey_is_scaled_by_its_own_depth(
        self, bits: int, values: list[int], levels: list[int]
    ) -> None:
        for photometric, expected in ((1, levels), (0, [255 - level for level in levels])):
            data = _tiff([_packed(values, bits)], {BITS: bits, PHOTOMETRIC: photometric})
            assert read_image(data)[0, : len(levels)].tolist() == [
                [level] * 3 for level in expected
            ]

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_words_of_either_order(self, order: str) -> None:
        grey, kind = _grid(GREY16, order + "u2").tobytes(), order + "u2"
        levels = np.array([0, 0, 1, 100, 255])
        read = read_image(_tiff([grey], {BITS: 16}, order=order))
        assert np.array_equal(read[0, :5, 0], levels)
        read = read_image(_tiff([grey], {BITS: 16, PHOTOMETRIC: 0}, order=order))
        assert np.array_equal(read[0, :5, 1], 255 - levels)
        planes = _planes([[257, 514, 771], [65535, 0, 257 * 9]], kind)
        read = read_image(_tiff(planes, RGB16 | {PLANES: 2}, order=order))
        assert read[0, :2].tolist() == [[1, 2, 3], [255, 0, 9]]

    @pytest.mark.parametrize(
        ("parts", "tags", "expected"),
        [
            # colours across bytes; ink in planes; differences or none, compressed in planes
            ([_packed([4095, 0, 2048, 0, 4095, 16], 12, in_row=3 * SIDE)],
             RGB16 | {BITS: [12] * 3}, [[255, 0, 128], [0, 255, 1]]),
            (_planes([[0, 65535, 65535, 0]]), RGBA16 | {PHOTOMETRIC: 5, PLANES: 2}, [RED, WHITE]),
            *(([zlib.compress(_grid(stored, "<u2").tobytes())] * 3,
               RGB16 | {PLANES: 2, CODING: 8, PREDICTOR: predictor}, [[1] * 3, [3] * 3, [1] * 3])
              for predictor, stored in ((1, [257, 771, 257]), (2, DIFFERENT))),
            # red, green and blue of the entries 0 to 3, of 8 or of 16 bits
            *(([_packed([0, 1, 2], 2)],
               {BITS: 2, PHOTOMETRIC: 3,
                COLOURS: [factor * v for v in (200, 10, 0, 0, 255, 20, 0, 0, 0, 30, 255, 0)]},
               [[200, 255, 0], [10, 20, 30], BLUE]) for factor in (1, 256, 257)),
            # alpha of which nothing is said, straight, associated (multiplied already), and none
            ([ALPHA], RGBA16, [[155, 255, 255]]),
            ([ALPHA], RGBA16 | {EXTRA: 2}, [[155, 255, 255]]),
            ([MULTIPLIED], RGBA16 | {EXTRA: 1}, [[155, 155, 155]]),
            ([ALPHA], RGBA16 | {EXTRA: 0}, [[0, 255, 255]]),
            (_planes([[50, 255], [50, 0]], "u1"),
             {BITS: [8] * 2, SAMPLES: 2, PLANES: 2, EXTRA: 2}, [[50] * 3, WHITE]),
        ],
    )  # fmt: skip
    def test_first_pixels(
        self, parts: list[bytes], tags: dict[int, Any], expected: list[list[int]]
    ) -> None:
        read = read_image(_tiff(parts, tags))[0, : len(expected)].astype(int)
        assert np.abs(read - expected).max() <= 1

    def test_several_strips_of_each_plane(self) -> None:
        pixels = np.zeros((SIDE, SIDE, 3), "<u2")
        pixels[12, 0] = [257, 514, 771]  # in the second strip of each plane
        planes = np.moveaxis(pixels, -1, 0)
        strips = [part.tobytes() for plane in planes for part in (plane[:10], plane[10:])]
        read = read_image(_tiff(strips, RGB16 | {PLANES: 2, ROWS: 10}))
        assert read[12, 0].tolist() == [1, 2, 3]
        assert read.sum() == 6

    def test_tiles_that_reach_beyond_the_image(self) -> None:
        pixels = np.zeros((SIDE, 32), "<u2")
        pixels[3, 18], pixels[3, 30] = 257 * 7, 65535  # the second lies beyond 20 columns
        tiles = [pixels[:, :16].tobytes(), pixels[:, 16:].tobytes()]
        tags = {BITS: 16, WIDTH: 20, TILE_WIDTH: 16, TILE_HEIGHT: 16}
        read = read_image(_tiff(tiles, tags))
        assert (read.shape, read[3, 18].tolist(), read.sum()) == ((16, 20, 3), [7, 7, 7], 21)

    @pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate", "jpeg"])
    def test_the_directorys_tag_turns_the_image_and_that_of_xmp_does_not(
        self, compression: str
    ) -> None:
        turned = read_image(_tiff([_grid([9], "u1").tobytes()], {ORIENTATION: 3}))
        assert turned[-1, -1].tolist() == [9, 9, 9]
        xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        image = Image.new("RGB", (32, 20))
        data = encode(image, "TIFF", tiffinfo={700: xmp}, compression=compression)
        assert read_image(data).shape == (20, 32, 3)


class TestRefusals:
    @pytest.mark.parametrize(
        ("tags", "match"),
        [
            ({BITS: [32] * 3, SAMPLES: 3, PHOTOMETRIC: 2, FORMAT: [3] * 3}, "floating-point"),
            ({BITS: 16, FORMAT: 3}, "floating-point pixels of 16 bits"),
            ({BITS: 32, FORMAT: 6}, "neither integers nor floating-point"),
            ({BITS: 24}, "of 24 bits"),
            ({BITS: [32] * 3, SAMPLES: 3, PHOTOMETRIC: 2}, r"3 channel\(s\) of 32 bits"),
            ({BITS: [5, 6, 5], SAMPLES: 3, PHOTOMETRIC: 2}, "channels of different depths"),
            ({FORMAT: 2}, "signed samples of 8 bits"),
            ({PHOTOMETRIC: 3, COLOURS: [0] * 9}, "colour map that is cut off or missing"),
            ({BITS: 12, PREDICTOR: 2}, "predictor 2 on samples of 12 bits"),
            ({BITS: [8] * 3, SAMPLES: 3, PHOTOMETRIC: 6}, "YCbCr pixels that share"),
            ({BITS: [8] * 5, SAMPLES: 5, PHOTOMETRIC: 5, EXTRA: 2}, "CMYK and transparency"),
            ({BITS: 16, PHOTOMETRIC: 32803}, "photometric interpretation 32803"),
            ({SAMPLES: 2, BITS: [8] * 2, PHOTOMETRIC: 2}, "interpretation 2"),
            ({BITS: 16}, "cut off or damaged"),
        ],
    )
    def test_other_layouts_are_named(self, tags: dict[int, Any], match: str) -> None:
        with pytest.raises(ImageError, match=match) as caught:
            read_image(_tiff([bytes(256)], tags))
        assert "PNG" in str(caught.value)

    @pytest.mark.parametrize(
        ("tags", "match"),
        [
            ({CODING: 50001}, "compression 50001, which is WebP"),
            ({WIDTH: 8}, "16 or more on each side"),
            ({WIDTH: 60000, HEIGHT: 60000, BITS: 16}, "60000 x 60000 pixels"),
        ],
    )
    def test_before_anything_is_decoded(
        self, tags: dict[int, Any], match: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ImageError, match=match):
            read_image(_tiff([bytes(256)], tags))
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (_tiff([bytes(256)], {}, following=8), "several pages"),
            (_tiff([_grid([-5], "<i2").tobytes()], {BITS: 16, FORMAT: 2}), "grey values from -5"),
            (b"II*\0" + struct.pack("<I", 1000) + bytes(100), "cut off or damaged"),
        ],
    )
    def test_other_pages_negative_values_and_a_directory_outside_the_file(
        self, data: bytes, match: str
    ) -> None:
        with pytest.raises(ImageError, match=match):
            read_image(data)


class TestDamage:
    def test_a_deflated_strip_whose_checksum_differs(self) -> None:
        whole = zlib.compress(_grid([9], "u1").tobytes())
        assert read_image(_tiff([whole], {CODING: 8}))[0, 0, 0] == 9
        for strip in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-4]):
            with pytest.raises(ImageError, match="cut off or damaged"):
                read_image(_tiff([strip], {CODING: 8}))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_deflate"])
    def test_strips_outside_the_file(
        self, compression: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        data = encode(pixels, "TIFF", compression=compression)
        (at,) = Image.open(io.BytesIO(data)).tag_v2[OFFSETS]  # type: ignore[attr-defined]
        length = data.index(struct.pack("<HHI", COUNTS, 4, 1))  # its entry
        longer = struct.pack("<I", len(data) - at + 1)
        with pytest.raises(ImageError, match="its pixels lie outside the file"):
            read_image(data[: length + 8] + longer + data[length + 12 :])
        assert capfd.readouterr().err == ""  # libtiff itself would write there

    def test_a_strip_coded_as_jpeg(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        data = encode(pixels, "TIFF", compression="jpeg")
        assert read_image(data).shape == (64, 64, 3)
        at = data.rindex(b"\xff\xda") + 1000
        with pytest.raises(ImageError, match="the JPEG image is damaged inside"):
            read_image(data[:at] + bytes(400) + data[at + 400 :])


def test_a_pillow_image_that_is_not_decoded_yet_reads_as_its_file() -> None:
    with Image.open(io.BytesIO(_tiff([_packed([2048], 12)], {BITS: 12}))) as image:
        assert image_pixels(image)[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize(
    ("pixels", "tags", "expected"),
    [
        (np.array([[0, 1, 4095, 65535]], np.uint16), {}, [0, 1, 4095, 65535]),
        (np.array([[True, False, True]]), {}, [1, 0, 1]),
        (np.array([[True, False, True]]), {PHOTOMETRIC: 0}, [1, 0, 1]),  # stored as 0 1 0
    ],
)
def test_samples_keep_their_own_depth(
    pixels: NDArray[Any], tags: dict[int, int], expected: list[int]
) -> None:
    data = encode(pixels, "TIFF", tiffinfo=tags)
    assert page_samples(data, read_page(data), "it").values[0, :, 0].tolist() == expected
