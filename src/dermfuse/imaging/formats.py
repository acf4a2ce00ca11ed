"""What a file is that is not read, and what to do about it: told by its first bytes.

Pixels at the depth of their own file, with what is transparent kept apart.

Photographs are brought to 8 bits; a mask of 0 and 255 in 16 bits would not survive that.

PNG with a transparent colour (tRNS), and colours of 16 bits.

Pillow keeps the upper byte of 16-bit colours alone, and compares a transparent colour with pixels
of another depth. Here it is compared in the file's own depth; what has it becomes white.

A GIF without what does not belong to its picture.

Pillow joins the blocks of comments one by one, which takes minutes for a file of nothing else.

What a WebP says of its size: its decoder takes memory for it before anybody can ask.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from dermfuse.imaging.limits import PIXEL_BYTES, too_many

_SAVE = "Save the image as JPEG or PNG"
_BRANDS = {
    b"avif": "an AVIF image", b"avis": "an AVIF image sequence",
    b"heic": "a HEIC image", b"heix": "a HEIC image", b"heim": "a HEIC image",
    b"heis": "a HEIC image", b"hevc": "a HEIC image sequence", b"hevx": "a HEIC image sequence",
    b"mif1": "a HEIF image", b"msf1": "a HEIF image sequence",
    b"crx ": "a Canon raw photograph (CR3)",
    b"jp2 ": "a JPEG 2000 image", b"jpx ": "a JPEG 2000 image", b"jph ": "a JPEG 2000 image",
    b"jxl ": "a JPEG XL image",
}  # fmt: skip
_PHONE = (
    "Save the image as JPEG or PNG (an iPhone sends JPEG with Settings, Camera, Formats, "
    "Most Compatible)"
)
_MAGIC = (
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"8BPS", "a Photoshop document"),
    (b"FUJIFILMCCD-RAW", "a Fujifilm raw photograph"),
    (b"IIRO", "an Olympus raw photograph"),
    (b"IIU\0", "a Panasonic raw photograph"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\0\0\x01\0", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
)
_ARCHIVE = "Unpack it and name the images in it"


def name_kind(head: bytes) -> tuple[str, str]:
    r"""Returns what a file that begins with these bytes is and what to do, or two empty texts.

    Args:
        head: 64 bytes or more, fewer if the file is shorter.

    Example:
        >>> name_kind(b"\0\0\0\x18ftypavif")[0]
        'an AVIF image'
        >>> name_kind(b"text")
        ('', '')
    """
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found, _ARCHIVE if found.endswith("archive") else _SAVE
    if re.match(rb"P[1-7]\s", head):
        return "a Netpbm image", _SAVE
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "a text document (XML, SVG or HTML)", _SAVE
    return "", ""


def _by_brands(head: bytes) -> tuple[str, str]:
    """Names a file of boxes by its major brand, else by the first compatible one that is known."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    brands.sort(key=lambda brand: brand in (b"mif1", b"msf1"))  # last: these say "picture" alone
    for brand in brands:
        if brand in _BRANDS:
            found = _BRANDS[brand]
            return found, _PHONE if "HEI" in found else _SAVE
    return "a film or a sound (MPEG-4 or QuickTime)", "Export one frame of it as PNG"


