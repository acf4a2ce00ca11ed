"""DICOM files of one frame to pixels: any storage class that holds an image.

Only the elements that describe the pixels are ever looked at. Patient data is neither decoded
nor quoted: every fault is said in words of our own, and pydicom's are dropped.

What may be there, besides uncompressed pixels of either byte order:

    deflated, RLE                         always
    JPEG (8 bit), JPEG 2000               decoded by Pillow
    JPEG-LS                               decoded by pyjpegls, part of the extra ``dicom``
    other codings                         decoded if pydicom finds a decoder, else refused
"""

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from dermfuse.analysis.dicom_values import to_display
from dermfuse.analysis.run_lengths import decode_run_lengths
from dermfuse.errors import ImageError
from dermfuse.preprocess import MAX_PIXELS, MIN_SIDE_PX, silent_decoders

_PIXELS_TAG = 0x7FE00010
_META_GROUP = 0x0002
_HEADER_BYTES = 16 * 2**20  # of a deflated file, inflated to learn the size of its image
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_JPEG_2000 = (
    uid.JPEG2000Lossless, uid.JPEG2000,
    uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
)  # fmt: skip
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_EXPECTED = "a DICOM file with one frame"


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


def read_dicom(data: bytes, *, name: str = "the image") -> NDArray[np.uint8]:
    """Returns the one frame of a DICOM file as 8-bit grey or RGB.

    Args:
        data: The whole file, with or without its preamble.
        name: For messages.

    Returns:
        (H, W), (H, W, 3), or (H, W, 4) where a palette has transparency.

    Raises:
        ImageError: The file is damaged or cut off, holds no image, more than one frame, more
            pixels than ``MAX_PIXELS``, or pixels in a coding or colour space that is not read.
    """
    with _one_error(name), _quiet():
        syntax, body = _split(data, name)
        body = _inflate(body, name) if syntax == uid.DeflatedExplicitVRLittleEndian else body
        header = _parse(body, syntax, header_only=True)
        frame = _frame(header, name)
        pixel_data = _parse(body, syntax, header_only=False).get_item(_PIXELS_TAG)
        stored = _decode(bytes(_value(pixel_data, name)), pixel_data.VR, frame, syntax, name=name)
        return to_display(
            stored, header, bits=frame.stored, signed=frame.signed,
            little_endian=syntax.is_little_endian, name=name,
        )  # fmt: skip


@contextmanager
def _one_error(name: str) -> Iterator[None]:
    """Turns whatever a parser or decoder raises into one ImageError that quotes none of it."""
    try:
        yield
    except ImageError:
        raise
    except Exception:
        raise ImageError(
            f"{name}: the DICOM file is damaged or cut off",
            expected=_EXPECTED,
            action="Export the file again",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps pydicom's remarks, which may quote the file, from the log and from stderr."""
    with silent_decoders():  # its lock is held: no other thread of ours sees the level changed
        logger = logging.getLogger("pydicom")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _split(data: bytes, name: str) -> tuple[uid.UID, bytes]:
    """Returns the transfer syntax and what follows the file meta information."""
    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _, __: tag.group != _META_GROUP)
    syntax = meta.get("TransferSyntaxUID")
    if not isinstance(syntax, uid.UID) or syntax.type != "Transfer Syntax":
        raise ImageError(
            f"{name}: the DICOM file names no transfer syntax that is known",
            expected=_EXPECTED,
            action="Export the file again",
        )
    return syntax, data[file.tell() :]


