"""What a compressed stream in a DICOM file says of itself stands above the file's header.

colours     JPEG: a JFIF or Adobe segment, or channels called R, G, B; only where it is silent,
            the header. JPEG 2000: if the codestream transforms its channels, they are RGB
            whatever the header says; if not, the header tells YBR_FULL from RGB
depth       the stream's bits per sample
size        has to be the header's, and so has the number of channels
"""

import io
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.pixels.utils import get_j2k_parameters

from dermfuse.decoding.entropy import find_damage
from dermfuse.decoding.jpeg import read_frame
from dermfuse.errors import ImageError

JPEG_8_BIT = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
"""Decoded by Pillow; of the extended kind, what has 8 bits."""
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
"""Decoded by pyjpegls."""
_JPEG_2000 = (
    uid.JPEG2000Lossless, uid.JPEG2000,
    uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
)  # fmt: skip
_SIZE, _CODING = 0xFF51, 0xFF52  # JPEG 2000 markers
_TILE = 0xFF90
_END = b"\xff\xd9"
_OWN_PRECINCTS = 1  # a bit of the coding style
_MOST_CHANNELS = 3
_HOLE_BYTES = 64  # of zeros: coded data has no such run
_SYCC = 18  # of a JP2 header: Pillow converts it
_SUBSAMPLED = "YBR_FULL_422"


@dataclass(frozen=True, slots=True)
class Frame:
    """How the pixels of a file are laid out.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Channels: 1 or 3.
        photometric: What the channels mean.
        allocated: Bits of a stored value, 8 or 16.
        stored: Bits of it that count.
        signed: Whether stored values are two's complement.
        planar: Whether the channels are stored one after the other.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    signed: bool
    planar: bool

    @property
    def native_bytes(self) -> int:
        """What the pixels take up uncompressed; YBR_FULL_422 shares colour between two."""
        shared = self.photometric == "YBR_FULL_422"
        samples = 2 if shared else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


def stream_frame(stream: bytes, frame: Frame, syntax: uid.UID, name: str) -> Frame:
    """Returns the layout of a compressed frame's pixels, as its stream has it.

    Args:
        stream: The compressed frame.
        frame: What the header says.
        syntax: The transfer syntax.
        name: For messages.

    Raises:
        ImageError: Size or channels are not the header's, or the depth cannot be decoded.
        ValueError, struct.error: The stream's own header is cut off or damaged.
    """
    if syntax in _JPEG_2000:
        return _of_jpeg_2000(stream, frame, name)
    header = read_frame(stream)
    _check_fit((header.width, header.height), len(header.components), frame, name)
    if syntax in JPEG_8_BIT and header.unread:
        raise _unread(header.unread, name)
    rgb = header.says_rgb
    if frame.samples == 3 and rgb is not None:
        frame = replace(frame, photometric="RGB" if rgb else "YBR_FULL")
    return _deep(frame, header.precision)


def decode_jpeg(stream: bytes, frame: Frame, name: str) -> NDArray[np.uint8]:
    """Returns the pixels of a JPEG stream of 8 bits: grey, or RGB.

    Args:
        stream: The compressed frame, after ``stream_frame``.
        frame: What ``stream_frame`` returned.
        name: For messages.

    Raises:
        ImageError: The stream is damaged inside.
    """
    if damage := find_damage(stream):
        raise ImageError(
            f"{name}: the JPEG image is damaged or cut off: {damage}",
            expected="a whole picture",
            action="Export the file again",
        )
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        if frame.samples == 3:  # what the channels are, whatever libjpeg would guess
            coded = "RGB" if frame.photometric == "RGB" else "YCbCr"
            image.tile = [tile._replace(args=("RGB", coded)) for tile in image.tile]
        return np.asarray(image)


def _of_jpeg_2000(stream: bytes, frame: Frame, name: str) -> Frame:
    with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
        size, channels = image.size, len(image.getbands())
    _check_fit(size, channels, frame, name)
    if has_hole(stream):
        raise ImageError(
            f"{name}: the JPEG 2000 image is damaged: part of its coded data is blank",
            expected="a whole picture",
            action="Export the file again",
        )
    precision = int(get_j2k_parameters(stream).get("precision", frame.stored))
    if frame.samples == 3:
        if precision > 8:
            raise _unread(f"JPEG 2000 colours of {precision} bits", name)
        plain = not transforms_channels(stream) and not _is_sycc(stream)
        ybr = plain and frame.photometric in ("YBR_FULL", _SUBSAMPLED)
        frame = replace(frame, photometric="YBR_FULL" if ybr else "RGB")
    return _deep(frame, precision)


def transforms_channels(stream: bytes) -> bool:
    """Returns whether a JPEG 2000 codestream has a component transform (COD, SGcod).

    Raises:
        ValueError, struct.error: The main header is cut off or damaged.
    """
    _, _, _, transform, _ = _coding_style(stream)
    return bool(transform)


def has_hole(stream: bytes) -> bool:
    """Returns whether zeros take the place of coded data in a JPEG 2000 codestream.

    OpenJPEG decodes them without a word. An empty packet is a byte of zero, so that as many of
    them as there are may lie side by side; where pictures are cut into precincts nothing is told.

    Raises:
        ValueError, struct.error: The main header is cut off or damaged.
    """
    style, _, layers, _, levels = _coding_style(stream)
    if style & _OWN_PRECINCTS:
        return False
    packets = layers * (levels + 1) * _MOST_CHANNELS
    end = stream.rfind(_END)
    return bytes(_HOLE_BYTES + packets) in stream[: end if end > 0 else None]


def _coding_style(stream: bytes) -> tuple[int, int, int, int, int]:
    """Returns style, progression, layers, component transform and levels of the main header."""
    at = stream.index(b"\xff\x4f\xff\x51") + 2
    while True:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == _CODING:
            style, progression, layers, transform, levels = struct.unpack_from(
                ">BBHBB", stream, at + 4
            )
            return style, progression, layers, transform, levels
        if marker == _TILE or length < 2:
            raise ValueError("no coding style before the first tile")
        at += 2 + length


def _is_sycc(stream: bytes) -> bool:
    """Returns whether a JP2 header, which DICOM does not want, calls the channels sYCC."""
    at = stream[: stream.index(b"\xff\x4f\xff\x51")].find(b"colr\x01")
    return at >= 0 and stream[at + 7 : at + 11] == struct.pack(">I", _SYCC)


def _deep(frame: Frame, precision: int) -> Frame:
    """Returns the frame with the stream's depth; signed values stay as the header has them."""
    return frame if frame.signed or not 8 <= precision <= 16 else replace(frame, stored=precision)


def _check_fit(size: tuple[int, int], channels: int, frame: Frame, name: str) -> None:
    """Refuses a stream that is not what its header says, before it is decoded."""
    if size != (frame.columns, frame.rows):
        raise ImageError(
            f"{name}: the compressed image is of {size[0]} x {size[1]} pixels",
            expected=f"{frame.columns} x {frame.rows}, as the header says",
            action="Export the file again",
        )
    if channels != frame.samples:
        raise ImageError(
            f"{name}: the compressed image has {channels} channel(s)",
            expected=f"{frame.samples}, as the header says",
            action="Export the file again",
        )


def _unread(found: str, name: str) -> ImageError:
    return ImageError(
        f"{name}: the DICOM file holds {found}",
        expected="8 bits per channel",
        action="Export the image uncompressed, or as RGB of 8 bits",
    )
