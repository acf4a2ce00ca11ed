"""Small files that claim or hold far more than a picture, and what is said of each.

``BOMBS`` has the builder of each kind with words of the refusal, or the shape that is read; empty
words stand for either: what matters is that it takes little memory and time.
"""

import struct
import zlib
from collections.abc import Callable
from itertools import repeat

import numpy as np
from PIL import Image

from ..built_dicom import build_file
from ..imaging import made
from ..imaging.made import encode

MOST_BYTES = 25_000_000
_PIXELS = "pixels or fewer"
_PAGE = {
    256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
    273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096),
}  # fmt: skip
"""The tags of a small grey page: type, count, value or place."""
_BLANK = np.zeros((16, 16), np.uint8)
_DICOM = "1.2.840.10008.1.2."
_SEQUENCE = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
_ITEM = b"\xfe\xff\0\xe0"
_ITEMS = _SEQUENCE + (_ITEM + bytes(4)) * 3_000_000


def _flat(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), 120 if mode == "L" else (200, 150, 130))


def _jpeg(width: int = 24, height: int = 20, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode(noise, "JPEG", **options)


def _with(whole: bytes, what: bytes, *, at: int = 2) -> bytes:
    return whole[:at] + what + whole[at:]


def _in_scan(what: bytes) -> bytes:
    whole = _jpeg()
    return _with(whole, what, at=whole.index(b"\xff\xda") + 14)


def _jpeg_scans(count: int = 5_000) -> bytes:
    """A progressive JPEG whose scan that refines the DC values comes so often."""
    jpeg = _jpeg(progressive=True)
    start = jpeg.index(b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\0\x10")
    end = jpeg.index(b"\xff", start + 2)
    return jpeg[:start] + jpeg[start:end] * count + jpeg[end:]


def _grey_jpeg(frame: bytes, *segments: bytes) -> bytes:
    """A grey JPEG of 36 million pixels: a frame's marker, then what follows its header."""
    head = b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1] * 64)
    size = frame + struct.pack(">HBHHB", 11, 8, 6000, 6000, 1) + b"\1\x11\0"
    return head + size + b"".join(segments) + b"\xff\xd9"


