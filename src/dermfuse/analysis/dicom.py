"""DICOM files of one frame to pixels: any storage class that holds an image.

What a compressed stream says of its own colours, depth and size stands above the header
(``analysis.dicom_streams``).

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
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from dermfuse.analysis.dicom_streams import (
    JPEG_8_BIT,
    JPEG_LS,
    Frame,
    decode_jpeg,
    stream_frame,
)
from dermfuse.analysis.dicom_values import to_display
from dermfuse.analysis.run_lengths import decode_run_lengths
from dermfuse.decoding.limits import MAX_PIXELS, check_size, too_many
from dermfuse.errors import ImageError, installing
from dermfuse.preprocess import silent_decoders

_PIXELS_TAG = 0x7FE00010
_META_GROUP = 0x0002
_HEADER_BYTES = 16 * 2**20  # of a deflated file, inflated to learn the size of its image
_TAKEN = {
    uid.DeflatedExplicitVRLittleEndian: 3, uid.RLELossless: 4,
    uid.JPEGBaseline8Bit: 4, uid.JPEGExtended12Bit: 4,
}  # fmt: skip
"""How many times the stored pixels a coding takes in memory."""
_TAKEN_BY_OTHERS = 12  # JPEG 2000's decoder has 32 bits for each value
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_BEGINNINGS = (b"\xff\xd8\xff", b"\xff\x4f\xff")  # of JPEG and JPEG-LS, of JPEG 2000
_EXPECTED = "a DICOM file with one frame"

MAX_ELEMENTS = 50_000
"""Of elements and items together, nested ones included, before the pixels."""
_READS = 2 * MAX_ELEMENTS  # one for the head of each, one for its content
_READ_BYTES = 1_024  # fragments are read in pieces of 8 kB
MAX_FRAGMENTS = 10_000
_OFFSETS_BYTES = 2**16  # of the table of offsets: one frame needs four
_VALUE_BYTES = 1_024
_PALETTE_BYTES = 2**17  # 65,536 entries of 16 bits
_SYNTAX = "TransferSyntaxUID"
_PALETTES = tuple(
    f"{each}PaletteColorLookupTableData" for each in ("Red", "Green", "Blue", "Alpha")
)
_NEEDED = (
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", *_PALETTES,
)  # fmt: skip
_NOTED = ("ModalityLUTSequence", "VOILUTSequence")  # that they are there is enough


class _CountedBytes(io.BytesIO):
    """Bytes that may be read from so many times: what is nested costs a reader far more."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = _READS + len(data) // _READ_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns the next bytes.

        Raises:
            _TooManyError: It was called too often.
        """
        self.left -= 1
        if self.left < 0:
            raise _TooManyError
        return super().read(size)


class _TooManyError(Exception):
    """A file has more elements than an image needs."""


def read_dicom(
    data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Returns the one frame of a DICOM file as 8-bit grey or RGB.

    Args:
        data: The whole file, with or without its preamble.
        name: For messages.
        max_pixels: That are allowed.

    Returns:
        (H, W), (H, W, 3), or (H, W, 4) where a palette has transparency.

    Raises:
        ImageError: The file is damaged or cut off, holds no image, more than one frame, too many
            pixels or elements, or pixels in a coding or colour space that is not read.
    """
    with _one_error(name), _quiet():
        syntax, body = _split(data, name)
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            body = _inflate(body, name, max_pixels)
        header, start = _header(body, syntax)
        frame = described = _frame(header, name, syntax, max_pixels)
        pixel_data = _pixel_data(body[start:], syntax)
        data, vr, body = *_value(pixel_data, name), b""
        if syntax.is_encapsulated:
            _check_frames(data, name)
        if syntax.is_encapsulated and syntax != uid.RLELossless:
            _decoder(syntax, name)
            frame = stream_frame(get_frame(data, 0, number_of_frames=1), frame, syntax, name)
        stored = _decode(data, vr, frame, syntax, name=name)
        return to_display(
            stored, header, bits=_bits(stored, frame, described), signed=frame.signed,
            little_endian=syntax.is_little_endian, name=name,
        )  # fmt: skip


