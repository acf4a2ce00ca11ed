"""A WebP's size is read from its chunks, as its decoder will find it."""

import io

import pytest
from PIL import Image

from dermfuse.imaging.formats import is_webp, read_webp


def _webp(mode: str, *others: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.new(mode, (300, 200), "red")
    image.save(buffer, "WEBP", save_all=bool(others), append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"lossless": True}), ("RGBA", {}), ("RGB", {"exif": b"Exif\0\0II*\0"})],
)
def test_every_layout_says_its_size(mode: str, options: dict[str, object]) -> None:
    data = _webp(mode, **options)
    found = read_webp(data, "it")
    assert is_webp(data)
    assert (found.width, found.height, found.frames) == (300, 200, 0)


def test_frames_of_an_animation_are_counted() -> None:
    found = read_webp(_webp("RGB", Image.new("RGB", (300, 200), "blue")), "it")
    assert (found.width, found.height, found.frames) == (300, 200, 2)


def test_a_chunk_that_is_cut_off_claims_nothing() -> None:
    assert read_webp(_webp("RGB")[:20], "it").width == 0