def _jpeg_visits() -> bytes:
    """All pixels in runs of blank blocks, a hundred times."""
    blocks = 750**2
    dc = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(blocks // 8 + 1)
    ac = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + bytes(-(-blocks // 2**14) * 15 // 8 + 1)
    dc_table = b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0"  # one code, no difference
    ac_table = b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\xe0"  # one code, 2^14 blank blocks
    return _grey_jpeg(b"\xff\xc2", dc_table, ac_table, dc, ac * 99)


def _jpeg_restarts() -> bytes:
    """A restart marker behind each block."""
    tables = [b"\xff\xc4\0\x14" + number + b"\1" + bytes(16) for number in (b"\0", b"\x10")]
    marked = b"".join(b"\x3f\xff" + bytes([0xD0 + i]) for i in range(8))
    coded = (marked * (750**2 // 8 + 1))[: 3 * 750**2 - 2]
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    return _grey_jpeg(b"\xff\xc0", b"\xff\xdd\0\4\0\1", *tables, scan, coded)


def _jpeg_tables() -> bytes:
    tables = (b"\0" + bytes(16)) * 3_854
    return _with(_jpeg(), (b"\xff\xc4" + struct.pack(">H", 2 + len(tables)) + tables) * 300)


def _jpeg_claims() -> bytes:
    """A header of 65,500 x 65,500 pixels before the data of a few."""
    whole = bytearray(_jpeg())
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc0") + 5, 65_500, 65_500)
    return bytes(whole)


def _webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def png(
    *chunks: tuple[bytes, bytes], size: tuple[int, int] = (20, 20), bits: int = 24, rows: int = 0
) -> bytes:
    """A blank PNG of 24, 48 or (with transparency) 64 bits; all rows of its size if left out."""
    depth, colour = {24: (8, 2), 48: (16, 2), 64: (16, 6)}[bits]
    row = bytes(1 + size[0] * bits // 8)
    return made.png(size, depth, colour, repeat(row, rows or size[1]), *chunks)


def _png_texts() -> bytes:
    text = zlib.compress(bytes(1_000_000))
    return png(*((b"zTXt", f"t{i}".encode() + b"\0\0" + text) for i in range(60)))


def _gif(extensions: bytes) -> bytes:
    gif = encode(Image.new("P", (20, 20)), "GIF")
    at = 13 + 3 * 2 ** ((gif[10] & 7) + 1) if gif[10] & 0x80 else 13
    return _with(gif, extensions, at=at)


def _gif_frames() -> bytes:
    """A frame of 24 million pixels, and 100,000 frames of one."""
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\x00\x02\x02\x44\x01\x00"
    return encode(_flat(6_000, 4_000, "L"), "GIF")[:-1] + 100_000 * frame + b"\x3b"


def _bmp() -> bytes:
    bmp = bytearray(encode(Image.new("RGB", (20, 20)), "BMP"))
    struct.pack_into("<ii", bmp, 18, 2**30, 2**30)
    return bytes(bmp)


def _tiff(tags: dict[int, tuple[int, int, int]], *, data: bytes) -> bytes:
    """A TIFF with tags behind its data, which begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def _tiff_many(count: int, *, kind: int, size: int) -> bytes:
    return _tiff(_PAGE | {1000 + i: (kind, size, 8) for i in range(count)}, data=bytes(20_000_000))


def _tiff_strips() -> bytes:
    strips = {273: (4, 1_000_000, 8), 279: (4, 1_000_000, 8)}
    return _tiff(_PAGE | strips, data=bytes(5_000_000))


def _tiff_tile() -> bytes:
    tiles = {key: each for key, each in _PAGE.items() if key not in (273, 278, 279)}
    tiles |= {322: (4, 1, 2**20), 323: (4, 1, 2**20), 324: (4, 1, 8), 325: (4, 1, 64)}
    return _tiff(tiles | {259: (3, 1, 8)}, data=bytes(64))


def _tiff_shared() -> bytes:
    """20,000 strips, all of which lie in one place."""
    jpeg = encode(Image.new("L", (64, 64)), "JPEG")
    places = struct.pack("<I", 8) * 20_000 + struct.pack("<I", len(jpeg)) * 20_000
    at = 8 + len(jpeg)
    strips = {278: (4, 1, 1), 273: (4, 20_000, at), 279: (4, 20_000, at + 80_000)}
    return _tiff(_PAGE | strips | {259: (3, 1, 7)}, data=jpeg + places)


def _tiff_directories() -> bytes:
    """300,000 directories, each of which leads to the next."""
    places = [26 + 18 * number for number in range(299_999)]
    parts = [struct.pack("<HHHIII", 1, 256, 3, 1, 64, place) for place in (*places, 0)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(parts)


def _tiff_deflated() -> bytes:
    """Blank, 16 bits and four channels."""
    width, height = 6_000, 4_100
    data = zlib.compress(bytes(width * height * 8), 1)
    tags = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 16), 259: (3, 1, 8), 262: (3, 1, 2),
        277: (3, 1, 4), 278: (4, 1, height), 279: (4, 1, len(data)), 338: (3, 1, 2),
    }  # fmt: skip
    return _tiff(_PAGE | tags, data=data)


def _dicom(elements: bytes, *, deflated: bool = False) -> bytes:
    """A DICOM file with elements, or the beginning of some, in place of its own."""
    whole = build_file(_BLANK, syntax=_DICOM + ("1.99" if deflated else "1"))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(elements) + packer.flush() if deflated else elements
    return whole[: 144 + struct.unpack_from("<I", whole, 140)[0]] + packed


def _dicom_window(kind: bytes) -> bytes:
    plain, window = build_file(_BLANK), b"1\\" * 5_000_000
    long = b"\x28\0\x50\x10" + kind + b"\0\0" + struct.pack("<I", len(window)) + window
    return _with(plain, long, at=plain.index(b"\xe0\x7f\x10\0"))


def _dicom_coded(coding: str, *frames: bytes, shape: tuple[int, ...] = (16, 16)) -> bytes:
    pixels = np.broadcast_to(np.uint8(0), shape)
    return build_file(pixels, syntax=_DICOM + coding, frames=list(frames))


def _dicom_runs() -> bytes:
    """Run lengths of 9,000 x 9,000 pixels."""
    runs = struct.pack("<16I", 1, 64, *(14 * [0])) + b"\x81\x00" * (9_000 * 9_000 // 128 + 1)
    return _dicom_coded("5", runs, shape=(9_000, 9_000))


def _dicom_jpeg_2000() -> bytes:
    """A stream that claims 60,000 x 60,000 pixels."""
    stream = bytearray(encode(_flat(64, 64), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", stream, 8, 60_000, 60_000)
    return _dicom_coded("4.90", bytes(stream), shape=(64, 64, 3))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg.scans": (_jpeg_scans, "more than 100 scans"),
    "jpeg.visits": (_jpeg_visits, "scans"),
    "jpeg.restarts": (_jpeg_restarts, "(6000, 6000, 3)"),
    "jpeg.exif": (lambda: _with(_jpeg(), b"\xff\xe1\0\x08Exif\0\0" * 2_300_000), "2,000 segments"),
    "jpeg.fill": (lambda: _with(_jpeg(), b"\xff" * 20_000_000), "(20, 24, 3)"),
    "jpeg.tables": (_jpeg_tables, "(20, 24, 3)"),
    "jpeg.markers": (lambda: _in_scan(b"\xff\xd0" * 10_000_000), "restart marker is missing"),
    "jpeg.run": (lambda: _in_scan(b"\xff" * 5_000_000 + b"\0"), "damaged inside"),
    "jpeg.claims": (_jpeg_claims, _PIXELS),
    "jpeg.dense": (lambda: _jpeg(4_000, 3_000, quality=92, subsampling=0), ""),
    "jpeg.dense progressive": (lambda: _jpeg(5_000, 3_000, quality=85, progressive=True), ""),
    "webp.extended": (lambda: _webp(b"VP8X", bytes(4) + b"\xfe\x3f\0" * 2), _PIXELS),
    "webp.lossless": (lambda: _webp(b"VP8L", b"\x2f\xfe\xbf\xff\x0f"), _PIXELS),
    "webp.lossy": (lambda: _webp(b"VP8 ", b"\x30\1\0\x9d\1\x2a" + b"\xff\x3f" * 2), _PIXELS),
    "webp.chunks": (
        lambda: _webp(b"VP8X", bytes(10)) + b"JUNK\0\0\0\0" * 200_000, "100,000 chunks",
    ),
    "webp.large": (lambda: encode(_flat(16_383, 2_000), "WEBP", method=0), ""),
    "png.size": (lambda: png(size=(50_000, 50_000), rows=1), _PIXELS),
    "png.chunks": (lambda: png(*[(b"juNK", b"")] * 1_500_000), "100,000 chunks"),
    "png.deep": (lambda: png(size=(10_000, 9_900), bits=64), ""),
    "png.medium": (lambda: png(size=(6_000, 4_000), bits=64), ""),
    "png.flat": (lambda: png(size=(10_000, 9_900)), ""),
    "png.texts": (_png_texts, ""),
    "gif.comment": (lambda: _gif(b"!\xfe" + b"\1a" * 5_000_000 + b"\0"), "1,000,000 blocks"),
    "gif.long": (lambda: _gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 90_000 + b"\0"), "(20, 20, 3)"),
    "gif.size": (lambda: b"GIF89a\xff\xff\xff\xff\0\0\0" + _gif(b"")[13:], _PIXELS),
    "gif.frames": (_gif_frames, ""),
    "bmp.size": (_bmp, _PIXELS),
    "tiff.tags": (lambda: _tiff_many(4_000, kind=1, size=20_000_000), "more bytes than the file"),
    "tiff.directory": (lambda: _tiff_many(60_000, kind=3, size=1), "more than 4,096 tags"),
    "tiff.strips": (_tiff_strips, "more than 400,000 values"),
    "tiff.tile": (_tiff_tile, "takes less memory"),
    "tiff.shared": (_tiff_shared, "more bytes than the file"),
    "tiff.directories": (_tiff_directories, ""),
    "tiff.deflated": (_tiff_deflated, ""),
    "dicom.deflated": (lambda: _dicom(_ITEMS, deflated=True), "50,000 elements and items"),
    "dicom.items": (lambda: _dicom(_ITEMS), "50,000 elements and items"),
    "dicom.depth": (
        lambda: _dicom((_SEQUENCE + _ITEM + b"\xff" * 4) * 800_000), "too deep in one another",
    ),
    "dicom.elements": (
        lambda: _dicom(b"\x09\0\0\x10LO\0\0" * 3_000_000), "50,000 elements and items",
    ),
    "dicom.text": (lambda: _dicom_window(b"UT"), "damaged or cut off"),
    "dicom.sequence": (lambda: _dicom_window(b"SQ"), "damaged or cut off"),
    "dicom.fragments": (
        lambda: _dicom_coded("4.50", b"\xff\xd8\xff\xd9", *[b"\0\0"] * 20_000), "fragments",
    ),
    "dicom.scans": (
        lambda: _dicom_coded("4.50", _jpeg_scans(2_000), shape=(20, 24, 3)), "more than 100 scans",
    ),
    "dicom.runs": (_dicom_runs, ""),
    "dicom.jpeg 2000": (_dicom_jpeg_2000, ""),
}  # fmt: skip
