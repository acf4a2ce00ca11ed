"""Of a GIF only the first picture reaches the decoder, and its size is known before."""

import io
import struct

import pytest
from PIL import Image

from dermfuse.imaging.formats import is_gif, read_gif


def _gif(*frames: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], **options)
    return buffer.getvalue()


def _levels(width: int, height: int, turn: int = 0) -> Image.Image:
    return Image.frombytes(
        "L", (width, height), bytes((i + turn) % 256 for i in range(width * height))
    )


def test_a_picture_without_its_remarks_is_the_same_picture() -> None:
    gif = _gif(_levels(30, 20), comment=b"a" * 10_000, transparency=7)
    found = read_gif(gif, "it")
    assert (found.width, found.height, found.is_animated) == (30, 20, False)
    assert len(found.data) < len(gif) - 10_000
    with Image.open(io.BytesIO(gif)) as whole, Image.open(io.BytesIO(found.data)) as plain:
        assert plain.info["transparency"] == whole.info["transparency"]
        assert plain.convert("RGBA").tobytes() == whole.convert("RGBA").tobytes()


def test_a_second_picture_makes_it_an_animation() -> None:
    assert read_gif(_gif(_levels(30, 20), _levels(30, 20, 9)), "it").is_animated


def test_a_picture_that_leaves_its_frame_counts_in_full() -> None:
    gif = bytearray(_gif(_levels(30, 20)))
    struct.pack_into("<HH", gif, 6, 10, 10)
    found = read_gif(bytes(gif), "it")
    assert (found.width, found.height) == (30, 20)


def test_bytes_between_blocks_mean_nothing() -> None:
    gif = _gif(_levels(30, 20))
    at = gif.index(b",\0\0\0\0\x1e\0\x14\0")
    assert read_gif(gif[:at] + b"\0\0\0" + gif[at:], "it").data == read_gif(gif, "it").data


def test_a_head_alone_is_cut_off() -> None:
    assert is_gif(b"GIF89a")
    with pytest.raises(struct.error):
        read_gif(b"GIF89a\0", "it")
