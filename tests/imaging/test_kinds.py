"""What is not read is called by its name."""

import io
import re

import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.formats import name_kind
from dermfuse.imaging.preprocess import read_image


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "a HEIC image"),
        (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "a film or a sound"),
        (b"\0\0\0\x14ftypcrx \0\0\0\0isom", "a Canon raw photograph"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xff\x4f\xff\x51\0\x2f", "a JPEG 2000 image"),
        (b"\xff\x0a\0\0", "a JPEG XL image"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"%PDF-1.7", "a PDF document"),
        (b"P6\n16 16\n255\n", "a Netpbm image"),
        (b"<svg xmlns=", "a text document"),
    ],
)
def test_kinds_are_told_by_their_first_bytes(head: bytes, found: str) -> None:
    assert name_kind(head)[0].startswith(found)
    with pytest.raises(ImageError, match=re.escape(found)) as caught:
        read_image(head + bytes(100))
    assert "Save the image as" in str(caught.value) or "Export one frame" in str(caught.value)


def test_an_archive_is_to_be_unpacked() -> None:
    with pytest.raises(ImageError, match=r"a ZIP archive.*Unpack it"):
        read_image(b"PK\x03\x04" + bytes(100))


def test_anything_else_is_no_image() -> None:
    assert name_kind(b"a text of no kind") == ("", "")
    assert name_kind(b"") == ("", "")


def _jpeg() -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    return bytearray(buffer.getvalue())


@pytest.mark.parametrize(
    ("place", "byte", "found"),
    [
        (4, 12, "a JPEG image of 12 bits per sample"),
        (1, 0xC3, "a JPEG image that is lossless"),
        (1, 0xC9, "a JPEG image that is arithmetic-coded"),
        (1, 0xF7, "a JPEG-LS image"),
    ],
)
def test_a_jpeg_of_another_coding_or_depth_is_named(place: int, byte: int, found: str) -> None:
    data = _jpeg()
    data[data.index(b"\xff\xc0") + place] = byte
    with pytest.raises(ImageError, match=f"{found}.*Save it as PNG"):
        read_image(bytes(data))
