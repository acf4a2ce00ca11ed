"""Whatever holds one image, to the pixels that ``dermfuse.imaging.preprocess`` defines.

A file is recognised by its content, never by its name: a camera's JPEG that is called ``.dcm`` is a
JPEG, and a DICOM file without a suffix is a DICOM file.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import DependencyError, ImageError, installing
from dermfuse.imaging.formats import scaled, strips_of
from dermfuse.imaging.limits import MAX_PIXELS, check_size
from dermfuse.imaging.preprocess import (
    image_pixels,
    one_refusal,
    read_file,
    read_image,
    to_rgb,
    too_long,
)

MAX_BYTES = 700_000_000
"""Larger files are refused: a hundred million pixels of 16-bit RGB have fewer."""

MAX_ASPECT = 20
"""Images longer than so many times their shorter side are refused: too thin to judge a lesion in.

What is measured at a longer side of 64 px has 3 rows then; in thinner ones it is undefined."""

Source = bytes | str | os.PathLike[str] | Image.Image | NDArray[np.generic] | BinaryIO
"""What one image may come in."""

_EXPECTED = "the path, the bytes or the pixels of one image"
_PREAMBLE = 128
SNIFFED = _PREAMBLE + 4
"""How many bytes of a file tell whether it is DICOM."""
_META_GROUP = b"\x02\x00"
_META_TYPES = (b"UL", b"OB", b"UI")


class Read(Protocol):
    """Returns the pixels of a source; ``read_any`` is one."""

    def __call__(self, source: Source, *, name: str = "") -> NDArray[np.uint8]:
        """Returns them; the name is for messages."""


def read_any(source: Source, *, name: str = "", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Returns one image as upright, opaque 8-bit RGB.

    Image files are read by the rules of ``preprocess.read_image``, DICOM files by those of
    ``dermfuse.imaging.dicom``. Pixels in an array are RGB, RGBA (laid on white) or grey: 8-bit as
    they are, 16-bit over the range 0 to 65,535, floating-point over the range 0 to 1.

    Args:
        source: A path, the bytes of a file, a file open for reading, a Pillow image of any mode,
            or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        name: The name of the image in messages; by default the path or the open file's name.
        max_pixels: Images with more are refused before any is decoded; those whose decoder takes
            much memory for each (``dermfuse.imaging.limits``) may have fewer.

    Returns:
        The pixels, (H, W, 3); never the caller's own memory.

    Raises:
        ImageError: The source cannot be read, is no image that can be used, or is more than
            ``MAX_ASPECT`` times as long as wide.
        DependencyError: It is a DICOM file and pydicom is not installed.

    Example:
        >>> read_any(np.full((20, 30), 0.5))[0, 0]
        array([128, 128, 128], dtype=uint8)
    """
    pixels = _read(source, name, max_pixels)
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ImageError(
            f"{name or source_name(source)}: {width} x {height} pixels, too thin to be judged",
            expected=f"a longer side of at most {MAX_ASPECT} times the shorter",
            action="Use the original image",
        )
    return pixels


def source_name(source: Source) -> str:
    """Returns what messages call an image without a name of its own."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    own_name = getattr(source, "name", None)
    return own_name if isinstance(own_name, str) and own_name else "the image"


def is_dicom(head: bytes) -> bool:
    r"""Returns whether a file that begins with these 132 bytes is meant to be DICOM.

    A file without the preamble is one if it begins with file meta information; which of its
    elements comes first, and of which type, follows from the bytes.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\x89PNG")
        (True, False)
    """
    if head[_PREAMBLE:SNIFFED] == b"DICM":
        return True
    return head[:2] == _META_GROUP and head[4:6] in _META_TYPES


def read_stream(stream: BinaryIO, name: str) -> bytes:
    """Returns what is left in a file that is open for reading.

    Args:
        stream: The file.
        name: The name of the image in messages.

    Raises:
        ImageError: It cannot be read, or is larger than ``MAX_BYTES``.
    """
    try:
        data = stream.read(MAX_BYTES + 1)
        found = "" if isinstance(data, bytes) else f"yields {type(data).__name__}"
    except Exception as error:  # closed, text that is no UTF-8, an archive that is cut off
        found = f"cannot be read ({error})"
    if found:
        expected, action = "a file open for reading bytes", "Open it with mode 'rb'"
        raise ImageError(f"{name} {found}", expected=expected, action=action)
    if len(data) > MAX_BYTES:
        raise too_long(name, MAX_BYTES)
    return data


def _read(source: Source, name: str, max_pixels: int) -> NDArray[np.uint8]:
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "the array", max_pixels)
    name = name or source_name(source)
    if isinstance(source, Image.Image):
        return image_pixels(source, name=name, max_pixels=max_pixels)
    if isinstance(source, str | os.PathLike):
        data = read_file(Path(source), name, max_bytes=MAX_BYTES)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif hasattr(source, "read"):
        data = read_stream(source, name)
    else:
        raise ImageError(f"{name} is given as {type(source).__name__}", expected=_EXPECTED)
    if is_dicom(data[:SNIFFED]):
        return _from_dicom(data, name, max_pixels)
    return read_image(data, name=name, max_pixels=max_pixels)


def _from_dicom(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    if find_spec("pydicom") is None:
        raise DependencyError(
            f"{name} is a DICOM file, and pydicom is not installed here",
            action=installing("dicom"),
        )
    from dermfuse.imaging.dicom import read_dicom  # noqa: PLC0415 — needs the extra

    with one_refusal(name):
        return _from_array(read_dicom(data, max_pixels=max_pixels), name, max_pixels)


def _from_array(pixels: NDArray[np.generic], name: str, max_pixels: int) -> NDArray[np.uint8]:
    _check_shape(pixels, name, max_pixels)
    levels = _to_8_bit(pixels, name)
    if levels.ndim == 2:
        levels = levels[:, :, None]
    rgb = np.empty((*levels.shape[:2], 3), np.uint8)
    if levels.shape[2] < 4:
        rgb[:] = levels  # a grey channel stands for all three
        return rgb
    for rows in strips_of(len(levels)):  # no copy of the whole lies beside it
        rgb[rows] = np.asarray(to_rgb(Image.fromarray(levels[rows])))
    return rgb


def _check_shape(pixels: NDArray[np.generic], name: str, max_pixels: int) -> None:
    shape = " x ".join(str(length) for length in pixels.shape) or "no axis"
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        first = pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4)
        raise ImageError(
            f"{name} has the shape {shape}",
            expected="(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            action="Move the channels to the end" if first else "Give one image at a time",
        )
    with one_refusal(name):
        check_size(pixels.shape[1], pixels.shape[0], max_pixels=max_pixels)


def _to_8_bit(pixels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return scaled(pixels.astype(np.uint16), 65_535)
    if pixels.dtype.kind == "f":
        values = pixels.astype(np.float32)
        if bool(((values >= 0) & (values <= 1)).all()):  # false for NaN
            return np.asarray(values * np.float32(255) + np.float32(0.5), dtype=np.uint8)
        found = "floating-point values outside 0 to 1"
    else:
        found = f"values of type {pixels.dtype}"
    raise ImageError(
        f"{name} has {found}",
        expected="uint8, uint16, or floating point from 0 to 1",
        action="Convert it to uint8",
    )
