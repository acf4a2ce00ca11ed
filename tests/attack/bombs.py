"""Small files that take a decoder much memory or time; of each kind one, built here."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from ..built_dicom import build_file

MOST_BYTES = 25_000_000
_END = b"\xff\xd9"


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _flat(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), 120 if mode == "L" else (200, 150, 130))


def _noise(width: int, height: int) -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def webp_header() -> bytes:
    """34 bytes that claim 16,384 x 16,384 pixels, lossless."""
    size = struct.pack("<I", 0x3FFF | 0x3FFF << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 14) + b"\x2f" + size + bytes(9)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_large() -> bytes:
    """As many pixels as WebP has, all alike."""
    return _encode(_flat(16_383, 2_000), "WEBP", method=0)


def jpeg_scans() -> bytes:
    """A progressive JPEG whose last scan stands 5,000 times."""
    whole = _encode(_flat(3_000, 3_000), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + 5_000 * scan + _END


def jpeg_exif() -> bytes:
    """2.3 million Exif segments."""
    whole = _encode(_flat(64, 64), "JPEG")
    return whole[:2] + 2_300_000 * b"\xff\xe1\x00\x08Exif\0\0" + whole[2:]


def jpeg_fill() -> bytes:
    """24 million fill bytes before a marker."""
    whole = _encode(_flat(64, 64), "JPEG")
    return whole[:2] + 24_000_000 * b"\xff" + whole[2:]


def jpeg_tables() -> bytes:
    """Huffman tables, 20,000 times, none of them like the one before."""
    whole = _encode(_flat(64, 64), "JPEG")
    at = whole.index(b"\xff\xda")
    tables = []
    for number in range(20_000):
        body = b"\x10" + bytes(7) + b"\x64" + bytes(8)
        body += struct.pack(">H", number) + bytes(98)
        tables.append(b"\xff\xc4" + struct.pack(">H", len(body) + 2) + body)
    return whole[:at] + b"".join(tables) + whole[at:]


def jpeg_claims() -> bytes:
    """A header of 65,500 x 65,500 pixels before the data of a few."""
    whole = bytearray(_encode(_flat(64, 64), "JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(whole)


def jpeg_restarts() -> bytes:
    """A restart marker after every block of a large picture."""
    return _encode(_flat(9_000, 5_000), "JPEG", restart_marker_blocks=1, quality=10)


def jpeg_dense() -> bytes:
    """As much coded data as may be sent."""
    return _encode(_noise(4_000, 3_000), "JPEG", quality=92, subsampling=0)


def jpeg_dense_progressive() -> bytes:
    """The same, progressive."""
    return _encode(_noise(5_000, 3_000), "JPEG", quality=85, progressive=True)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, *, bits: int, colour: int, more: bytes = b"") -> bytes:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    deflater, row = zlib.compressobj(1), bytes(1 + width * channels * bits // 8)
    data = b"".join(deflater.compress(row) for _ in range(height)) + deflater.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + more + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_deep() -> bytes:
    """Blank, 16 bits and four channels, as large as may be."""
    return _png(10_000, 9_900, bits=16, colour=6)


def png_medium_deep() -> bytes:
    """Blank, 16 bits and four channels, of 24 million pixels."""
    return _png(6_000, 4_000, bits=16, colour=6)


def png_flat() -> bytes:
    """Blank and as large as may be."""
    return _png(10_000, 9_900, bits=8, colour=2)


def png_texts() -> bytes:
    """60 compressed texts of a million bytes each."""
    text = zlib.compress(bytes(1_000_000))
    more = b"".join(_chunk(b"zTXt", f"t{i}".encode() + b"\0\0" + text) for i in range(60))
    return _png(64, 64, bits=8, colour=2, more=more)


def png_chunks() -> bytes:
    """1.9 million chunks that say nothing."""
    return _png(64, 64, bits=8, colour=2, more=1_900_000 * _chunk(b"teXt", b""))


def gif_claims() -> bytes:
    """A screen of 65,535 x 65,535 pixels and a frame of a few."""
    whole = bytearray(_encode(_flat(64, 64, "L"), "GIF"))
    whole[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(whole)


def gif_comments() -> bytes:
    """Six million comments before the frame."""
    whole = _encode(_flat(64, 64, "L"), "GIF")
    return whole[:13] + whole[13:781] + 6_000_000 * b"\x21\xfe\x00" + whole[781:]


def gif_frames() -> bytes:
    """A frame of 24 million pixels, and 100,000 frames of one."""
    whole = _encode(_flat(6_000, 4_000, "L"), "GIF")
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\x00\x02\x02\x44\x01\x00"
    return whole[:-1] + 100_000 * frame + b"\x3b"


def bmp_claims() -> bytes:
    """Run lengths that claim 30,000 x 30,000 pixels."""
    head = struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 8, 1, 0, 0, 0, 256, 0)
    body = head + 256 * b"\1\2\3\0" + b"\xff\x01" * 100
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 14 + 40 + 1024) + body


def tiff_entries() -> bytes:
    """65,535 directory entries, each of which claims 500 million values."""
    entry = struct.pack("<HHII", 273, 4, 500_000_000, 8)
    return b"II*\0" + struct.pack("<IH", 8, 65_535) + 65_535 * entry + bytes(4)


def tiff_directories() -> bytes:
    """300,000 directories, each of which leads to the next."""
    parts = [b"II*\0" + struct.pack("<I", 8)]
    for number in range(300_000):
        last = number == 299_999
        parts.append(struct.pack("<HHHIII", 1, 256, 3, 1, 64, 0 if last else 26 + 18 * number))
    return b"".join(parts)


def tiff_deflated() -> bytes:
    """Blank, 16 bits and four channels, deflated."""
    tags: list[tuple[int, int, int, int]] = []
    width, height = 6_000, 4_100
    data = zlib.compress(bytes(width * height * 8), 1)
    for tag, kind, value in (
        (256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 8), (262, 3, 2),
        (273, 4, 8), (277, 3, 4), (278, 4, height), (279, 4, len(data)), (338, 3, 2),
    ):  # fmt: skip
        tags.append((tag, kind, 1, value))
    entries = b"".join(struct.pack("<HHII", *each) for each in tags)
    place = 8 + len(data)
    return (
        b"II*\0"
        + struct.pack("<I", place)
        + data
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def _dicom(before: bytes, *, deflated: bool) -> bytes:
    """A DICOM file with something before its elements."""
    syntax = "1.2.840.10008.1.2.1.99" if deflated else "1.2.840.10008.1.2.1"
    whole = build_file(np.zeros((32, 32, 3), np.uint8), syntax=syntax)
    (length,) = struct.unpack_from("<I", whole, 140)
    at = 144 + length
    head, body = whole[:at], whole[at:]
    if deflated:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = before + zlib.decompress(body, -zlib.MAX_WBITS)
        return head + deflater.compress(body) + deflater.flush()
    return head + before + body


_SEQUENCE = b"\x08\x00\x10\x00SQ\0\0\xff\xff\xff\xff"
_END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0\0\0\0\0"
_EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


def dicom_items() -> bytes:
    """Two million empty items, deflated."""
    return _dicom(_SEQUENCE + 2_000_000 * _EMPTY_ITEM + _END_OF_SEQUENCE, deflated=True)


def dicom_items_stored() -> bytes:
    """Three million empty items."""
    return _dicom(_SEQUENCE + 3_000_000 * _EMPTY_ITEM + _END_OF_SEQUENCE, deflated=False)


def dicom_nested() -> bytes:
    """100,000 sequences, each within the one before."""
    return _dicom(100_000 * (_SEQUENCE + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"), deflated=False)


def dicom_elements() -> bytes:
    """A million elements of no value."""
    element = b"\x09\x00\x10\x00LO\0\0"
    return _dicom(1_000_000 * element, deflated=True)


def dicom_runs() -> bytes:
    """Run lengths of 9,000 x 9,000 pixels."""
    plane = b"\x81\x00" * (9_000 * 9_000 // 128 + 1)
    header = struct.pack("<16I", 1, 64, *(14 * [0]))
    pixels = np.broadcast_to(np.uint8(0), (9_000, 9_000))
    return build_file(pixels, syntax="1.2.840.10008.1.2.5", frames=[header + plane])


def dicom_jpeg_2000() -> bytes:
    """A stream that claims 60,000 x 60,000 pixels."""
    stream = bytearray(_encode(_flat(64, 64), "JPEG2000", no_jp2=True))
    stream[8:16] = struct.pack(">II", 60_000, 60_000)
    pixels = np.zeros((64, 64, 3), np.uint8)
    return build_file(pixels, syntax="1.2.840.10008.1.2.4.90", frames=[bytes(stream)])


BOMBS: dict[str, Callable[[], bytes]] = {
    each.__name__: each
    for each in (
        webp_header, webp_large, jpeg_scans, jpeg_exif, jpeg_fill, jpeg_tables, jpeg_claims,
        jpeg_restarts, jpeg_dense, jpeg_dense_progressive, png_deep, png_medium_deep, png_flat,
        png_texts, png_chunks, gif_claims, gif_comments, gif_frames, bmp_claims, tiff_entries,
        tiff_directories, tiff_deflated, dicom_items, dicom_items_stored, dicom_nested,
        dicom_elements, dicom_runs, dicom_jpeg_2000,
    )
}  # fmt: skip
