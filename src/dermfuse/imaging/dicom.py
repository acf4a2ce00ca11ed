"""DICOM files of one frame to pixels: any storage class that holds an image.

Only the elements that describe the pixels are ever looked at. Patient data is neither decoded
nor quoted: every fault is said in words of our own, and pydicom's are dropped.

What may be there, besides uncompressed pixels of either byte order:

    deflated, RLE                         always
    JPEG (8 bit), JPEG 2000               decoded by Pillow
    JPEG-LS                               decoded by pyjpegls, part of the extra ``dicom``
    other codings                         decoded if pydicom finds a decoder, else refused

Stored values become what a screen shows by a table with one entry per stored value, so that memory
and time depend on the image's size alone:

    colour          the full range of the bits stored, to 0 to 255
    MONOCHROME2     rescaled (slope, intercept); then the first window, LINEAR, LINEAR_EXACT or
                    SIGMOID, or, without one, the full range of the bits stored; to 0 to 255
    MONOCHROME1     the same, inverted
    PALETTE COLOR   looked up; entries of 16 bits over 0 to 65,535, or, if none exceeds 255, over
                    0 to 255

What a compressed stream says of itself stands above the file's header:

    colours     JPEG: a JFIF or Adobe segment, or channels called R, G, B; only where it is silent,
                the header. JPEG 2000: if the codestream transforms its channels, they are RGB
                whatever the header says; if not, the header tells YBR_FULL from RGB
    depth       the stream's bits per sample
    size        has to be the header's, and so has the number of channels

DICOM's RLE coding (PS3.5, Annex G) is decoded to no more bytes than the image has: a run of two
bytes stands for up to 128, so that a small file may claim a very large image.
"""

import io
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_windowing, convert_color_space
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.tag import BaseTag

from dermfuse.errors import installing
from dermfuse.imaging.formats import scaled, strips_of
from dermfuse.imaging.jpeg import find_damage, read_frame
from dermfuse.imaging.limits import MAX_PIXELS, RefusalError, check_size, too_many
from dermfuse.imaging.preprocess import silent_decoders

_SUBSAMPLED = "YBR_FULL_422"
_AS_RGB = "Export the image as RGB"
_PALETTES = tuple(
    f"{each}PaletteColorLookupTableData" for each in ("Red", "Green", "Blue", "Alpha")
)

JPEG_8_BIT = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
"""Decoded by Pillow; of the extended kind, what has 8 bits."""
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
"""Decoded by pyjpegls."""
_JPEG_2000 = (
    uid.JPEG2000Lossless, uid.JPEG2000,
    uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
)  # fmt: skip
_CODESTREAM = b"\xff\x4f\xff\x51"  # how one of JPEG 2000 begins
_CODING, _TILE = 0xFF52, 0xFF90  # its markers
_END = b"\xff\xd9"
_OWN_PRECINCTS = 1  # a bit of the coding style
_MOST_CHANNELS = 3
_HOLE_BYTES = 64  # of zeros: coded data has no such run
_SYCC = 18  # of a JP2 header: Pillow converts it
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

MAX_ELEMENTS = 50_000
"""Of elements and items together, nested ones included, before the pixels."""
_READS = 2 * MAX_ELEMENTS  # one for the head of each, one for its content
_READ_BYTES = 1_024  # fragments are read in pieces of 8 kB
MAX_FRAGMENTS = 10_000
_OFFSETS_BYTES = 2**16  # of the table of offsets: one frame needs four
_VALUE_BYTES = 1_024
_PALETTE_BYTES = 2**17  # 65,536 entries of 16 bits
_SYNTAX = "TransferSyntaxUID"
_NEEDED = (
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", *_PALETTES,
)  # fmt: skip
_NOTED = ("ModalityLUTSequence", "VOILUTSequence")  # that they are there is enough


@dataclass(frozen=True, slots=True)
class Layout:
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
        samples = 2 if self.photometric == _SUBSAMPLED else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


