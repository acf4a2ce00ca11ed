"""Odd but valid files give the right pixels; the others are refused in one line."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dermfuse.errors import ImageError, StorageError
from dermfuse.imaging import preprocess
from dermfuse.imaging.limits import MAX_PIXELS
from dermfuse.imaging.preprocess import read_image, read_samples, resize_probability, squeeze

from .made import NOISE, encode, png

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PATCHES = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8).repeat(10, axis=0).repeat(16, axis=1)
QUARTERS = Image.fromarray(PATCHES)  # 32 x 20: every orientation looks different
PALETTE = QUARTERS.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
NO_RED = bytes(255 * (index != PALETTE.getpixel((0, 0))) for index in range(4))
UNRED = np.where((PATCHES == RED).all(axis=2, keepdims=True), 255, PATCHES)
LEVELS = np.array([[0, 128, 129, 25_700, 65_535, 32_768] * 4] * 20, np.uint16)


def _two(kind: str) -> bytes:
    """A red picture and another behind it."""
    first, other = (Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE))
    return encode(first, kind, save_all=True, append_images=[other])


def _exif(value: int | str, tag: int = 0x0112) -> Image.Exif:
    exif = Image.Exif()
    exif[tag] = value
    return exif


def _bmp(alpha: int) -> bytes:
    """A BMP of grey 40 with a fourth byte."""
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, 1024, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    return b"BM" + struct.pack("<IHHI", 1146, 0, 0, 122) + header + bytes([40, 40, 40, alpha] * 256)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=100), RED),
        (encode(Image.new("1", (20, 20), 1)), WHITE),
        (encode(Image.new("LA", (20, 20), (100, 128))), 177),
        (encode(Image.new("RGBA", (20, 20), (*RED, 0))), WHITE),
        (encode(Image.new("RGBA", (20, 20), (*GREEN, 255))), GREEN),
        *((encode(Image.new(mode, (20, 20), 257 * 9), "TIFF"), 9) for mode in ("I", "I;16B")),
        *((encode(LEVELS, kind), np.rint(LEVELS / 257)[..., None]) for kind in ("PNG", "TIFF")),
        # palettes, and one with a transparent colour
        (encode(PALETTE), PATCHES), (encode(QUARTERS, "GIF"), PATCHES),
        (encode(PALETTE, transparency=NO_RED), UNRED),
        # a fourth byte of BMP that is zero throughout is no alpha; 51 is a fifth
        (_bmp(0), 40), (_bmp(255), 40), (_bmp(51), 212),
        # EXIF that promises more than it holds: what Pillow warns of is no refusal
        (encode(Image.new("RGB", (20, 20), RED), "JPEG",
                exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"), RED),
        # a photograph with a preview behind it
        (_two("MPO"), RED),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb_on_white(data: bytes, expected: Any) -> None:
    assert np.abs(read_image(data).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    # mirrored after as many quarter turns, counter-clockwise
    turns, mirror = [(0, 1), (0, -1), (2, 1), (2, -1), (3, -1), (1, 1), (1, -1), (3, 1)][
        orientation - 1
    ]
    for upright in (NOISE, NOISE[..., 0].astype(np.uint16)):
        stored = np.ascontiguousarray(np.rot90(upright, turns)[:, ::mirror])
        (tmp_path / "it.png").write_bytes(encode(stored, exif=_exif(orientation)))
        assert np.array_equal(read_samples(tmp_path / "it.png").values.squeeze(), upright)
    assert read_image(tmp_path / "it.png").shape == (24, 32, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_block_turns_in_every_container_and_xmp_nothing(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    pixels = read_image(encode(QUARTERS, kind, exif=_exif(6), **options))
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.abs(corners - np.array([BLUE, RED, WHITE, GREEN])).max() < 60
    xmp, info = '<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>', PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    options = {"pnginfo": info} if kind == "PNG" else {"xmp": xmp.encode()}
    silent = (_exif("a camera", tag=0x010F), _exif(9), b"Exif\0\0nonsense", b"")
    for exif in () if kind == "TIFF" else silent:
        assert read_image(encode(QUARTERS, kind, exif=exif, **options)).shape == (20, 32, 3)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (_two("GIF"), "animated"),
        (_two("TIFF"), "several pages"),
        (encode(NOISE, "JPEG")[:-300], "cut off or damaged"),
        (b"", "the file is empty"),
        (b"This is not a photograph.\n" * 50, "not an image"),
        (encode(QUARTERS, "EPS"), "not an image"),  # and no interpreter is started
        (encode(QUARTERS).replace(b"\0\0\0\x14\x08\2", b"\0\0\0\x14\x08\0", 1), "cut off|damaged"),
        (encode(Image.new("RGB", (16, 15))), "16 x 15 pixels. Expected: 16 or more"),
        *((png(size, 1, 0, [bytes(100)]), f"{MAX_PIXELS:,} pixels or fewer")
          for size in ((20_000, 20_000), (3_701, 10_000))),
        (png((3_700, 10_000), 1, 0, [bytes(100)]), "ends before the picture does"),
        (encode(Image.new("F", (20, 20)), "TIFF"), "floating-point"),
        (encode(Image.new("I", (20, 20), 70_000), "TIFF"), "grey values from 70000"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, data: bytes, match: str) -> None:
    (tmp_path / "lesion.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=rf"lesion\.jpg: .*{match}") as caught:
        read_image(tmp_path / "lesion.jpg")
    assert "\n" not in str(caught.value)


def test_the_whole_frame_is_squeezed_by_averages() -> None:
    squeezed = squeeze(PATCHES, 16)
    corners = squeezed[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert [*map(tuple, corners.tolist())] == [RED, GREEN, BLUE, WHITE]
    assert np.array_equal(squeeze(QUARTERS, 16), squeezed)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(squeeze(stripes, 4)[1:3, 1:3].astype(int) - 127).max() <= 2


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 9))
def test_cells_of_a_squeezed_mask_agree_with_a_fine_grid(mask: np.ndarray, size: int) -> None:
    # every pixel as size x size equal parts: cells then hold whole parts only
    fine = np.kron(mask, np.ones((size, size), np.int64))  # (size * H, size * W)
    height, width = mask.shape
    sums = fine.reshape(size, height, size, width).sum(axis=(1, 3))
    assert np.array_equal(preprocess.squeeze_mask(mask, size), 2 * sums >= height * width)


def test_a_probability_map_is_written_to_the_nearest_of_8_bits(tmp_path: Path) -> None:
    probability = np.append(np.linspace(0, 1, 252, dtype=np.float32), [0.5, 0.499, 0.002, 1])
    probability = probability.astype(np.float32).reshape(16, 16)
    preprocess.write_probability(tmp_path / "p.png", probability)
    restored = preprocess.read_probability(tmp_path / "p.png")
    assert restored.dtype == np.float32
    assert np.abs(restored - probability).max() <= 0.5 / 255 + 1e-6
    assert np.rint(restored[-1, -4:] * 255).tolist() == [128, 127, 1, 255]
    with pytest.raises(StorageError, match="cannot be written"):
        preprocess.write_probability(tmp_path / "p.png" / "p.png", probability)


def test_resizing_interpolates_between_pixel_centres() -> None:
    resized = resize_probability(np.array([[0.0, 1.0]], np.float32), 1, 4)
    assert resized[0].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])
    flat = resize_probability(np.full((8, 8), 0.3, np.float32), 30, 40)
    assert (flat.shape, flat.dtype, flat.flags.writeable) == ((30, 40), np.float32, True)
    assert np.abs(flat - 0.3).max() < 1e-6
