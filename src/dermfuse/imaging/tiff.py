"""TIFF by its own depth, planes, palette and photometric interpretation.

Pillow takes the file apart (strips, tiles, LZW, Deflate, PackBits) and hands over bytes; what the
bytes mean is decided here, by one rule for every depth of 1 to 16 bits:

    grey        0 to 2^bits - 1 over 0 to 255; inverted if white is zero
    RGB, CMYK   the same, interleaved or in planes
    palette     ColorMap over 0 to 65,535, or, if no entry exceeds 255, over 0 to 255
    extra       the first that is alpha counts, the others do not

Fax, JPEG and other codings, YCbCr and L*a*b* are left to Pillow.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from dermfuse.imaging.formats import Samples, check_16_bits
from dermfuse.imaging.limits import AS_PNG, RefusalError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_INTEGERS = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}  # TIFF's types to struct's
_CODINGS = {1: "uncompressed", 5: "LZW", 8: "Deflate", 32773: "PackBits", 32946: "Deflate"}
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}  # by photometric interpretation
_PLACES = ((273, 279), (324, 325))  # of strips, of tiles: offsets and lengths
_SCAN = b"\xff\xda"
_UNCOMPRESSED, _DEFLATE, _JPEG, _WEBP = 1, (8, 32946), 7, 50001
_WHITE_IS_ZERO, _PALETTE, CMYK, _YCBCR = 0, 3, 5, 6
_ASSOCIATED, _STRAIGHT = 1, 2  # of ExtraSamples
_SIGNED, _FLOAT = 2, 3  # of SampleFormat
_PREDICTED = (8, 16, 32)  # depths that differences are defined for
_BYTE = 255
_PIECE = 2**20  # samples that are interpreted at a time
_MAX_SAMPLES = 16
_READ = frozenset((
    256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338,
    339, 347, 530,
))  # fmt: skip
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}

MAX_TAGS = 4_096
MAX_VALUES = 400_000
"""Of the tags that are read, together: two for each strip or tile, and a colour map of 16 bits."""
_SHARED, _SHARED_BYTES = 4, 2**20  # blank tiles may share their bytes: this often, or so many
_MOST_OWN_TABLES = 200  # JPEG strips or tiles whose tables are their own


@dataclass(frozen=True, slots=True)
class Page:
    """The first page of a TIFF file, as its directory describes it.

    Attributes:
        width: Width in pixels, as stored.
        height: Height in pixels, as stored.
        order: Byte order, ``<`` or ``>``.
        tags: Integer values by tag.
        more_pages: Whether other pages follow.
        bits: Bits per sample of the first channel.
        coding: How strips or tiles are compressed.
        photometric: What the channels mean; grey or RGB where nothing is said.
        orientation: How the stored image lies, 1 to 8.
        samples: Channels, extra ones included.
        planes: 1 for interleaved channels, else their number.
        predictor: 2 where differences of samples are stored.
        kind: What a sample of the first channel is, as SampleFormat counts.
        fill_order: 1 where the highest bit of a byte comes first.
    """

    width: int
    height: int
    order: str
    tags: dict[int, tuple[int, ...]]
    more_pages: bool
    bits: int
    coding: int
    photometric: int
    orientation: int
    samples: int
    planes: int
    predictor: int
    kind: int
    fill_order: int

    @property
    def is_tiled(self) -> bool:
        """Whether the pixels lie in tiles, not in strips."""
        return 324 in self.tags

    @property
    def part_size(self) -> tuple[int, int]:
        """Width and height of a tile or strip, in pixels."""
        if self.is_tiled:
            return self.tags[322][0], self.tags[323][0]
        return self.width, min(self.tags.get(278, (self.height,))[0], self.height)

    @property
    def pixel_bytes(self) -> float:
        """What decoding takes for each pixel: the stored samples, in a strip and out of it."""
        across, down = self.part_size if self.is_tiled else (self.width, self.height)
        tiles = -(-self.width // max(across, 1)) * -(-self.height // max(down, 1))
        padding = tiles * across * down / max(self.width * self.height, 1)
        return 2 * padding * self.samples * max(self.bits, 1) / 8

    @property
    def is_ours(self) -> bool:
        """Whether ``read_strips`` decodes it; if not, Pillow does."""
        return self.coding in _CODINGS and self.photometric in _CHANNELS


def is_tiff(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be TIFF."""
    return head[:4] in _MAGIC