_BYTE = 255
_STRIP_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What a file holds, not scaled and not laid on any ground.

    Args:
        values: Grey, (H, W, 1), or RGB, (H, W, 3).
        top: The largest value that the file's type has room for.
        alpha: How opaque each pixel is, (H, W); None if every pixel is.
        alpha_top: The alpha of an opaque pixel.
        indices: The entries of a palette that ``values`` were taken from, (H, W); else None.
        lossy: Whether the coding may have changed the values.
    """

    values: NDArray[np.uint16]
    top: int
    alpha: NDArray[np.uint16] | None = None
    alpha_top: int = _BYTE
    indices: NDArray[np.uint16] | None = None
    lossy: bool = False


def image_samples(image: Image.Image) -> Samples:
    """Returns the samples of a decoded image of any mode but a floating-point one.

    Example:
        >>> samples = image_samples(Image.new("1", (2, 1), 1))
        >>> samples.top, samples.values.tolist()
        (1, [[[1], [1]]])
    """
    if image.mode == "1":
        return Samples(_wide(np.asarray(image)), top=1)
    if image.mode.startswith("I"):
        return Samples(_wide(np.asarray(image)), top=65_535)
    indices = np.asarray(image) if image.mode == "P" else None
    if image.has_transparency_data:
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = np.asarray(straight.convert("RGBA"))
        values, alpha = rgba[..., :3], rgba[..., 3].astype(np.uint16)
    else:
        shown = image if image.mode == "L" else image.convert("RGB")
        values, alpha = np.asarray(shown), None
    return Samples(
        _wide(values), top=_BYTE, alpha=alpha,
        indices=None if indices is None else indices.astype(np.uint16),
    )  # fmt: skip


def picture(levels: NDArray[np.uint8], mode: str) -> Image.Image:
    """Returns pixels as a Pillow image, made in strips: no copy of the whole lies beside it.

    Args:
        levels: (H, W) or (H, W, C); need not be contiguous.
        mode: Of the image: as many channels as there are.
    """
    height, width = levels.shape[:2]
    image = Image.new(mode, (width, height))
    for top in range(0, height, _STRIP_ROWS):
        rows = levels[top : top + _STRIP_ROWS]
        image.paste(Image.frombytes(mode, (width, len(rows)), rows.tobytes()), (0, top))
    return image


def turn_samples(samples: Samples, orientation: int) -> Samples:
    """Returns the samples upright.

    Args:
        samples: As stored.
        orientation: How they lie, 1 to 8, as EXIF and TIFF count.
    """
    return replace(
        samples,
        values=turn(samples.values, orientation),
        alpha=None if samples.alpha is None else turn(samples.alpha, orientation),
        indices=None if samples.indices is None else turn(samples.indices, orientation),
    )


def turn(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Returns (H, W, ...) upright; orientations other than 2 to 8 leave it as it is.

    Example:
        >>> turn(np.array([[1, 2]], np.uint16), 6).tolist()
        [[1], [2]]
    """
    mirrored = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # counter-clockwise
    return np.rot90(mirrored, turns)


def _wide(values: NDArray[np.generic]) -> NDArray[np.uint16]:
    grid: NDArray[np.uint16] = values.astype(np.uint16)
    return grid if grid.ndim == 3 else grid[..., None]


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # colour types
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_WHOLE = ((0, 0, 1, 1),)  # first pixel and step, across and down
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
MAX_CHUNKS = 100_000
"""So many of 8 kB, as encoders write them, are 800 MB."""
_PIECE = 2**20  # bytes that are inflated at a time
_FED = 2**16  # bytes that are inflated from at a time
_DEEP_BYTES = 13  # for each pixel of 16 bits: the upper bytes, the lower ones, and what they make
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # unpack the lower byte instead


