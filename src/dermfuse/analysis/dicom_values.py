"""Stored DICOM values to what a screen shows: windows, inversion, palettes, depth.

Every rule is a table with one entry per stored value, so that memory and time depend on the
image's size alone:

    colour          the full range of the bits stored, to 0 to 255
    MONOCHROME2     rescaled (slope, intercept); then the first window, LINEAR, LINEAR_EXACT or
                    SIGMOID, or, without one, the full range of the bits stored; to 0 to 255
    MONOCHROME1     the same, inverted
    PALETTE COLOR   looked up; entries of 16 bits over 0 to 65,535, or, if none exceeds 255, over
                    0 to 255
"""

from math import isfinite

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dermfuse.errors import ImageError

_BYTE = 255
_STRIP_ROWS = 64
_PRIMARIES = ("Red", "Green", "Blue")


def to_display(
    stored: NDArray[np.generic],
    header: Dataset,
    *,
    bits: int,
    signed: bool,
    little_endian: bool,
    name: str,
) -> NDArray[np.uint8]:
    """Returns stored values as 8-bit grey or RGB.

    Args:
        stored: (H, W) grey or indices, or (H, W, 3) RGB.
        header: Window, rescaling, palette and photometric interpretation are read from it.
        bits: Bits stored, 8 to 16; higher ones are ignored.
        signed: Whether stored values are two's complement.
        little_endian: The byte order of the palette.
        name: For messages.

    Raises:
        ImageError: A grey lookup table, a window or a palette that cannot be used.
    """
    if stored.ndim == 3:
        table = _over_full_range(np.arange(2**bits, dtype=np.float64), 0, 2**bits - 1)
    else:
        values = _values(bits, signed=signed)
        if str(header.PhotometricInterpretation).strip() == "PALETTE COLOR":
            table = _palette(header, values, little_endian=little_endian, name=name)
        else:
            table = _grey(header, values, name=name)
    shown = np.empty((*stored.shape, *table.shape[1:]), np.uint8)
    for top in range(0, len(stored), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        # Two's complement wraps.
        shown[rows] = table[stored[rows].astype(np.uint16) & np.uint16(2**bits - 1)]
    return shown


def _values(bits: int, *, signed: bool) -> NDArray[np.int64]:
    """Returns the value that each pattern of bits stands for, (2^bits,)."""
    patterns = np.arange(2**bits, dtype=np.int64)
    return (
        np.where(patterns >= 2 ** (bits - 1), patterns - 2**bits, patterns) if signed else patterns
    )


def _over_full_range(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def _grey(header: Dataset, values: NDArray[np.int64], *, name: str) -> NDArray[np.uint8]:
    """Returns the grey level of each pattern, (2^bits,)."""
    window = _window(header)
    if "ModalityLUTSequence" in header or (window is None and "VOILUTSequence" in header):
        raise ImageError(
            f"{name}: grey values with a lookup table",
            expected="grey values with a window, or over their full range",
            action="Export the image as RGB",
        )
    if window is None:
        levels = _over_full_range(values.astype(np.float64), values.min(), values.max())
    else:
        slope, intercept = (
            float(header.get(key, default))
            for key, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
        )
        shape = str(header.get("VOILUTFunction", "LINEAR")).strip()
        if not all(map(isfinite, (*window, slope, intercept))) or not _fits(window[1], shape):
            raise ImageError(
                f"{name}: the window of its grey values cannot be used",
                expected="a width above 0 (LINEAR: 1 or more), and finite numbers",
                action="Export the image as RGB",
            )
        rescaled = (values * slope + intercept).astype(np.float64)
        shares = windowed(rescaled, *window, shape=shape)
        levels = np.rint(shares * 255).astype(np.uint8)
    inverted = str(header.PhotometricInterpretation).strip() == "MONOCHROME1"
    return np.uint8(255) - levels if inverted else levels


def windowed(
    values: NDArray[np.float64], centre: float, width: float, *, shape: str = "LINEAR"
) -> NDArray[np.float64]:
    """Returns how bright each value is in a window, 0 to 1 (DICOM PS3.3, C.11.2.1.2).

    Args:
        values: Rescaled grey values.
        centre: Window centre.
        width: Window width; 1 or more for ``LINEAR``, above 0 otherwise.
        shape: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.

    Example:
        >>> windowed(np.array([0.0, 1.0, 2.0]), 1.5, 3.0)
        array([0. , 0.5, 1. ])
    """
    if shape == "SIGMOID":
        brightness = 1 / (1 + np.exp(-np.clip(4 * (values - centre) / width, -700, 700)))
        return np.asarray(brightness, dtype=np.float64)
    middle, extent = (centre, width) if shape == "LINEAR_EXACT" else (centre - 0.5, width - 1)
    if extent == 0:  # LINEAR and one value wide: a step
        return (values > middle).astype(np.float64)
    return np.clip((values - middle) / extent + 0.5, 0.0, 1.0)


def _window(header: Dataset) -> tuple[float, float] | None:
    """Returns centre and width of the first window, or None."""
    centre, width = (_first(header.get(key)) for key in ("WindowCenter", "WindowWidth"))
    return None if centre is None or width is None else (centre, width)


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value is None or value == "" else float(str(value))


def _fits(width: float, shape: str) -> bool:
    shapes = {"LINEAR": width >= 1, "LINEAR_EXACT": width > 0, "SIGMOID": width > 0}
    return shapes.get(shape, False)


def _palette(
    header: Dataset, values: NDArray[np.int64], *, little_endian: bool, name: str
) -> NDArray[np.uint8]:
    """Returns the colour of each pattern, (2^bits, 3), or (2^bits, 4) with transparency."""
    names = [*_PRIMARIES]
    if "AlphaPaletteColorLookupTableData" in header:
        names.append("Alpha")
    if any(f"{each}PaletteColorLookupTableData" not in header for each in names):
        raise _palette_error(name)
    entries, first, depth = (int(v) for v in header.RedPaletteColorLookupTableDescriptor)
    entries = entries or 2**16
    if values.min() >= 0:  # an unsigned image: the descriptor's first value is unsigned, too
        first %= 2**16
    tables = [
        _words(header[f"{each}PaletteColorLookupTableData"].value, little_endian=little_endian)
        for each in names
    ]
    if depth == 16 and all(words.max(initial=0) <= _BYTE for words in tables[:3]):
        tables[:3] = [words * np.uint16(257) for words in tables[:3]]  # 8 bits, called 16
    columns = []
    for words in tables:
        levels = _levels(words, entries, depth)
        if levels is None:
            raise _palette_error(name)
        columns.append(levels[np.clip(values - first, 0, entries - 1)])
    return np.stack(columns, axis=1)


def _words(data: object, *, little_endian: bool) -> NDArray[np.uint16]:
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(bytes(data), "<u2" if little_endian else ">u2").astype(np.uint16)
    return np.asarray(data, dtype=np.int64).astype(np.uint16)  # of type US: numbers already


def _levels(words: NDArray[np.uint16], entries: int, depth: int) -> NDArray[np.uint8] | None:
    """Returns one channel's entries in 8 bits; None if they are too few or of another depth."""
    if depth == 16 and len(words) >= entries:
        return ((words[:entries].astype(np.int64) + 128) // 257).astype(np.uint8)
    if depth == 8 and len(words) >= entries:  # one entry in each word
        return (words[:entries] & 0xFF).astype(np.uint8)
    if depth == 8 and 2 * len(words) >= entries:  # two in each, the lower byte first
        return np.frombuffer(words.astype("<u2").tobytes(), np.uint8)[:entries]
    return None


def _palette_error(name: str) -> ImageError:
    return ImageError(
        f"{name}: the colour palette is segmented, cut off or missing",
        expected="red, green and blue entries of 8 or 16 bits",
        action="Export the image as RGB",
    )
