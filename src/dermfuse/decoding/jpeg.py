"""A JPEG's header: how it is coded, how deep it is, and what its colours are.

Of the markers before the first scan; fill bytes before a marker (T.81, B.1.1.2) are skipped.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_FRAMES = {
    0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless",
    0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded",
    0xCD: "arithmetic-coded", 0xCE: "arithmetic-coded", 0xCF: "arithmetic-coded",
    0xF7: "JPEG-LS",
}  # fmt: skip
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_SCAN, _END = 0xDA, 0xD9
_JFIF, _EXIF_SEGMENT, _ADOBE, _REMARK = 0xE0, 0xE1, 0xEE, 0xFE
_REMARKS = {*range(0xE0, 0xF0), _REMARK} - {_JFIF, _ADOBE}
_EXIF = b"Exif\0\0"
_NO_FILL = re.compile(rb"[^\xff]")

MAX_SEGMENTS = 2_000
"""So many of 64 kB are more than any camera or program writes around a picture."""
_READ = ("baseline", "extended", "progressive")


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment.

    Attributes:
        marker: The marker's second byte.
        body: What follows its length.
        end: Where it ends in the file.
    """

    marker: int
    body: bytes
    end: int

    @property
    def is_alone(self) -> bool:
        """Whether the marker has no length and no body."""
        return self.marker in _ALONE or self.marker == _END


@dataclass(frozen=True, slots=True)
class Component:
    """A channel as the frame header lists it.

    Attributes:
        identifier: Any number; some writers put a letter.
        horizontal: Sampling factor.
        vertical: Sampling factor.
    """

    identifier: int
    horizontal: int
    vertical: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a JPEG's header says.

    Attributes:
        coding: In a word, like ``baseline``.
        precision: Bits per sample.
        width: In pixels.
        height: In pixels.
        components: Its channels.
        has_jfif: Whether there is a JFIF segment: YCbCr.
        adobe_transform: Of an Adobe segment: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK.
    """

    coding: str
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]
    has_jfif: bool
    adobe_transform: int | None

    @property
    def unread(self) -> str:
        """What keeps Pillow from reading it, in words; empty if nothing does."""
        if self.coding not in _READ:
            return (
                f"a JPEG image that is {self.coding}"
                if self.coding != "JPEG-LS"
                else "a JPEG-LS image"
            )
        return "" if self.precision == 8 else f"a JPEG image of {self.precision} bits per sample"

    @property
    def pixel_bytes(self) -> float:
        """What libjpeg and Pillow hold for each pixel: of progressive ones each coefficient."""
        if self.coding != "progressive":
            return 4
        widest = max(each.horizontal for each in self.components)
        tallest = max(each.vertical for each in self.components)
        samples = sum(each.horizontal * each.vertical for each in self.components)
        return 5 + 2 * samples / (widest * tallest)

    @property
    def says_rgb(self) -> bool | None:
        """Whether three channels are RGB (True) or YCbCr (False); None if nothing says it."""
        if self.has_jfif:
            return False
        if self.adobe_transform is not None:
            return self.adobe_transform == 0
        identifiers = bytes(component.identifier for component in self.components)
        return True if identifiers.upper() == b"RGB" else None


def is_jpeg(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be JPEG."""
    return head[:2] == b"\xff\xd8"


def read_segment(data: bytes, at: int) -> Segment:
    """Returns the marker segment at a place; fill bytes before it are skipped.

    Raises:
        ValueError: No marker is there.
        struct.error: The segment is cut off.
    """
    if data[at : at + 1] != b"\xff":
        raise ValueError(f"no marker at byte {at}")
    behind = _NO_FILL.search(data, at)
    at = len(data) if behind is None else behind.start()
    (marker,) = struct.unpack_from("B", data, at)
    if marker in _ALONE or marker == _END:
        return Segment(marker, b"", at + 1)
    (length,) = struct.unpack_from(">H", data, at + 1)
    if length < 2 or at + 1 + length > len(data):
        raise ValueError(f"a segment of {length} bytes at byte {at}")
    return Segment(marker, data[at + 3 : at + 1 + length], at + 1 + length)


def read_frame(data: bytes) -> Frame:
    """Returns what the header of a JPEG (or JPEG-LS) stream says.

    Raises:
        ValueError: There is no frame header before the first scan.
        struct.error: The header is cut off.
    """
    jfif, transform = False, None
    for segment in header_segments(data):
        marker, body = segment.marker, segment.body
        if marker in _FRAMES:
            return _frame(marker, body, jfif, transform)
        if marker == _JFIF and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _ADOBE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
    raise ValueError("no frame header")


def header_segments(data: bytes) -> Iterator[Segment]:
    """Yields the segments up to the first scan, which is the last of them.

    Raises:
        ValueError: No marker is where one has to be, or there are more than ``MAX_SEGMENTS``.
        struct.error: A segment is cut off.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        segment = read_segment(data, at)
        at = segment.end
        yield segment
        if segment.marker in (_SCAN, _END):
            return
    raise ValueError(f"more than {MAX_SEGMENTS:,} segments")


def without_remarks(data: bytes) -> tuple[bytes, bytes]:
    """Returns a JPEG without the segments that are not of its picture, and its EXIF block.

    Pillow joins those of one kind one by one, and parses them.

    Raises:
        ValueError, struct.error: As ``header_segments``.
    """
    kept: list[bytes] = [data[:2]]
    exif: list[bytes] = []
    for segment in header_segments(data):
        if segment.marker == _EXIF_SEGMENT and segment.body.startswith(_EXIF):
            exif.append(segment.body[len(_EXIF) if exif else 0 :])
        if segment.marker in _REMARKS:
            continue
        start = segment.end - len(segment.body) - (0 if segment.is_alone else 2)
        kept += [b"\xff", bytes([segment.marker]), data[start : segment.end]]
    return b"".join([*kept, data[segment.end :]]), b"".join(exif)


def _frame(marker: int, body: bytes, jfif: bool, transform: int | None) -> Frame:
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    components = tuple(
        Component(identifier, factors >> 4, factors & 15)
        for identifier, factors, _ in (
            struct.unpack_from("BBB", body, 6 + 3 * i) for i in range(count)
        )
    )
    return Frame(_FRAMES[marker], precision, width, height, components, jfif, transform)