def is_png(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be PNG."""
    return head.startswith(_SIGNATURE)


def png_size(data: bytes, name: str) -> tuple[int, int, float]:
    """Returns width, height and what decoding takes for each pixel, in bytes.

    Raises:
        ImageError: The file has more than ``MAX_CHUNKS`` chunks.
        struct.error: It is cut off.
    """
    for count, _ in enumerate(_places(data)):
        if count == MAX_CHUNKS:
            raise too_many(name, "chunks", MAX_CHUNKS)
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    return width, height, _DEEP_BYTES if depth == 16 else PIXEL_BYTES


def find_png_damage(data: bytes) -> str:
    """Returns what a PNG lacks that Pillow does not miss, in words; nothing if it is whole.

    Pillow leaves rows black that the coded data does not hold.

    Args:
        data: A file that Pillow opens.
    """
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    chunks = list(_chunks(data))
    if colour == _PALETTE and not any(name == b"PLTE" for name, _ in chunks):
        return "its palette is missing"
    row_bits = _CHANNELS.get(colour, 0) * depth
    expected = 0
    for left, top, right, down in _ADAM7 if data[28] else _WHOLE:
        across, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + -(-across * row_bits // 8)) if across > 0 and rows > 0 else 0
    coded = b"".join(body for name, body in chunks if name == b"IDAT")
    short = _inflated_bytes(coded, expected) < expected
    return "its coded data ends before the picture does" if short else ""


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, start, length in _places(data):
        yield name, data[start : start + length]


def _places(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields each chunk's name, where its content begins, and how long that is."""
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at + 8, length
        at += length + 12


def _inflated_bytes(coded: bytes, enough: int) -> int:
    """Returns how many bytes a zlib stream holds, counted up to ``enough``."""
    inflater, count = zlib.decompressobj(), 0
    try:
        for start in range(0, len(coded), _FED):
            fed = coded[start : start + _FED]
            while fed and count < enough:
                count += len(inflater.decompress(fed, _PIECE))
                fed = inflater.unconsumed_tail
        if count < enough:
            count += len(inflater.flush())
    except zlib.error:
        return enough  # Pillow meets it too, and finds the words
    return count


def opaque_png(image: Image.Image, data: bytes) -> Image.Image:
    """Returns a decoded PNG with its transparent colour laid on white, 16-bit colours rounded.

    Args:
        image: What Pillow decoded, of any mode.
        data: The file.

    Returns:
        The image itself where there is nothing to do; transparency by an alpha channel or in a
        palette stays.
    """
    depth, colour = struct.unpack_from("BB", data, 24)
    key = image.info.get("transparency") if colour in (_GREY, _RGB) else None
    deep = depth == 16 and image.mode in ("RGB", "RGBA", "LA")
    if not deep and key is None:
        return image
    lower = _lower(data) if deep else None
    mode = "LA" if colour == _GREY_ALPHA else "L" if len(image.getbands()) == 1 else image.mode
    opaque = Image.new(mode, image.size)
    for top in range(0, image.height, _STRIP_ROWS):
        rows = (0, top, image.width, min(top + _STRIP_ROWS, image.height))
        values = _values(image.crop(rows), lower and lower.crop(rows), colour)
        levels = _levels(values, depth)
        if key is not None:
            levels[_has(values, key, depth)] = 255
        opaque.paste(picture(levels, mode), (0, top))
    return opaque


def has_own_samples(data: bytes) -> bool:
    """Returns whether ``opaque_png`` changes a PNG: it has 16 bits or a transparent colour."""
    return data[24:25] == b"\x10" or b"tRNS" in data[: data.find(b"IDAT")]


def png_samples(data: bytes) -> tuple[Samples, Image.Image]:
    """Returns what a whole PNG holds in its own depth, as stored, and Pillow's image of it."""
    depth, colour = struct.unpack_from("BB", data, 24)
    image = PngImageFile(io.BytesIO(data))
    image.load()
    if depth < 16 and colour not in (_GREY, _RGB):
        return image_samples(image), image
    lower = _lower(data) if depth == 16 and colour != _GREY else None
    values = _values(image, lower, colour)
    top, alpha = (65_535 if depth == 16 else 1 if depth == 1 else 255), None
    if colour in (_GREY_ALPHA, _RGB_ALPHA):
        values, alpha = values[..., :-1], values[..., -1].astype(np.uint16)
    elif (key := image.info.get("transparency")) is not None:
        alpha = np.where(_has(values, key, depth), np.uint16(0), np.uint16(top))
    grid = values if values.ndim == 3 else values[..., None]
    return Samples(grid.astype(np.uint16), top=top, alpha=alpha, alpha_top=top), image


def _lower(data: bytes) -> Image.Image:
    """Returns the lower bytes of 16-bit colours, or both bytes of grey and alpha as RGBA."""
    image = PngImageFile(io.BytesIO(data))
    if data[25] == _GREY_ALPHA:
        image._mode = "RGBA"
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    else:
        image.tile = [tile._replace(args=_OTHER_BYTES[str(tile.args)]) for tile in image.tile]
    image.load()
    return image


def _values(image: Image.Image, lower: Image.Image | None, colour: int) -> NDArray[np.generic]:
    """Returns the values of some rows: of 16 bits where there are lower bytes."""
    if lower is None:
        return np.asarray(image)
    low = np.asarray(lower).astype(np.uint16)
    if colour == _GREY_ALPHA:
        high, low = low[..., 0::2], low[..., 1::2]  # (h, W, 2)
    else:
        high = np.asarray(image).astype(np.uint16)
    values: NDArray[np.uint16] = high * np.uint16(256) + low
    return values


def _levels(values: NDArray[np.generic], depth: int) -> NDArray[np.uint8]:
    """Returns Pillow's values as levels: they are already, but for one bit and for 16."""
    if depth == 16:
        return ((values.astype(np.uint32) + np.uint32(128)) // np.uint32(257)).astype(np.uint8)
    return np.where(values, np.uint8(255), np.uint8(0)) if depth == 1 else values.astype(np.uint8)


def _has(values: NDArray[np.generic], key: int | tuple[int, ...], depth: int) -> NDArray[np.bool_]:
    """Returns where pixels have the transparent colour; bits above the depth do not count."""
    kept = np.atleast_1d(np.asarray(key)) & (2**depth - 1)
    if depth == 1:
        same = values.astype(bool) == kept.astype(bool)
    else:
        same = values == kept * {2: 85, 4: 17}.get(depth, 1)  # as Pillow spreads few bits
    whole: NDArray[np.bool_] = same if values.ndim == 2 else same.all(axis=2)
    return whole


MAX_BLOCKS = 1_000_000
_HEADER_BYTES = 13
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_CONTROL = b"!\xf9"


@dataclass(frozen=True, slots=True)
class Gif:
    """The first picture of a GIF.

    Attributes:
        width: Of the frame or, if that is larger, of the picture in it.
        height: The same.
        data: The file with its first picture alone.
        is_animated: Whether another follows.
    """

    width: int
    height: int
    data: bytes
    is_animated: bool


def is_gif(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be GIF."""
    return head.startswith((b"GIF87a", b"GIF89a"))


def read_gif(data: bytes, name: str) -> Gif:
    """Returns the first picture of a GIF.

    Raises:
        ImageError: It has more than ``MAX_BLOCKS`` blocks.
        IndexError, struct.error: It is cut off before its picture.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = _HEADER_BYTES + _table_bytes(flags)
    kept, picture, left_blocks = [data[:at]], b"", MAX_BLOCKS
    while at < len(data) and data[at] != _TRAILER and not (picture and data[at] == _IMAGE):
        start = at
        if data[at] == _IMAGE:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + across), max(height, top + down)
            at += 11 + _table_bytes(flags)  # with the smallest code's size
        elif data[at] == _EXTENSION:
            at += 2
        else:  # a byte that means nothing
            at += 1
        if data[start] in (_IMAGE, _EXTENSION):
            while at < len(data) and data[at] and left_blocks > 0:
                at += data[at] + 1
                left_blocks -= 1
            at += 1
        left_blocks -= 1
        if left_blocks < 0:
            raise too_many(name, "blocks", MAX_BLOCKS)
        if data[start] == _IMAGE:
            picture = data[start:at]
        elif data[start : start + 2] == _CONTROL and not picture:
            kept[1:] = [data[start:at]]
    animated = bool(picture) and data[at : at + 1] == bytes([_IMAGE])
    return Gif(width, height, b"".join([*kept, picture, bytes([_TRAILER])]), animated)


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


WEBP_PIXEL_BYTES = 18
"""What Pillow's decoder takes for each pixel: two canvases, a copy, and the image."""
_FIRST = 12
_SIDE_BITS = 14


@dataclass(frozen=True, slots=True)
class WebP:
    """What the chunks of a WebP say.

    Attributes:
        width: The largest that one of them claims.
        height: The same.
        frames: How many frames its animation has; 0 if there is none.
    """

    width: int
    height: int
    frames: int


def is_webp(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read_webp(data: bytes, name: str) -> WebP:
    """Returns the size that a WebP claims.

    Raises:
        ImageError: It has more than ``MAX_CHUNKS`` chunks.
    """
    width = height = frames = 0
    for count, (kind, start) in enumerate(_webp_chunks(data)):
        if count == MAX_CHUNKS:
            raise too_many(name, "chunks", MAX_CHUNKS)
        frames += kind == b"ANMF"
        own_width, own_height = _size(kind, data[start : start + 12])
        width, height = max(width, own_width), max(height, own_height)
    return WebP(width, height, frames)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = _FIRST
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8
        at += 8 + length + length % 2


def _size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Returns the size that a chunk claims; nothing for one that claims none or is cut off."""
    padded = head.ljust(12, b"\0")
    if kind in (b"VP8X", b"ANMF"):
        at = 4 if kind == b"VP8X" else 6
        fields = (padded[at : at + 3], padded[at + 3 : at + 6])
        width, height = (int.from_bytes(each, "little") + 1 for each in fields)
        return width, height
    mask = (1 << _SIDE_BITS) - 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", padded, 6)
        return width & mask, height & mask
    if kind == b"VP8L":
        bits = int.from_bytes(padded[1:5], "little")
        return (bits & mask) + 1, (bits >> _SIDE_BITS & mask) + 1
    return 0, 0