def _inflate(body: bytes, name: str) -> bytes:
    """Returns a deflated data set, no larger than the image that its header announces."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(body, _HEADER_BYTES)
    frame = _frame(_parse(head, uid.ExplicitVRLittleEndian, header_only=True), name)
    rest = inflater.decompress(inflater.unconsumed_tail, frame.native_bytes + _HEADER_BYTES)
    return head + rest


def _parse(body: bytes, syntax: uid.UID, *, header_only: bool) -> Dataset:
    stop = (lambda tag, _, __: tag >= _PIXELS_TAG) if header_only else None
    return read_dataset(
        io.BytesIO(body), syntax.is_implicit_VR, syntax.is_little_endian, stop_when=stop
    )


def _frame(header: Dataset, name: str) -> Frame:
    """Returns the layout that a header describes; refuses what is not read, before any pixel."""
    frames = int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header or "Columns" not in header:
        raise ImageError(
            f"{name}: the DICOM file holds no image",
            expected=_EXPECTED,
            action="Choose the file with the picture",
        )
    frame = Frame(
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples=int(header.get("SamplesPerPixel") or 1),
        photometric=str(header.get("PhotometricInterpretation", "")).strip(),
        allocated=int(header.get("BitsAllocated") or 0),
        stored=int(header.get("BitsStored") or header.get("BitsAllocated") or 0),
        signed=bool(header.get("PixelRepresentation")),
        planar=bool(header.get("PlanarConfiguration")),
    )
    _check_size(frame, frames, name)
    _check_layout(frame, header, name)
    return frame


def _check_size(frame: Frame, frames: int, name: str) -> None:
    if frame.rows * frame.columns * max(frames, 1) > MAX_PIXELS:
        raise ImageError(
            f"{name}: {frame.columns} x {frame.rows} pixels in {frames} frame(s)",
            expected=f"{MAX_PIXELS:,} pixels or fewer",
            action="Export one frame, or a smaller image",
        )
    if min(frame.rows, frame.columns) < MIN_SIDE_PX:
        raise ImageError(
            f"{name}: {frame.columns} x {frame.rows} pixels",
            expected=f"{MIN_SIDE_PX} or more on each side",
            action="Use the original image",
        )
    if frames != 1:
        raise ImageError(
            f"{name}: {frames} frames", expected=_EXPECTED, action="Export one frame of it"
        )


def _check_layout(frame: Frame, header: Dataset, name: str) -> None:
    known = _GREY if frame.samples == 1 else _COLOUR if frame.samples == 3 else ()
    high = int(header.get("HighBit", frame.stored - 1))
    if frame.photometric not in known:
        said = frame.photometric if frame.photometric in (*_GREY, *_COLOUR) else "another colour"
        found = f"{frame.samples} sample(s) per pixel and {said} interpretation"
    elif frame.allocated not in (8, 16) or not 8 <= frame.stored <= frame.allocated:
        found = f"{frame.stored} bits stored in {frame.allocated}"
    elif high != frame.stored - 1:
        found = f"bits that end at bit {high} of {frame.stored}"
    elif frame.samples == 3 and frame.signed:
        found = "signed colours"
    else:
        return
    raise ImageError(
        f"{name}: {found}",
        expected=f"8 to 16 bits in {', '.join(_GREY)} or, with three samples, {', '.join(_COLOUR)}",
        action="Export the image as RGB",
    )


def _value(element: Any, name: str) -> bytes:  # noqa: ANN401 — pydicom's element, raw or not
    """Returns the bytes of the pixel data element; there may be none, or floating-point pixels."""
    value = None if element is None else element.value
    if not value:
        raise ImageError(
            f"{name}: the DICOM file holds no pixel data, or is cut off before it",
            expected=_EXPECTED,
            action="Export the file again",
        )
    return bytes(value)


def _decode(
    data: bytes, vr: str, frame: Frame, syntax: uid.UID, *, name: str
) -> NDArray[np.generic]:
    """Returns the stored values, colours as RGB: (H, W) or (H, W, 3)."""
    if not syntax.is_encapsulated and len(data) < frame.native_bytes:
        raise ImageError(
            f"{name}: the pixel data is cut off, {len(data):,} of {frame.native_bytes:,} bytes",
            expected=_EXPECTED,
            action="Export the file again",
        )
    if syntax == uid.RLELossless:
        values = decode_run_lengths(
            get_frame(data, 0, number_of_frames=1),
            rows=frame.rows, columns=frame.columns,
            samples=frame.samples, sample_bytes=frame.allocated // 8,
        )  # fmt: skip
        if frame.photometric.startswith("YBR"):
            values = convert_color_space(values, frame.photometric, "RGB")
        return values
    decoder = _decoder(syntax, name)
    if syntax.is_encapsulated:
        _check_stream(get_frame(data, 0, number_of_frames=1), frame, syntax, name)
    decoded, _ = decoder.as_array(
        data, raw=False, index=0,
        rows=frame.rows, columns=frame.columns, number_of_frames=1,
        samples_per_pixel=frame.samples, photometric_interpretation=frame.photometric,
        bits_allocated=frame.allocated, bits_stored=frame.stored,
        pixel_representation=int(frame.signed), planar_configuration=int(frame.planar),
        pixel_keyword="PixelData", pixel_vr=vr,
    )  # fmt: skip
    return np.asarray(decoded)


def _decoder(syntax: uid.UID, name: str) -> Any:  # noqa: ANN401 — pydicom's decoder
    """Returns the decoder of a transfer syntax.

    Raises:
        ImageError: None is installed; the message names the syntax.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # video, say
        decoder = None
    if decoder is None or not decoder.is_available:
        action = "Export the image uncompressed, or as JPEG or JPEG 2000"
        if syntax in _JPEG_LS:
            action = "Install its decoder with: pip install 'dermfuse[dicom]'"
        raise ImageError(
            f"{name}: the pixels are coded as {syntax.name} ({syntax})",
            expected="a coding whose decoder is installed",
            action=action,
        )
    return decoder


def _check_stream(stream: bytes, frame: Frame, syntax: uid.UID, name: str) -> None:
    """Refuses a compressed image that is not of the size its header says, before it is decoded."""
    if syntax in _JPEG_2000:
        with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
            width, height = image.size
    else:
        width, height = _jpeg_size(stream)
    if (width, height) != (frame.columns, frame.rows):
        raise ImageError(
            f"{name}: the compressed image is of {width} x {height} pixels",
            expected=f"{frame.columns} x {frame.rows}, as the header says",
            action="Export the file again",
        )


def _jpeg_size(stream: bytes) -> tuple[int, int]:
    """Returns width and height from the start-of-frame marker of JPEG or JPEG-LS."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", stream, position)
        if marker == 0xFFF7 or (0xFFC0 <= marker <= 0xFFCF and marker & 0xF not in (4, 8, 12)):
            height, width = struct.unpack_from(">HH", stream, position + 5)
            return width, height
        position += 2 + max(length, 2)
