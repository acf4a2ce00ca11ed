"""What a file is before Pillow decodes it, and masks at their own depth.

Kinds that are not read are named by their first bytes. Of JPEG, PNG, GIF and WebP the header is
read before their decoders take memory, which for WebP is before anybody can ask. What is no
photograph is read at the depth of its own file, with what is transparent kept apart: a mask of 0
and 255 in 16 bits would not survive being brought to 8.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from dermfuse.imaging.jpeg import read_frame
from dermfuse.imaging.limits import AS_PNG, PIXEL_BYTES, RefusalError, too_many

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
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"), (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"), (b"\xff\x0a", "a JPEG XL image"),
    (b"II\xbc\x01", "a JPEG XR image"), (b"8BPS", "a Photoshop document"),
    (b"FUJIFILMCCD-RAW", "a Fujifilm raw photograph"), (b"IIRO", "an Olympus raw photograph"),
    (b"IIU\0", "a Panasonic raw photograph"), (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"), (b"SIMPLE  =", "a FITS image"),
    (b"\0\0\x01\0", "an icon"), (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"), (b"Rar!", "a RAR archive"), (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"),
)  # fmt: skip
_ARCHIVE = "Unpack it and name the images in it"
_BYTE = 255
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by channels
_STRIP_ROWS = 64  # that are looked at at a time: no copy of the whole picture lies beside it
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # colour types
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_WHOLE = ((0, 0, 1, 1),)  # first pixel and step, across and down
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_PIECE = 2**20  # bytes that are inflated at a time
_FED = 2**16  # bytes that are inflated from at a time
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}  # unpack the lower byte instead
_WEBP_SIZES = {  # where they lie, bits of the width, from those to the height's, what is added
    b"VP8X": (4, 24, 24, 1), b"ANMF": (6, 24, 24, 1),
    b"VP8 ": (6, 14, 16, 0), b"VP8L": (1, 14, 14, 1),
}  # fmt: skip
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B  # of GIF
_CONTROL = b"!\xf9"

MAX_CHUNKS = 100_000
"""Of PNG and WebP: so many of 8 kB, as encoders write them, are 800 MB."""
MAX_BLOCKS = 1_000_000
"""Of GIF."""
DEEP_BYTES = 13
"""For each pixel of 16 bits of a PNG: the upper bytes, the lower ones, and what they make."""
TURNS = {
    2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3),
    8: (False, 1),
}  # fmt: skip
"""What undoes an orientation: mirrored or not, then quarter turns counter-clockwise."""
WEBP_BYTES = 18
"""What Pillow's decoder of WebP takes for each pixel: two canvases, a copy, and the image."""


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


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of its picture before a pixel is decoded.

    Attributes:
        width: The largest width that a part of the file claims, in pixels; 0 if none does.
        height: The largest height, in pixels.
        plain: The file as Pillow may see it; of a GIF its first picture alone.
        pixel_bytes: What decoding takes for each pixel.
        several: Whether another picture follows the first.
        unread: What keeps Pillow from reading it, in words; empty if nothing does.
    """

    width: int
    height: int
    plain: bytes
    pixel_bytes: float = PIXEL_BYTES
    several: bool = False
    unread: str = ""


def is_png(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be PNG."""
    return head.startswith(_SIGNATURE)


