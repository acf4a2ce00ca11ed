"""A JPEG's header says its size, depth and colours; fill bytes are no part of it."""

import io
import struct

import pytest
from PIL import Image

from dermfuse.imaging.jpeg import Frame, read_frame

JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def _adobe(transform: int) -> bytes:
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def _header(*segments: bytes, identifiers: bytes = b"\1\2\3") -> Frame:
    body = struct.pack(">BHHB", 8, 20, 32, len(identifiers))
    body += b"".join(bytes([each, 0x11, 0]) for each in identifiers)
    frame = b"\xff\xc0" + struct.pack(">H", 2 + len(body)) + body
    return read_frame(b"\xff\xd8" + b"".join(segments) + frame)


@pytest.mark.parametrize(
    ("segments", "identifiers", "rgb"),
    [
        ([JFIF], b"\1\2\3", False),
        ([JFIF], b"RGB", False),
        ([JFIF, _adobe(0)], b"\1\2\3", False),
        ([_adobe(0)], b"\1\2\3", True),
        ([_adobe(1)], b"RGB", False),
        ([], b"RGB", True),
        ([], b"rgb", True),
        ([], b"\1\2\3", None),
        ([], b"\0\1\2", None),
    ],
)
def test_markers_and_then_names_of_channels_say_the_colours(
    segments: list[bytes], identifiers: bytes, rgb: bool | None
) -> None:
    assert _header(*segments, identifiers=identifiers).says_rgb is rgb


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    frame = _header(b"\xff\xff" + JFIF)
    assert (frame.width, frame.height, frame.precision, frame.has_jfif) == (32, 20, 8, True)


def test_pillows_own_files_are_understood() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 20)).save(buffer, "JPEG", subsampling=2, progressive=True)
    frame = read_frame(buffer.getvalue())
    assert (frame.coding, frame.unread) == ("progressive", "")
    assert [(each.horizontal, each.vertical) for each in frame.components] == [
        (2, 2),
        (1, 1),
        (1, 1),
    ]


@pytest.mark.parametrize(
    "data", [b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0\1", b"\xff\xd8ab"]
)
def test_a_header_without_a_frame_is_no_header(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        read_frame(data)