def to_display(
    stored: NDArray[np.generic], header: Dataset, layout: Layout, *, little_endian: bool
) -> NDArray[np.uint8]:
    """Returns stored values as 8-bit grey or RGB.

    Args:
        stored: (H, W) grey or indices, or (H, W, 3) RGB.
        header: Window, rescaling and palette are read from it.
        layout: Says how many bits are stored, 8 to 16 (higher ones are ignored), and whether they
            are two's complement.
        little_endian: The byte order of the palette.

    Raises:
        RefusalError: A grey lookup table, a window or a palette that cannot be used.
    """
    bits = layout.stored
    values = np.arange(2**bits, dtype=np.int64)  # what each pattern of bits stands for
    if layout.signed:
        values[2 ** (bits - 1) :] -= 2**bits
    if stored.ndim == 3:
        table = _over_full_range(values)
    elif layout.photometric == "PALETTE COLOR":
        table = _palette(header, values, little_endian=little_endian)
    else:
        table = _grey(header, values)
        if layout.photometric == "MONOCHROME1":
            table = np.uint8(255) - table
    shown = np.empty((*stored.shape, *table.shape[1:]), np.uint8)
    for rows in strips_of(len(stored)):
        # Two's complement wraps.
        shown[rows] = table[stored[rows].astype(np.uint16) & np.uint16(2**bits - 1)]
    return shown


def has_hole(stream: bytes) -> bool:
    """Returns whether zeros take the place of coded data in a JPEG 2000 codestream.

    OpenJPEG decodes them without a warning. An empty packet is a byte of zero, so that as many of
    them as there are may lie side by side; pictures that are cut into precincts are not judged.

    Raises:
        ValueError, struct.error: The main header is cut off or damaged.
    """
    style, layers, _, levels = _coding_style(stream)
    if style & _OWN_PRECINCTS:
        return False
    packets = layers * (levels + 1) * _MOST_CHANNELS
    end = stream.rfind(_END)
    return bytes(_HOLE_BYTES + packets) in stream[: end if end > 0 else None]


