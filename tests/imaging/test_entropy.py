"""A JPEG whose coded data does not fit its picture is damaged; every whole one passes."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.jpeg import END, INVALID, build_table, find_damage
from dermfuse.imaging.preprocess import read_image
from dermfuse.web.vectors import draw_image

NOISE = np.random.default_rng(0).integers(0, 256, (43, 67, 4), dtype=np.uint8)


def _jpeg(mode: str = "RGB", **options: Any) -> bytes:
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    buffer = io.BytesIO()
    pixels = NOISE[..., 0] if channels == 1 else NOISE[..., :channels]
    Image.fromarray(np.ascontiguousarray(pixels), mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _middle(data: bytes) -> int:
    """A place in the middle of the first scan's data."""
    start = data.index(b"\xff\xda")
    return start + (len(data) - start) // 2


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 75, 100])
def test_whole_files_of_every_kind_pass(*, progressive: bool, quality: int) -> None:
    for mode, optimize, restart in itertools.product(("L", "RGB", "CMYK"), (False, True), (0, 3)):
        options = {"restart_marker_blocks": restart} if restart else {}
        for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
            data = _jpeg(
                mode, quality=quality, progressive=progressive, optimize=optimize,
                subsampling=subsampling, **options,
            )  # fmt: skip
            assert find_damage(data) == ""


@pytest.mark.parametrize("progressive", [False, True])
class TestDamage:
    def test_an_end_marker_in_the_middle(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive)
        cut = data[: _middle(data)] + b"\xff\xd9"
        assert find_damage(cut) != ""
        Image.open(io.BytesIO(cut)).load()  # Pillow says nothing
        with pytest.raises(ImageError, match="the JPEG image is damaged inside"):
            read_image(cut)

    def test_zeros_in_the_middle(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive, quality=95)
        at = _middle(data)
        assert find_damage(data[:at] + bytes(600) + data[at + 600 :]) != ""

    def test_bytes_that_are_missing(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive, quality=95)
        at = _middle(data)
        assert find_damage(data[:at] + data[at + 400 :]) != ""

    def test_bytes_behind_the_last_block(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive)
        assert "goes on" in find_damage(data[:-2] + b"\x01\x02" + b"\xff\xd9")

    def test_fill_bytes_behind_the_last_block_are_none(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive)
        assert find_damage(data[:-2] + bytes(7) + b"\xff\xff\xff\xd9") == ""

    def test_a_restart_marker_that_is_missing_or_out_of_order(self, *, progressive: bool) -> None:
        data = _jpeg(progressive=progressive, restart_marker_blocks=2)
        assert "missing" in find_damage(data.replace(b"\xff\xd1", b"", 1))
        assert "out of order" in find_damage(data.replace(b"\xff\xd1", b"\xff\xd3", 1))


def test_a_hole_is_told_wherever_it_lies() -> None:
    pixels = draw_image(61, 47)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda") + 14
    # behind many of them the codes come right again, and as many blocks are counted as before
    for at in range(start, len(data) - 72, 7):
        assert find_damage(data[:at] + bytes(70) + data[at + 70 :]) != ""


def test_zeros_that_code_flat_blocks_are_none() -> None:
    pixels = np.zeros((400, 600), dtype=np.uint8)
    pixels[200:243, 300:367] = NOISE[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=5, optimize=True)
    assert bytes(64) in buffer.getvalue()
    assert find_damage(buffer.getvalue()) == ""


def test_last_scans_that_are_missing_are_told() -> None:
    data = _jpeg(progressive=True)
    assert data.count(b"\xff\xda") > 5
    last = data.rindex(b"\xff\xda")
    tables = data.rfind(b"\xff\xc4", 0, last)  # Huffman tables of the last scan
    assert find_damage(data[:tables] + b"\xff\xd9") == "some of its scans are missing"


def test_a_stream_without_its_end_is_left_to_the_decoder() -> None:
    data = _jpeg()
    assert find_damage(data[: _middle(data)]) == ""


def test_a_table_says_how_far_codes_reach() -> None:
    # 0: end of the block; 10: no zero, then a value of 1 bit; 110: one zero, then one of 2 bits
    table = build_table(bytes([1, 1, 1, *[0] * 13]), bytes([0x00, 0x01, 0x12]))
    window = 0b10_1_110_01_0_0000000  # value, zero and value, end
    assert [each[window] for each in table.single] == [3, 1]
    assert [each[window] for each in table.several] == [9, 3 + END]
    assert table.single[1][0b111 << 13] == INVALID


def test_a_table_with_more_codes_than_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="more codes than fit"):
        build_table(bytes([3, *[0] * 15]), bytes(3))