@contextmanager
def _one_error(name: str) -> Iterator[None]:
    """Turns whatever a parser or decoder raises into one ImageError that quotes none of it."""
    try:
        yield
    except ImageError:
        raise
    except RecursionError:
        raise ImageError(
            f"{name}: the elements of the DICOM file lie too deep in one another",
            expected=_EXPECTED,
            action="Export the file again",
        ) from None
    except Exception as error:
        if isinstance(error, _TooManyError) or isinstance(error.__context__, _TooManyError):
            raise too_many(name, "elements and items", MAX_ELEMENTS) from None
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
    file = _CountedBytes(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _, __: tag.group != _META_GROUP)
    syntax = _short(meta, (_SYNTAX,)).get(_SYNTAX)
    if not isinstance(syntax, uid.UID) or syntax.type != "Transfer Syntax":
        raise ImageError(
            f"{name}: the DICOM file names no transfer syntax that is known",
            expected=_EXPECTED,
            action="Export the file again",
        )
    return syntax, data[file.tell() :]


def _inflate(body: bytes, name: str, max_pixels: int) -> bytes:
    """Returns a deflated data set, no larger than the image that its header announces."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(body, _HEADER_BYTES)
    syntax = uid.DeflatedExplicitVRLittleEndian
    frame = _frame(_header(head, syntax)[0], name, syntax, max_pixels)
    rest = inflater.decompress(inflater.unconsumed_tail, frame.native_bytes + _HEADER_BYTES)
    return head + rest


def _header(body: bytes, syntax: uid.UID) -> tuple[Dataset, int]:
    """Returns the elements that describe the pixels, and where those begin."""
    file = _CountedBytes(body)
    whole = read_dataset(
        file, syntax.is_implicit_VR, syntax.is_little_endian,
        stop_when=lambda tag, _, __: tag >= _PIXELS_TAG,
    )  # fmt: skip
    header = _short(whole, _NEEDED)
    for keyword in _NOTED:
        if keyword in whole:
            setattr(header, keyword, [])
    return header, file.tell()


def _short(whole: Dataset, keywords: tuple[str, ...]) -> Dataset:
    """Returns some elements of a data set.

    Raises:
        ValueError: One is a sequence or too long: millions of items, or numbers, would come of it.
    """
    kept = Dataset()
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        element = None if tag is None else whole.get_item(tag)
        most = _PALETTE_BYTES if keyword in _PALETTES else _VALUE_BYTES
        if element is None:
            continue
        if not isinstance(element, RawDataElement) or element.VR == "SQ" or element.length > most:
            raise ValueError(f"{keyword} is a sequence or too long")
        kept[element.tag] = element
    return kept


def _pixel_data(rest: bytes, syntax: uid.UID) -> Any:  # noqa: ANN401 — pydicom's element
    """Returns the element that the rest of a file begins with, if it is the pixels."""
    found = read_dataset(
        _CountedBytes(rest), syntax.is_implicit_VR, syntax.is_little_endian,
        stop_when=lambda tag, _, __: tag > _PIXELS_TAG,
    )  # fmt: skip
    return found.get_item(_PIXELS_TAG)


def _frame(header: Dataset, name: str, syntax: uid.UID, max_pixels: int) -> Frame:
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
    _check_size(frame, frames, name, syntax=syntax, max_pixels=max_pixels)
    _check_layout(frame, header, name)
    return frame


def _check_size(frame: Frame, frames: int, name: str, *, syntax: uid.UID, max_pixels: int) -> None:
    if frames != 1:
        raise ImageError(
            f"{name}: {frames} frames", expected=_EXPECTED, action="Export one frame of it"
        )
    each = frame.samples * max(frame.allocated // 8, 1)
    taken = _TAKEN.get(syntax, _TAKEN_BY_OTHERS) if syntax.is_compressed else 0
    check_size(
        frame.columns, frame.rows, name, max_pixels=max_pixels, pixel_bytes=max(1, taken * each)
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


def _value(element: Any, name: str) -> tuple[bytes, str]:  # noqa: ANN401 — pydicom's element
    """Returns the bytes and the type of the pixels; there may be none, or floating-point ones."""
    value = None if element is None else element.value
    if not value:
        raise ImageError(
            f"{name}: the DICOM file holds no pixel data, or is cut off before it",
            expected=_EXPECTED,
            action="Export the file again",
        )
    return bytes(value), element.VR


def _decode(
    data: bytes, vr: str, frame: Frame, syntax: uid.UID, *, name: str
) -> NDArray[np.generic]:
    """Returns the stored values, colours as RGB: (H, W) or (H, W, 3)."""
    if not syntax.is_encapsulated:
        _check_length(len(data), frame, name)
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
    if syntax in JPEG_8_BIT:
        return decode_jpeg(get_frame(data, 0, number_of_frames=1), frame, name)
    decoded, _ = decoder.as_array(
        data, raw=False, index=0,
        rows=frame.rows, columns=frame.columns, number_of_frames=1,
        samples_per_pixel=frame.samples, photometric_interpretation=frame.photometric,
        bits_allocated=frame.allocated, bits_stored=frame.stored,
        pixel_representation=int(frame.signed), planar_configuration=int(frame.planar),
        pixel_keyword="PixelData", pixel_vr=vr,
    )  # fmt: skip
    return np.asarray(decoded)


def _bits(stored: NDArray[np.generic], frame: Frame, described: Frame) -> int:
    """Returns the bits that count: the stream's, or fewer of the header's if the values fit."""
    fits = not frame.signed and int(stored.max()) < 2**described.stored
    return min(frame.stored, described.stored) if fits else frame.stored


def _check_frames(data: bytes, name: str) -> None:
    """Refuses encapsulated data in which several fragments begin as a picture does."""
    offsets, *fragments = islice(generate_fragments(data), MAX_FRAGMENTS + 1)
    if len(fragments) == MAX_FRAGMENTS or len(offsets) > _OFFSETS_BYTES:
        raise too_many(name, "fragments", MAX_FRAGMENTS)
    frames = sum(fragment.startswith(_BEGINNINGS) for fragment in fragments)
    if frames > 1:
        raise ImageError(
            f"{name}: {frames} compressed images, and one frame in the header",
            expected=_EXPECTED,
            action="Export one frame of it",
        )


def _check_length(length: int, frame: Frame, name: str) -> None:
    """Refuses uncompressed pixel data of another length than the header describes.

    A last byte that makes the length even belongs to no pixel.
    """
    described = frame.native_bytes
    if length in (described, described + 1):
        return
    others = {
        "YBR_FULL_422": 2 * frame.rows * frame.columns * frame.allocated // 8,
        "three values per pixel": 3 * frame.rows * frame.columns * frame.allocated // 8,
    }
    fits = [said for said, size in others.items() if length in (size, size + 1)]
    if frame.samples == 3 and fits:
        found = (
            f"{frame.photometric} and {length:,} bytes of pixel data do not fit: those are "
            f"{fits[0]}, and {frame.photometric} has {described:,} bytes"
        )
    elif length < described:
        found = f"the pixel data is cut off, {length:,} of {described:,} bytes"
    else:
        found = f"{length:,} bytes of pixel data, of which the header describes {described:,}"
    raise ImageError(f"{name}: {found}", expected=_EXPECTED, action="Export the file again")


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
        if syntax in JPEG_LS:
            action = installing("dicom")
        raise ImageError(
            f"{name}: the pixels are coded as {syntax.name} ({syntax})",
            expected="a coding whose decoder is installed",
            action=action,
        )
    return decoder