def read_dicom(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Returns the one frame of a DICOM file as 8-bit grey or RGB.

    Args:
        data: The whole file, with or without its preamble.
        max_pixels: The number of pixels allowed.

    Returns:
        (H, W), (H, W, 3), or (H, W, 4) where a palette has transparency.

    Raises:
        RefusalError: The file is damaged or cut off, holds no image, more than one frame, too many
            pixels or elements, or pixels in a coding or colour space that is not read.
    """
    with _guarded():
        syntax, body = _split(data)
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            body = _inflate(body, max_pixels)
        header, start = _header(body, syntax)
        described = _layout(header, syntax, max_pixels)
        data, vr = _pixel_data(body[start:], syntax)
        body = b""
        stored, layout = _decode(data, vr, described, syntax)
        layout = replace(layout, stored=_bits(stored, layout, described))
        return to_display(stored, header, layout, little_endian=syntax.is_little_endian)


def _over_full_range(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def _grey(header: Dataset, values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the grey level of each pattern, (2^bits,)."""
    window = [header.get(key) for key in ("WindowCenter", "WindowWidth")]
    has_window = all(value is not None and value not in ("", []) for value in window)
    if "ModalityLUTSequence" in header or (not has_window and "VOILUTSequence" in header):
        kinds = "grey values with a window, or over their full range"
        raise _refused("grey values with a lookup table", kinds, _AS_RGB)
    return _windowed(header, values) if has_window else _over_full_range(values)


def _windowed(header: Dataset, values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the level of each value in the first window, after rescaling."""
    view = Dataset()
    view.PhotometricInterpretation, view.PixelRepresentation = "MONOCHROME2", 0
    view.BitsStored = 8  # of what is returned
    view.WindowCenter, view.WindowWidth = header.WindowCenter, header.WindowWidth
    view.VOILUTFunction = str(header.get("VOILUTFunction", "LINEAR")).strip()
    slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    try:
        shown = apply_windowing(values * float(slope) + float(intercept), view)
    except ValueError:
        shown = np.array([np.nan])
    if not np.isfinite(shown).all():
        expected = "a width above 0 (LINEAR: 1 or more), and finite numbers"
        raise _refused("the window of its grey values cannot be used", expected, _AS_RGB)
    levels: NDArray[np.uint8] = np.rint(shown).astype(np.uint8)
    return levels


def _palette(
    header: Dataset, values: NDArray[np.int64], *, little_endian: bool
) -> NDArray[np.uint8]:
    """Returns the colour of each pattern, (2^bits, 3), or (2^bits, 4) with transparency.

    pydicom's own look-up does not know palettes of the other byte order, entries that are
    numbers, and 16-bit indices into entries of 8 bits.
    """
    found = "the colour palette is segmented, cut off or missing"
    error = _refused(found, "red, green and blue entries of 8 or 16 bits", _AS_RGB)
    keys = [key for key in _PALETTES if key in header]
    if keys[:3] != list(_PALETTES[:3]):
        raise error
    entries, first, depth = (int(v) for v in header.RedPaletteColorLookupTableDescriptor)
    entries = entries or 2**16
    if values.min() >= 0:  # an unsigned image: the descriptor's first value is unsigned, too
        first %= 2**16
    tables = [_words(header[key].value, little_endian=little_endian) for key in keys]
    if depth == 16 and all(words.max(initial=0) <= 255 for words in tables[:3]):
        tables[:3] = [words * np.uint16(257) for words in tables[:3]]  # 8 bits, called 16
    if depth == 8:  # one entry in each word or two, the lower byte first
        tables = [
            np.asarray(words & 0xFF if len(words) >= entries else words.astype("<u2").view("u1"))
            for words in tables
        ]
    if depth not in (8, 16) or min(map(len, tables)) < entries:
        raise error
    places = np.clip(values - first, 0, entries - 1)
    levels = np.stack([words[places] for words in tables], axis=1)
    return scaled(levels.astype(np.uint16), 2**depth - 1)


def _words(data: object, *, little_endian: bool) -> NDArray[np.uint16]:
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(bytes(data), "<u2" if little_endian else ">u2").astype(np.uint16)
    return np.asarray(data, dtype=np.int64).astype(np.uint16)  # of type US: numbers already


def _refused(
    found: str, expected: str = "a DICOM file with one frame", action: str = "Export the file again"
) -> RefusalError:
    return RefusalError(found, expected, action)


def _stream_layout(stream: bytes, layout: Layout, syntax: uid.UID) -> Layout:
    """Returns the layout of a compressed frame's pixels, as its stream has it.

    Args:
        stream: The compressed frame.
        layout: What the header says.
        syntax: The transfer syntax.

    Raises:
        RefusalError: Size or channels are not the header's, or the depth cannot be decoded.
        ValueError, struct.error: The stream's own header is cut off or damaged.
    """
    if syntax in _JPEG_2000:
        layout, precision = _of_jpeg_2000(stream, layout)
    else:
        header = read_frame(stream)
        _check_fit((header.width, header.height), len(header.components), layout)
        if syntax in JPEG_8_BIT and header.unread:
            raise _unread(header.unread)
        if layout.samples == 3 and header.says_rgb is not None:
            layout = replace(layout, photometric="RGB" if header.says_rgb else "YBR_FULL")
        precision = header.precision
    # Signed values stay as the header has them.
    kept = layout.signed or not 8 <= precision <= 16
    return layout if kept else replace(layout, stored=precision)


def _decode_jpeg(stream: bytes, layout: Layout) -> NDArray[np.uint8]:
    """Returns the pixels of a JPEG stream of 8 bits, whose layout is known: grey, or RGB."""
    if damage := find_damage(stream):
        raise _refused(f"the JPEG image is damaged or cut off: {damage}", "a whole picture")
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        if layout.samples == 3:  # what the channels are, whatever libjpeg would guess
            coded = "RGB" if layout.photometric == "RGB" else "YCbCr"
            image.tile = [tile._replace(args=("RGB", coded)) for tile in image.tile]
        return np.asarray(image)


def _of_jpeg_2000(stream: bytes, layout: Layout) -> tuple[Layout, int]:
    """Returns a layout with the colours that the stream has, and its bits per sample."""
    with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
        size, channels = image.size, len(image.getbands())
    _check_fit(size, channels, layout)
    if has_hole(stream):
        found = "the JPEG 2000 image is damaged: part of its coded data is blank"
        raise _refused(found, "a whole picture")
    precision = int(get_j2k_parameters(stream).get("precision", layout.stored))
    if layout.samples == 3:
        if precision > 8:
            raise _unread(f"JPEG 2000 colours of {precision} bits")
        _, _, transform, _ = _coding_style(stream)
        plain = not transform and not _is_sycc(stream)
        ybr = plain and layout.photometric in ("YBR_FULL", _SUBSAMPLED)
        layout = replace(layout, photometric="YBR_FULL" if ybr else "RGB")
    return layout, precision


def _coding_style(stream: bytes) -> tuple[int, int, int, int]:
    """Returns what the COD segment of a JPEG 2000 codestream says.

    Its style, how many layers there are, whether the channels are transformed, and how many levels
    there are.
    """
    at = stream.index(_CODESTREAM) + 2
    while True:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == _CODING:
            style, layers, transform, levels = struct.unpack_from(">BxHBB", stream, at + 4)
            return style, layers, transform, levels
        if marker == _TILE or length < 2:
            raise ValueError("no coding style before the first tile")
        at += 2 + length


def _is_sycc(stream: bytes) -> bool:
    """Returns whether a JP2 header, which DICOM does not want, calls the channels sYCC."""
    at = stream[: stream.index(_CODESTREAM)].find(b"colr\x01")
    return at >= 0 and stream[at + 7 : at + 11] == struct.pack(">I", _SYCC)


def _check_fit(size: tuple[int, int], channels: int, layout: Layout) -> None:
    """Refuses a stream that is not what its header says, before it is decoded."""
    if size != (layout.columns, layout.rows):
        found = f"the compressed image is of {size[0]} x {size[1]} pixels"
        raise _refused(found, f"{layout.columns} x {layout.rows}, as the header says")
    if channels != layout.samples:
        found = f"the compressed image has {channels} channel(s)"
        raise _refused(found, f"{layout.samples}, as the header says")


def _unread(found: str) -> RefusalError:
    action = "Export the image uncompressed, or as RGB of 8 bits"
    return _refused(f"the DICOM file holds {found}", "8 bits per channel", action)


def _run_lengths(stream: bytes, layout: Layout) -> NDArray[np.generic]:
    """Returns run-length coded pixels, colours as RGB.

    Each byte of each sample is a segment, highest first.
    """
    sample_bytes = layout.allocated // 8
    count, *offsets = struct.unpack_from("<16L", stream)
    if count != layout.samples * sample_bytes:
        raise ValueError(f"{count} segments. Expected: {layout.samples * sample_bytes}.")
    ends = [*offsets[1:count], len(stream)]
    # Pillow's decoder unpacks one row of pixels and no more: pydicom's unpacks whatever a segment
    # holds, up to 64 times its own size.
    size = (layout.rows * layout.columns, 1)
    planes = [
        np.asarray(Image.frombytes("L", size, stream[start:end], "packbits", "L")).ravel()
        for start, end in zip(offsets[:count], ends, strict=True)
    ]
    values = np.stack(planes, axis=-1).view(f">u{sample_bytes}").astype(f"u{sample_bytes}")
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    values = values.reshape(layout.rows, layout.columns, layout.samples)
    ybr = layout.photometric.startswith("YBR")
    return convert_color_space(values, layout.photometric, "RGB") if ybr else values


class _CountedBytes(io.BytesIO):
    """Bytes that may be read from so many times: what is nested costs a reader far more."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = _READS + len(data) // _READ_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns the next bytes.

        Raises:
            RefusalError: It was called too often.
        """
        self.left -= 1
        if self.left < 0:
            raise too_many("elements and items", MAX_ELEMENTS)
        return super().read(size)


@contextmanager
def _guarded() -> Iterator[None]:
    """Turns whatever a parser or decoder raises into one refusal that quotes none of it.

    pydicom's remarks, which may quote the file, are kept from the log and from stderr.
    """
    logger = logging.getLogger("pydicom")
    with silent_decoders():  # its lock is held: no other thread of ours sees the level changed
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        except RecursionError:
            raise _refused("the elements of the DICOM file lie too deep in one another") from None
        except Exception as error:
            ours = [e for e in (error, error.__context__) if isinstance(e, RefusalError)]
            raise (ours or [_refused("the DICOM file is damaged or cut off")])[0] from None
        finally:
            logger.setLevel(level)


def _split(data: bytes) -> tuple[uid.UID, bytes]:
    """Returns the transfer syntax and what follows the file meta information."""
    start = 132 if data[128:132] == b"DICM" else 0
    meta, length = _elements(data[start:], lambda tag: tag.group != _META_GROUP)
    syntax = _short(meta, (_SYNTAX,)).get(_SYNTAX)
    if not isinstance(syntax, uid.UID) or syntax.type != "Transfer Syntax":
        raise _refused("the DICOM file names no transfer syntax that is known")
    return syntax, data[start + length :]


def _inflate(body: bytes, max_pixels: int) -> bytes:
    """Returns a deflated data set, no larger than the image that its header announces."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(body, _HEADER_BYTES)
    syntax = uid.DeflatedExplicitVRLittleEndian
    layout = _layout(_header(head, syntax)[0], syntax, max_pixels)
    rest = inflater.decompress(inflater.unconsumed_tail, layout.native_bytes + _HEADER_BYTES)
    return head + rest


def _header(body: bytes, syntax: uid.UID) -> tuple[Dataset, int]:
    """Returns the elements that describe the pixels, and where those begin."""
    whole, length = _elements(body, lambda tag: tag >= _PIXELS_TAG, syntax)
    header = _short(whole, _NEEDED)
    for keyword in _NOTED:
        if keyword in whole:
            setattr(header, keyword, [])
    return header, length


def _elements(
    data: bytes, stop: Callable[[BaseTag], bool], syntax: uid.UID = uid.ExplicitVRLittleEndian
) -> tuple[Dataset, int]:
    """Returns the elements up to a tag, not yet decoded, and how many bytes they are."""
    file = _CountedBytes(data)
    found = read_dataset(
        file, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=lambda tag, _, __: stop(tag)
    )
    return found, file.tell()


def _short(whole: Dataset, keywords: tuple[str, ...]) -> Dataset:
    """Returns some elements of a data set.

    Raises:
        ValueError: One is a sequence or too long: millions of items, or numbers, would come of it.
    """
    kept = Dataset()
    for keyword in keywords:
        element = whole.get_item(keyword)
        if element is None:
            continue
        most = _PALETTE_BYTES if keyword in _PALETTES else _VALUE_BYTES
        if not isinstance(element, RawDataElement) or element.VR == "SQ" or element.length > most:
            raise ValueError(f"{keyword} is a sequence or too long")
        kept[element.tag] = element
    return kept


def _pixel_data(rest: bytes, syntax: uid.UID) -> tuple[bytes, str]:
    """Returns the bytes and the type of the pixels, which the rest of a file begins with."""
    found, _ = _elements(rest, lambda tag: tag > _PIXELS_TAG, syntax)
    element = found.get_item(_PIXELS_TAG)
    if element is None or not element.value:  # there may be none, or floating-point ones
        raise _refused("the DICOM file holds no pixel data, or is cut off before it")
    return bytes(element.value), str(element.VR)


def _layout(header: Dataset, syntax: uid.UID, max_pixels: int) -> Layout:
    """Returns the layout that a header describes; refuses what is not read, before any pixel."""
    frames = int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header or "Columns" not in header:
        action = "Choose the file with the picture"
        raise _refused("the DICOM file holds no image", action=action)
    layout = Layout(
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples=int(header.get("SamplesPerPixel") or 1),
        photometric=str(header.get("PhotometricInterpretation", "")).strip(),
        allocated=int(header.get("BitsAllocated") or 0),
        stored=int(header.get("BitsStored") or header.get("BitsAllocated") or 0),
        signed=bool(header.get("PixelRepresentation")),
        planar=bool(header.get("PlanarConfiguration")),
    )
    if frames != 1:
        raise _refused(f"{frames} frames", action="Export one frame of it")
    taken = _TAKEN.get(syntax, _TAKEN_BY_OTHERS) if syntax.is_compressed else 0
    pixel_bytes = max(1, taken * layout.samples * max(layout.allocated // 8, 1))
    check_size(layout.columns, layout.rows, max_pixels=max_pixels, pixel_bytes=pixel_bytes)
    _check_layout(layout, header)
    return layout


def _check_layout(layout: Layout, header: Dataset) -> None:
    known = _GREY if layout.samples == 1 else _COLOUR if layout.samples == 3 else ()
    high = int(header.get("HighBit", layout.stored - 1))
    if layout.photometric not in known:
        said = layout.photometric if layout.photometric in (*_GREY, *_COLOUR) else "another colour"
        found = f"{layout.samples} sample(s) per pixel and {said} interpretation"
    elif layout.allocated not in (8, 16) or not 8 <= layout.stored <= layout.allocated:
        found = f"{layout.stored} bits stored in {layout.allocated}"
    elif high != layout.stored - 1:
        found = f"bits that end at bit {high} of {layout.stored}"
    elif layout.samples == 3 and layout.signed:
        found = "signed colours"
    else:
        return
    known_kinds = f"{', '.join(_GREY)} or, with three samples, {', '.join(_COLOUR)}"
    raise _refused(found, f"8 to 16 bits in {known_kinds}", _AS_RGB)


def _decode(
    data: bytes, vr: str, layout: Layout, syntax: uid.UID
) -> tuple[NDArray[np.generic], Layout]:
    """Returns the stored values, colours as RGB, (H, W) or (H, W, 3), and how they are laid out."""
    if not syntax.is_encapsulated:
        _check_length(len(data), layout)
    else:
        _check_frames(data)
    decoder = None if syntax == uid.RLELossless else _decoder(syntax)
    frame = get_frame(data, 0, number_of_frames=1) if syntax.is_encapsulated else b""
    if decoder is None:
        return _run_lengths(frame, layout), layout
    if syntax.is_encapsulated:
        layout = _stream_layout(frame, layout, syntax)
    if syntax in JPEG_8_BIT:
        return _decode_jpeg(frame, layout), layout
    decoded, _ = decoder.as_array(
        data, raw=False, index=0,
        rows=layout.rows, columns=layout.columns, number_of_frames=1,
        samples_per_pixel=layout.samples, photometric_interpretation=layout.photometric,
        bits_allocated=layout.allocated, bits_stored=layout.stored,
        pixel_representation=int(layout.signed), planar_configuration=int(layout.planar),
        pixel_keyword="PixelData", pixel_vr=vr,
    )  # fmt: skip
    return np.asarray(decoded), layout


def _bits(stored: NDArray[np.generic], layout: Layout, described: Layout) -> int:
    """Returns the bits that count: the stream's, or fewer of the header's if the values fit."""
    fits = not layout.signed and int(stored.max()) < 2**described.stored
    return min(layout.stored, described.stored) if fits else layout.stored


def _check_frames(data: bytes) -> None:
    """Refuses encapsulated data in which several fragments begin as a picture does."""
    offsets, *fragments = islice(generate_fragments(data), MAX_FRAGMENTS + 1)
    if len(fragments) == MAX_FRAGMENTS or len(offsets) > _OFFSETS_BYTES:
        raise too_many("fragments", MAX_FRAGMENTS)
    frames = sum(fragment.startswith(_BEGINNINGS) for fragment in fragments)
    if frames > 1:
        found = f"{frames} compressed images, and one frame in the header"
        raise _refused(found, action="Export one frame of it")


def _check_length(length: int, layout: Layout) -> None:
    """Refuses uncompressed pixel data of another length than the header describes.

    A last byte that makes the length even belongs to no pixel.
    """
    described = layout.native_bytes
    if length in (described, described + 1):
        return
    plane = layout.rows * layout.columns * layout.allocated // 8
    others = {2 * plane: _SUBSAMPLED, 3 * plane: "three values per pixel"}
    fits = others.get(length) or others.get(length - 1)
    if layout.samples == 3 and fits:
        found = (
            f"{layout.photometric} and {length:,} bytes of pixel data do not fit: those are "
            f"{fits}, and {layout.photometric} has {described:,} bytes"
        )
    elif length < described:
        found = f"the pixel data is cut off, {length:,} of {described:,} bytes"
    else:
        found = f"{length:,} bytes of pixel data, of which the header describes {described:,}"
    raise _refused(found)


def _decoder(syntax: uid.UID) -> Any:  # noqa: ANN401 — pydicom's decoder
    """Returns the decoder of a transfer syntax.

    Raises:
        RefusalError: None is installed; the message names the syntax.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # video, say
        decoder = None
    if decoder is None or not decoder.is_available:
        other = "Export the image uncompressed, or as JPEG or JPEG 2000"
        action = installing("dicom") if syntax in JPEG_LS else other
        found = f"the pixels are coded as {syntax.name} ({syntax})"
        raise _refused(found, "a coding whose decoder is installed", action)
    return decoder