def read_page(data: bytes) -> Page:
    """Returns what the first directory of a TIFF file says, BigTIFF included.

    Raises:
        ValueError: It has more tags or values than a picture needs, or more than the file.
        struct.error, KeyError: The directory is cut off or damaged.
    """
    order = "<" if data[:1] == b"I" else ">"
    tags, more_pages = _read_directory(data, order)

    def first(tag: int, default: int = 1) -> int:
        return tags.get(tag, (default,))[0]

    samples = first(277)
    return Page(
        tags[256][0], tags[257][0], order, tags, more_pages=more_pages,
        bits=first(258), coding=first(259), photometric=first(262, 2 if samples >= 3 else 1),
        orientation=first(274), samples=samples, planes=samples if first(284) == 2 else 1,
        predictor=first(317), kind=first(339), fill_order=first(266),
    )  # fmt: skip


def check_page(page: Page) -> None:
    """Refuses layouts that neither this module nor Pillow reads rightly.

    Raises:
        RefusalError: The message says what the layout is.
    """
    formats, depths = set(page.tags.get(339, (1,))), set(page.tags.get(258, (1,)))
    found = ""
    if _FLOAT in formats:
        found = f"floating-point pixels of {page.bits} bits"
    elif not formats <= {1, _SIGNED, 4} or len(formats) > 1:
        found = "samples that are neither integers nor floating-point numbers"
    elif len(depths) > 1:
        found = "channels of different depths"
    elif page.photometric == _YCBCR and page.coding == 1 and page.tags.get(530) != (1, 1):
        found = "uncompressed YCbCr pixels that share their colours"
    elif page.is_ours:
        found = _unreadable(page)
    if found:
        raise RefusalError(f"a TIFF image with {found}", "8 or 16 bits per channel", AS_PNG)


def check_coding(data: bytes, page: Page) -> None:
    """Refuses what libtiff would speak of on the terminal itself.

    Raises:
        RefusalError: The coding is WebP, or compressed strips or tiles lie outside the file.
    """
    if page.coding == _WEBP:
        usual = "a common compression, such as LZW or JPEG"
        raise RefusalError(f"{layout_of(page)}, which is WebP", usual, AS_PNG)
    if page.coding == _UNCOMPRESSED:
        return  # Pillow reads it by itself, whatever the counts
    if sum(length for _, length in _parts(page)) > _SHARED * len(data) + _SHARED_BYTES:
        raise ValueError("strips or tiles of more bytes than the file has")
    if any(start + length > len(data) for start, length in _parts(page)):
        found = "the image is cut off or damaged (its pixels lie outside the file)"
        raise RefusalError(found, "a whole TIFF image")


def embedded_jpegs(data: bytes, page: Page) -> Iterator[bytes]:
    """Yields the JPEG streams of a page that is coded as JPEG, each with its tables."""
    if page.coding != _JPEG:
        return
    tables = bytes(page.tags.get(347, ()))[2:-2]  # without start and end markers
    own = set()
    for start, length in _parts(page):
        stream = data[start : start + length]
        own.add(stream[: max(stream.find(_SCAN), 0)])
        if len(own) > _MOST_OWN_TABLES:
            raise ValueError(f"more than {_MOST_OWN_TABLES} strips or tiles with their own tables")
        yield stream[:2] + tables + stream[2:]


def layout_of(page: Page) -> str:
    """Returns in words what a page is, for messages."""
    return (
        f"a TIFF image of {page.samples} channel(s) of {page.bits} bits, "
        f"photometric interpretation {page.photometric}, compression {page.coding}"
    )


