"""A JPEG's header: how it is coded, how deep it is, and what its colours are.

Of the markers before the first scan; fill bytes before a marker (T.81, B.1.1.2) are skipped.
"""

import struct
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
    while data[at : at + 1] == b"\xff":
        at += 1
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
    at, jfif, transform = 2, False, None
    while True:
        segment = read_segment(data, at)
        marker, body, at = segment.marker, segment.body, segment.end
        if marker in _FRAMES:
            return _frame(marker, body, jfif, transform)
        if marker in (_SCAN, _END):
            raise ValueError("no frame header")
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]


def _frame(marker: int, body: bytes, jfif: bool, transform: int | None) -> Frame:
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    components = tuple(
        Component(identifier, factors >> 4, factors & 15)
        for identifier, factors, _ in (
            struct.unpack_from("BBB", body, 6 + 3 * i) for i in range(count)
        )
    )
    return Frame(_FRAMES[marker], precision, width, height, components, jfif, transform)
