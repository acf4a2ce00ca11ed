"""Headers say how a JPEG is coded; whole files pass and damage inside is found."""

import itertools
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.jpeg import find_damage, read_frame
from dermfuse.imaging.preprocess import read_image
from dermfuse.web.vectors import draw_image

from . import made

JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
RGB_ADOBE, YCC_ADOBE = (b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([i]) for i in (0, 1))
NOISE = np.random.default_rng(0).integers(0, 256, (43, 67, 4), dtype=np.uint8)
PIXELS = {"L": NOISE[..., 0], "RGB": NOISE[..., :3], "CMYK": NOISE}


def encode(pixels: np.ndarray = PIXELS["RGB"], mode: str = "RGB", **options: Any) -> bytes:
    return made.encode(Image.fromarray(np.ascontiguousarray(pixels), mode), "JPEG", **options)


@pytest.mark.parametrize(
    ("segments", "identifiers", "rgb"),
    [
        ([b"\xff\xff" + JFIF], b"\1\2\3", False),  # fill bytes are skipped
        ([JFIF], b"RGB", False), ([JFIF, RGB_ADOBE], b"\1\2\3", False),
        ([RGB_ADOBE], b"\1\2\3", True), ([YCC_ADOBE], b"RGB", False),
        ([], b"RGB", True), ([], b"rgb", True), ([], b"\1\2\3", None),
    ],
)  # fmt: skip
def test_markers_and_then_names_of_channels_say_the_colours(
    segments: list[bytes], identifiers: bytes, rgb: bool | None
) -> None:
    channels = b"".join(bytes([each, 0x11, 0]) for each in identifiers)
    head = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 20, 32, 3) + channels
    frame = read_frame(b"\xff\xd8" + b"".join(segments) + head)
    assert (frame.says_rgb, frame.width, frame.height, frame.precision) == (rgb, 32, 20, 8)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 100])
def test_whole_files_of_every_kind_pass(*, progressive: bool, quality: int) -> None:
    for mode, optimize, restart in itertools.product(PIXELS, (False, True), (0, 3)):
        for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
            data = encode(
                PIXELS[mode], mode, quality=quality, progressive=progressive, optimize=optimize,
                subsampling=subsampling, restart_marker_blocks=restart,
            )  # fmt: skip
            assert find_damage(data) == ""


def test_zeros_that_code_flat_blocks_and_a_missing_end_are_no_damage() -> None:
    pixels = np.zeros((400, 600), dtype=np.uint8)
    pixels[200:243, 300:367] = PIXELS["L"]
    data = encode(pixels, "L", quality=5, optimize=True)
    assert bytes(64) in data
    assert find_damage(data) == ""
    data = encode()
    assert find_damage(data[: data.index(b"\xff\xda") + 1000]) == ""  # decoders refuse it


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_inside_is_found(*, progressive: bool) -> None:
    data = encode(progressive=progressive, quality=95)
    start = data.index(b"\xff\xda")
    at = start + (len(data) - start) // 2
    cut = data[:at] + b"\xff\xd9"  # Pillow says nothing
    for damaged in (cut, data[:at] + bytes(600) + data[at + 600 :], data[:at] + data[at + 400 :]):
        with pytest.raises(ImageError, match="the JPEG image is damaged inside"):
            read_image(damaged)
    assert "continues" in find_damage(data[:-2] + b"\x01\x02" + b"\xff\xd9")
    assert find_damage(data[:-2] + bytes(7) + b"\xff\xff\xff\xd9") == ""  # fill bytes
    data = encode(progressive=progressive, restart_marker_blocks=2)
    assert "missing" in find_damage(data.replace(b"\xff\xd1", b"", 1))
    assert "out of order" in find_damage(data.replace(b"\xff\xd1", b"\xff\xd3", 1))


def test_a_hole_is_found_wherever_it_lies_and_so_are_scans_that_are_missing() -> None:
    data = encode(draw_image(61, 47), quality=95, subsampling=0)
    # behind many of them the codes come right again, and as many blocks are counted as before
    for at in range(data.index(b"\xff\xda") + 14, len(data) - 72, 7):
        assert find_damage(data[:at] + bytes(70) + data[at + 70 :]) != ""
    data = encode(progressive=True)
    tables = data.rfind(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))  # of the last scan
    assert find_damage(data[:tables] + b"\xff\xd9") == "some of its scans are missing"