def read_strips(data: bytes, page: Page) -> Iterator[Samples]:
    """Yields what a page of a known coding holds, some rows at a time, as stored (not turned).

    Grey is inverted if white is zero; palettes become RGB of 8 bits.

    Args:
        data: The whole file.
        page: What ``read_page`` says of it, after ``check_page``.

    Raises:
        RefusalError: Grey values in 32 bits that do not fit into 16.
    """
    place, associated = _alpha(page)
    colours = _CHANNELS[page.photometric]
    taken = [*range(colours), *([place] if place else [])]
    top = 2 ** min(page.bits, 16) - 1
    stored = [_stored(data, page, plane) for plane in (taken if page.planes > 1 else [0])]
    step = max(_PIECE // (page.width * page.samples), 1)
    for start in range(0, page.height, step):
        box = (0, start, stored[0].width, min(start + step, page.height))
        planes = [_samples(np.asarray(plane.crop(box)), page) for plane in stored]  # (h, W, S or 1)
        values = planes[0][..., taken] if page.planes == 1 else np.concatenate(planes, axis=2)
        if page.bits == 32 or page.kind == _SIGNED:
            check_16_bits(values)
        own = values.astype(np.uint16, copy=False)
        alpha = own[..., colours] if place else None
        strip = Samples(own[..., :colours], top, alpha, alpha_top=top, associated=associated)
        if page.photometric == _PALETTE:
            shown = _colour_map(page)[own[..., 0]]
            strip = replace(strip, values=shown, top=_BYTE, indices=own[..., 0])
        elif page.photometric == _WHITE_IS_ZERO:
            strip = replace(strip, values=np.uint16(top) - strip.values)
        yield strip


def _read_directory(data: bytes, order: str) -> tuple[dict[int, tuple[int, ...]], bool]:
    """Returns the integer values of the first directory, and whether another one follows."""
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    word, entry_bytes = ("Q", 20) if big else ("I", 12)
    (start,) = struct.unpack_from(order + word, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    entries = start + (8 if big else 2)
    tags: dict[int, tuple[int, ...]] = {}
    if count > MAX_TAGS:
        raise ValueError(f"more than {MAX_TAGS:,} tags")
    all_bytes, left = 0, MAX_VALUES
    for at in range(entries, entries + count * entry_bytes, entry_bytes):
        tag, kind, values = struct.unpack_from(f"{order}HH{word}", data, at)
        all_bytes += values * _TYPE_BYTES.get(kind, 0)
        if kind not in _INTEGERS or not values or tag not in _READ:
            continue
        left -= values
        if left < 0:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        layout = f"{order}{values}{_INTEGERS[kind]}"
        place = at + entry_bytes - struct.calcsize("=" + word)
        if struct.calcsize(layout) > struct.calcsize("=" + word):
            (place,) = struct.unpack_from(order + word, data, place)
        tags[tag] = struct.unpack_from(layout, data, place)
    if all_bytes > len(data):  # Pillow copies each, however they overlap
        raise ValueError("tags of more bytes than the file has")
    (following,) = struct.unpack_from(order + word, data, entries + count * entry_bytes)
    return tags, following != 0


def _parts(page: Page) -> Iterator[tuple[int, int]]:
    """Yields where each strip or tile begins, and how long it is, as far as both are known."""
    offsets, counts = _PLACES[page.is_tiled]
    return zip(page.tags.get(offsets, ()), page.tags.get(counts, ()), strict=False)


def _unreadable(page: Page) -> str:
    """Returns what keeps a page of a known coding from being read, or nothing."""
    channels = _CHANNELS[page.photometric]
    # 16 bits of grey in a wider type are read if the values bear it out.
    wide = page.bits == 32 and page.samples == 1 and page.photometric in (0, 1)
    signed = page.kind == _SIGNED and (page.bits <= 8 or page.samples > 1)
    entries = len(page.tags.get(320, ()))
    channels_of = f"{page.samples} channel(s) of {page.bits} bits"
    faults = {
        channels_of: not (1 <= page.bits <= 16 or wide),
        f"{channels_of} and photometric interpretation {page.photometric}": not (
            channels <= page.samples <= _MAX_SAMPLES
        ),
        f"signed samples of {page.bits} bits": signed,
        "CMYK and transparency": page.photometric == CMYK and bool(_alpha(page)[0]),
        "a colour map that is cut off or missing": (
            page.photometric == _PALETTE and page.bits <= 16 and entries < 3 * 2**page.bits
        ),
        f"predictor {page.predictor} on samples of {page.bits} bits": (
            page.predictor != 1 and (page.predictor != 2 or page.bits not in _PREDICTED)
        ),
    }
    return next((fault for fault, applies in faults.items() if applies), "")


def _alpha(page: Page) -> tuple[int, bool]:
    """Returns the place of the channel that is alpha, 0 for none, and whether it is associated.

    A fourth channel of RGB of which nothing is said counts as straight alpha, as in Pillow.
    """
    channels = _CHANNELS[page.photometric]
    extra = page.samples - channels
    kinds = page.tags.get(338, (_STRAIGHT,) if page.photometric == 2 and extra == 1 else ())
    for place, kind in enumerate(kinds[: max(extra, 0)], start=channels):
        if kind in (_ASSOCIATED, _STRAIGHT):
            return place, kind == _ASSOCIATED
    return 0, False


def _colour_map(page: Page) -> NDArray[np.uint16]:
    """Returns the colour of each palette entry in 8 bits, (entries, 3)."""
    table = np.array(page.tags[320][: 3 * 2**page.bits]).reshape(3, -1).T
    return (table if table.max() < 256 else table // 256).astype(np.uint8).astype(np.uint16)


def _samples(stored: NDArray[np.uint8], page: Page) -> NDArray[np.integer[Any]]:
    """Returns stored rows, (h, B), as samples, (h, W, S); S is 1 for a plane."""
    height, samples, across = len(stored), page.samples // page.planes, page.part_size[0]
    in_row = stored.shape[1] * 8 // (across * samples * page.bits) * across
    if page.bits in _PREDICTED:
        kind = "i" if page.kind == _SIGNED else "u"
        values = stored.view(f"{page.order}{kind}{page.bits // 8}")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    else:
        bits = np.unpackbits(stored, axis=1)[:, : in_row * samples * page.bits]
        shifts = np.arange(page.bits - 1, -1, -1, dtype=np.uint16)
        each = bits.reshape(height, in_row * samples, page.bits)
        values = (each.astype(np.uint16) << shifts).sum(axis=2, dtype=np.uint16)
    grid = values.reshape(height, -1, across, samples)  # (h, tiles, W of one, S)
    if page.predictor == 2:
        grid = np.cumsum(grid, axis=2, dtype=grid.dtype)  # wraps around, as differences do
    return grid.reshape(height, -1, samples)[:, : page.width]


def _stored(data: bytes, page: Page, plane: int) -> Image.Image:
    """Returns the bytes of one plane's rows, taken out of strips or tiles, as grey pixels.

    The file is given a second directory that calls every byte a grey pixel, which Pillow reads.
    """
    across, down = page.part_size
    row_bytes = (across * (page.samples // page.planes) * page.bits + 7) // 8
    tiles = -(-page.width // across)
    parts = tiles * -(-page.height // max(down, 1))
    own = slice(plane * parts, (plane + 1) * parts)
    tags: dict[int, tuple[int, ...]] = {
        256: (tiles * row_bytes,), 257: (page.height,), 258: (8,), 259: (page.coding,), 262: (1,),
        266: (page.fill_order,), 277: (1,),
    }  # fmt: skip
    tags |= {322: (row_bytes,), 323: (down,)} if page.is_tiled else {278: (down,)}
    offsets, counts = _PLACES[page.is_tiled]
    tags |= {tag: page.tags[tag][own] for tag in (offsets, counts) if tag in page.tags}
    if len(tags[offsets]) != parts:
        raise ValueError(f"{len(tags[offsets])} of {parts} strips or tiles")
    if page.coding in _DEFLATE and counts in tags and page.fill_order == 1:
        for start, length in zip(tags[offsets], tags[counts], strict=True):
            _check_deflated(data[start : start + length], row_bytes * down)
    image = TiffImageFile(io.BytesIO(_with_directory(data, tags)))
    image.load()
    return image


def _check_deflated(part: bytes, size: int) -> None:
    """Raises an error if a strip's own checksum, which libtiff does not read on to, differs."""
    inflater = zlib.decompressobj()
    inflater.decompress(part, size + 1)
    if not inflater.eof:
        raise ValueError("a strip or tile of another size than its pixels")


def _with_directory(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """Returns a file with another directory behind its data, little-endian."""
    start = len(data) + len(data) % 2
    entries, behind, at = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, behind = struct.pack("<I", at + len(behind)), behind + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    head = b"II*\0" + struct.pack("<I", start)
    return b"".join([
        head, data[8:], bytes(len(data) % 2),
        struct.pack("<H", len(tags)), entries, bytes(4), behind,
    ])  # fmt: skip