def is_jpeg(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be JPEG."""
    return head.startswith(b"\xff\xd8")


def read_claim(data: bytes) -> Claim | None:
    """Returns what a JPEG, PNG, GIF or WebP says of its picture; None for any other file.

    Raises:
        RefusalError: It has more parts than a picture needs.
        ValueError, IndexError, struct.error: Its header is cut off or damaged.
    """
    if is_jpeg(data):
        frame = read_frame(data)
        return Claim(frame.width, frame.height, data, frame.pixel_bytes, unread=frame.unread)
    if is_png(data):
        for _ in _chunks(data):  # counts them
            pass
        width, height, depth = struct.unpack_from(">IIB", data, 16)
        return Claim(width, height, data, DEEP_BYTES if depth == 16 else PIXEL_BYTES)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        chunks = [(kind, data[at : at + 12]) for kind, at, _ in _chunks(data)]
        width, height = np.max([(0, 0), *(_webp_size(*each) for each in chunks)], axis=0).tolist()
        frames = sum(kind == b"ANMF" for kind, _ in chunks)
        return Claim(width, height, data, WEBP_BYTES, several=frames > 1)
    return _read_gif(data) if data.startswith((b"GIF87a", b"GIF89a")) else None


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What a file holds, or some rows of it: not scaled and not laid on any ground.

    Args:
        values: Grey, (H, W, 1), RGB, (H, W, 3), or CMYK, (H, W, 4).
        top: The largest value that the file's type has room for.
        alpha: How opaque each pixel is, (H, W); None if every pixel is.
        alpha_top: The alpha of an opaque pixel.
        associated: Whether the values are multiplied by alpha already.
        indices: The entries of a palette that ``values`` were taken from, (H, W); else None.
        lossy: Whether the coding may have changed the values.
    """

    values: NDArray[np.uint16]
    top: int
    alpha: NDArray[np.uint16] | None = None
    alpha_top: int = _BYTE
    associated: bool = False
    indices: NDArray[np.uint16] | None = None
    lossy: bool = False

    @property
    def image(self) -> Image.Image:
        """The samples in 8 bits, rounded to the nearest: L, RGB or CMYK, or with A (or a) behind.

        The small a stands for associated alpha.
        """
        levels, mode = scaled(self.values, self.top), _MODES[self.values.shape[2]]
        if self.alpha is not None:
            levels = np.dstack([levels, scaled(self.alpha, self.alpha_top)])
            mode += "a" if self.associated else "A"
        return Image.frombytes(mode, levels.shape[1::-1], levels.tobytes())


def image_samples(image: Image.Image) -> Samples:
    """Returns the samples of a decoded image of any mode but a floating-point one.

    Example:
        >>> samples = image_samples(Image.new("1", (2, 1), 1))
        >>> samples.top, samples.values.tolist()
        (1, [[[1], [1]]])
    """
    if image.mode == "1" or image.mode.startswith("I"):
        return Samples(_wide(np.asarray(image)), top=1 if image.mode == "1" else 65_535)
    indices = np.asarray(image).astype(np.uint16) if image.mode == "P" else None
    if image.has_transparency_data:
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = np.asarray(straight.convert("RGBA")).astype(np.uint16)
        return Samples(rgba[..., :3], top=_BYTE, alpha=rgba[..., 3], indices=indices)
    shown = image if image.mode == "L" else image.convert("RGB")
    return Samples(_wide(np.asarray(shown)), top=_BYTE, indices=indices)


def joined(strips: Iterable[Samples], orientation: int = 1) -> Samples:
    """Returns the samples of a picture that is given in strips, the uppermost first, upright.

    Args:
        strips: The samples of some rows each.
        orientation: 1 to 8, as EXIF and TIFF count; others leave it as it is.

    Example:
        >>> strip = Samples(np.array([[[1], [2]]], np.uint16), 255)
        >>> joined([strip, strip], 6).values[..., 0].tolist()
        [[1, 1], [2, 2]]
    """
    all_strips = list(strips)
    mirrored, turns = TURNS.get(orientation, (False, 0))
    planes: dict[str, Any] = {}
    for key in ("values", "alpha", "indices"):
        if getattr(all_strips[0], key) is not None:
            whole = np.concatenate([getattr(strip, key) for strip in all_strips])
            planes[key] = np.rot90(whole[:, ::-1] if mirrored else whole, turns)
    return replace(all_strips[0], **planes)


def strips_image(strips: Iterable[Samples], size: tuple[int, int]) -> Image.Image:
    """Returns strips as one image in 8 bits: no copy of the whole lies beside it.

    Args:
        strips: The samples of some rows each, the uppermost first.
        size: ``(width, height)`` of the whole picture.
    """
    image, top = Image.new("L", (0, 0)), 0
    for strip in strips:
        rows = strip.image
        image = image if top else Image.new(rows.mode, size)
        image.paste(rows, (0, top))
        top += rows.height
    return image


def check_16_bits(values: NDArray[np.integer[Any]]) -> None:
    """Refuses grey values of a wider type that do not fit into 16 bits.

    Raises:
        RefusalError: The message says from where to where they go.
    """
    low, high = values.min(), values.max()
    if low < 0 or high > 65_535:
        raise RefusalError(f"grey values from {low} to {high}", "16 bits, 0 to 65,535", AS_PNG)


def strips_of(length: int) -> Iterator[slice]:
    """Yields the rows of a picture, a strip at a time.

    Example:
        >>> list(strips_of(100))
        [slice(0, 64, None), slice(64, 100, None)]
    """
    for top in range(0, length, _STRIP_ROWS):
        yield slice(top, min(top + _STRIP_ROWS, length))


def scaled(values: NDArray[np.uint16], top: int) -> NDArray[np.uint8]:
    """Returns values of 0 to ``top`` over 0 to 255, rounded to the nearest."""
    if top == _BYTE:
        return values.astype(np.uint8)
    return (
        (values.astype(np.uint32) * np.uint32(510) + np.uint32(top)) // np.uint32(2 * top)
    ).astype(np.uint8)


def find_png_damage(data: bytes) -> str:
    """Returns what a PNG lacks that Pillow does not miss, in words; nothing if it is whole.

    Pillow leaves rows black that the coded data does not hold.

    Args:
        data: A file that Pillow opens.
    """
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    chunks = list(_chunks(data))
    if colour == _PALETTE and not any(kind == b"PLTE" for kind, _, _ in chunks):
        return "its palette is missing"
    row_bits = _CHANNELS.get(colour, 0) * depth
    expected = 0
    for left, top, right, down in _ADAM7 if data[28] else _WHOLE:
        across, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + -(-across * row_bits // 8)) if across > 0 and rows > 0 else 0
    coded = b"".join(data[at : at + length] for kind, at, length in chunks if kind == b"IDAT")
    short = _inflated_bytes(coded, expected) < expected
    return "its coded data ends before the picture does" if short else ""


def png_strips(image: Image.Image, data: bytes) -> Iterator[Samples] | None:
    """Returns the samples of a PNG that Pillow does not read right, in its own depth.

    Pillow keeps the upper byte of 16-bit colours alone, and compares a transparent colour with
    pixels of another depth.

    Args:
        image: What Pillow decoded, of any mode.
        data: The file.

    Returns:
        None where the image says it all.
    """
    depth, colour = struct.unpack_from("BB", data, 24)
    keyed = colour in (_GREY, _RGB) and "transparency" in image.info
    deep = depth == 16 and image.mode in ("RGB", "RGBA", "LA")
    return _png_strips(image, data) if keyed or deep else None


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


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name of each chunk of a PNG or a WebP, where its content begins, and its length.

    Raises:
        RefusalError: There are more than ``MAX_CHUNKS``.
    """
    png = is_png(data)
    at = len(_SIGNATURE) if png else 12
    for count in range(MAX_CHUNKS + 1):
        if at + 8 > len(data):
            return
        if count == MAX_CHUNKS:
            raise too_many("chunks", MAX_CHUNKS)
        kind, length = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4])
        if not png:
            kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield kind, at + 8, length
        at += 12 + length if png else 8 + length + length % 2


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Returns the size that a chunk claims; nothing for one that claims none or is cut off."""
    if kind not in _WEBP_SIZES:
        return 0, 0
    at, bits, apart, added = _WEBP_SIZES[kind]
    both, most = int.from_bytes(head.ljust(12, b"\0")[at:], "little"), 2**bits - 1
    return (both & most) + added, (both >> apart & most) + added


def _read_gif(data: bytes) -> Claim:
    """Returns what a GIF says of its first picture, and the file with that picture alone.

    Pillow joins the blocks of comments one by one, which takes minutes for a file of nothing else.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table_bytes(flags)
    head, control, picture, left_blocks = data[:at], b"", b"", MAX_BLOCKS
    while at < len(data) and data[at] != _TRAILER and not (picture and data[at] == _IMAGE):
        start, kind = at, data[at]
        at += 2 if kind == _EXTENSION else 1  # any other byte means nothing
        if kind == _IMAGE:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at)
            width, height = max(width, left + across), max(height, top + down)
            at += 10 + _table_bytes(flags)  # with the smallest code's size
        if kind in (_IMAGE, _EXTENSION):
            while at < len(data) and data[at] and left_blocks > 0:
                at += data[at] + 1
                left_blocks -= 1
            at += 1
        left_blocks -= 1
        if left_blocks < 0:
            raise too_many("blocks", MAX_BLOCKS)
        if kind == _IMAGE:
            picture = data[start:at]
        elif data[start : start + 2] == _CONTROL and not picture:
            control = data[start:at]
    several = bool(picture) and data[at : at + 1] == bytes([_IMAGE])
    plain = b"".join([head, control, picture, bytes([_TRAILER])])
    return Claim(width, height, plain, several=several)


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _wide(values: NDArray[np.generic]) -> NDArray[np.uint16]:
    grid: NDArray[np.uint16] = values.astype(np.uint16)
    return grid if grid.ndim == 3 else grid[..., None]


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


def _png_strips(image: Image.Image, data: bytes) -> Iterator[Samples]:
    """Yields the samples of a PNG of 16 bits, or of grey or RGB without an alpha channel."""
    depth, colour = struct.unpack_from("BB", data, 24)
    top = 65_535 if depth == 16 else 1 if depth == 1 else _BYTE  # Pillow spreads 2 and 4 bits
    lower = _lower(data) if depth == 16 and colour != _GREY else None
    key = image.info.get("transparency") if colour in (_GREY, _RGB) else None
    for rows in strips_of(image.height):
        box, alpha = (0, rows.start, image.width, rows.stop), None
        values = _wide(np.asarray(image.crop(box)))
        if lower is not None:  # of 16 bits
            low = np.asarray(lower.crop(box)).astype(np.uint16)
            if colour == _GREY_ALPHA:
                values, low = low[..., 0::2], low[..., 1::2]
            values = values * np.uint16(256) + low
        if colour in (_GREY_ALPHA, _RGB_ALPHA):
            values, alpha = values[..., :-1], values[..., -1]
        elif key is not None:
            kept = np.atleast_1d(np.asarray(key)) & (2**depth - 1)  # bits above do not count
            has = (values == kept * {2: 85, 4: 17}.get(depth, 1)).all(axis=2)
            alpha = np.where(has, np.uint16(0), np.uint16(top))
        yield Samples(values, top=top, alpha=alpha, alpha_top=top)


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
