"""Small files that claim or hold far more than a picture: refused in little time and memory."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.imaging.limits import MAX_PIXELS

Build = Callable[..., bytes]

_MOST_SECONDS = 10.0
_MOST_MB = 400.0  # of the whole process, Python and NumPy included
_READ = r"""
import json, re, sys, time
from pathlib import Path
import dermfuse.imaging.dicom
from dermfuse.imaging.reading import read_any
from dermfuse.errors import ImageError
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        said = repr(read_any(path, name="it").shape)
    except ImageError as error:
        said = str(error)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    print(json.dumps([Path(path).name, said, time.process_time() - start, peak]), flush=True)
"""


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _png(*chunks: tuple[bytes, bytes], width: int = 20, height: int = 20) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = (b"IDAT", zlib.compress(bytes(61 * 20)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (head, *chunks, rows, (b"IEND", b""))
    )


def _jpeg(**options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    return _encode(Image.fromarray(pixels), "JPEG", **options)


def _many_scans(jpeg: bytes, count: int) -> bytes:
    """A progressive JPEG whose scan that refines the DC values comes so often."""
    start = jpeg.index(b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\0\x10")
    end = jpeg.index(b"\xff", start + 2)
    return jpeg[:start] + jpeg[start:end] * count + jpeg[end:]


def _large_scans() -> bytes:
    """A progressive JPEG of 36 million pixels, all in runs of blank blocks, a hundred times."""
    size = 6000
    blocks = (size // 8) ** 2
    head = b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1] * 64)
    head += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, size, size, 1) + b"\1\x11\0"
    head += b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0"  # DC: one code, no difference
    head += b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\xe0"  # AC: one code, 2^14 blank blocks
    dc = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(blocks // 8 + 1)
    ac = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + bytes(-(-blocks // 2**14) * 15 // 8 + 1)
    return head + dc + ac * 99 + b"\xff\xd9"


def _restarts() -> bytes:
    """A grey JPEG of 36 million pixels with a restart marker behind each of its blocks."""
    size = 6000
    head = b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1] * 64)
    head += b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, size, size, 1) + b"\1\x11\0"
    head += b"\xff\xdd\0\4\0\1"
    for number in (b"\0", b"\x10"):
        head += b"\xff\xc4\0\x14" + number + b"\1" + bytes(16)  # one code: nothing
    marked = b"".join(b"\x3f\xff" + bytes([0xD0 + i]) for i in range(8))
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    blocks = (size // 8) ** 2
    return head + scan + (marked * (blocks // 8 + 1))[: 3 * blocks - 2] + b"\xff\xd9"


def _gif(*extensions: bytes) -> bytes:
    gif = _encode(Image.new("P", (20, 20)), "GIF")
    at = 13 + 3 * 2 ** ((gif[10] & 7) + 1) if gif[10] & 0x80 else 13
    return gif[:at] + b"".join(extensions) + gif[at:]


def _tiff(tags: dict[int, tuple[int, int, int]], *, data: bytes) -> bytes:
    """A TIFF with tags (type, count, value or place) behind its data, which begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


_PAGE = {
    256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
    273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096),
}  # fmt: skip


def _bmp(width: int, height: int) -> bytes:
    bmp = bytearray(_encode(Image.new("RGB", (20, 20)), "BMP"))
    struct.pack_into("<ii", bmp, 18, width, height)
    return bytes(bmp)


def _jpeg_bombs() -> Iterator[tuple[str, bytes, str]]:
    yield "jpeg.scans", _many_scans(_jpeg(progressive=True), 5_000), "more than 100 scans"
    yield "jpeg.visits", _large_scans(), "scans"
    yield "jpeg.restarts", _restarts(), "(6000, 6000, 3)"
    plain = _jpeg()
    exif = b"\xff\xe1\0\x08Exif\0\0" * 2_300_000
    yield "jpeg.exif", plain[:2] + exif + plain[2:], "2,000 segments"
    yield "jpeg.fill", plain[:2] + b"\xff" * 20_000_000 + plain[2:], "(20, 24, 3)"
    tables = (b"\0" + bytes(16)) * 3_854
    table = b"\xff\xc4" + struct.pack(">H", 2 + len(tables)) + tables
    yield "jpeg.tables", plain[:2] + table * 300 + plain[2:], "(20, 24, 3)"
    scan = plain.index(b"\xff\xda") + 14
    markers = plain[:scan] + b"\xff\xd0" * 10_000_000 + plain[scan:]
    yield "jpeg.markers", markers, "restart marker is missing or one too many"
    run = plain[:scan] + b"\xff" * 5_000_000 + b"\0" + plain[scan:]
    yield "jpeg.run", run, "damaged inside"


def _image_bombs() -> Iterator[tuple[str, bytes, str]]:
    side = 16_383
    pixels = "pixels or fewer"
    yield "webp.extended", _webp(b"VP8X", bytes(4) + b"\xfe\x3f\0" * 2), pixels
    lossless = struct.pack("<BI", 0x2F, side - 1 | (side - 1) << 14)
    yield "webp.lossless", _webp(b"VP8L", lossless), pixels
    lossy = b"\x30\1\0\x9d\1\x2a" + struct.pack("<HH", side, side)
    yield "webp.lossy", _webp(b"VP8 ", lossy), pixels
    yield "webp.chunks", _webp(b"VP8X", bytes(10)) + b"JUNK\0\0\0\0" * 200_000, "100,000 chunks"
    yield "png.size", _png(width=50_000, height=50_000), pixels
    yield "png.chunks", _png(*[(b"juNK", b"")] * 1_500_000), "100,000 chunks"
    comment = b"!\xfe" + b"\1a" * 5_000_000 + b"\0"
    yield "gif.comment", _gif(comment), "1,000,000 blocks"
    yield "gif.long", _gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 90_000 + b"\0"), "(20, 20, 3)"
    yield "gif.size", b"GIF89a\xff\xff\xff\xff\0\0\0" + _gif()[13:], pixels
    data = bytes(20_000_000)
    many = _PAGE | {1000 + i: (1, len(data), 8) for i in range(4_000)}
    yield "tiff.tags", _tiff(many, data=data), "more bytes than the file"
    yield (
        "tiff.directory",
        _tiff(_PAGE | {1000 + i: (3, 1, 0) for i in range(60_000)}, data=data),
        ("more than 4,096 tags"),
    )
    yield (
        "tiff.strips",
        _tiff(_PAGE | {273: (4, 1_000_000, 8), 279: (4, 1_000_000, 8)}, data=bytes(5_000_000)),
        "more than 400,000 values",
    )
    tiles = {key: each for key, each in _PAGE.items() if key not in (273, 278, 279)}
    tiles |= {322: (4, 1, 2**20), 323: (4, 1, 2**20), 324: (4, 1, 8), 325: (4, 1, 64)}
    yield "tiff.tile", _tiff(tiles | {259: (3, 1, 8)}, data=bytes(64)), "takes less memory"
    jpeg = _encode(Image.new("L", (64, 64)), "JPEG")
    places = struct.pack("<I", 8) * 20_000 + struct.pack("<I", len(jpeg)) * 20_000
    shared = _PAGE | {
        259: (3, 1, 7), 278: (4, 1, 1), 273: (4, 20_000, 8 + len(jpeg)),
        279: (4, 20_000, 8 + len(jpeg) + 80_000),
    }  # fmt: skip
    yield "tiff.shared", _tiff(shared, data=jpeg + places), "more bytes than the file"
    yield "bmp.size", _bmp(2**30, 2**30), pixels


def _meta_end(dicom: bytes) -> int:
    """Where the data set begins: behind the meta information, whose length is said."""
    return 144 + struct.unpack_from("<I", dicom, 140)[0]


def _dicom_bombs(build: Build) -> Iterator[tuple[str, bytes, str]]:
    pixels = np.zeros((16, 16), np.uint8)
    deflated = build(pixels, syntax="1.2.840.10008.1.2.1.99")
    items = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
    empty = b"\xfe\xff\0\xe0\0\0\0\0"
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(items + empty * 3_000_000) + packer.flush()
    yield "dicom.deflated", deflated[: _meta_end(deflated)] + packed, "50,000 elements and items"
    plain = build(pixels)
    body = _meta_end(plain)
    yield "dicom.items", plain[:body] + items + empty * 3_000_000, "50,000 elements and items"
    nested = (items + empty[:4] + b"\xff\xff\xff\xff") * 800_000
    yield "dicom.depth", plain[:body] + nested, "too deep in one another"
    element = b"\x09\0\0\x10LO\0\0"
    yield "dicom.elements", plain[:body] + element * 3_000_000, "50,000 elements and items"
    window = b"1\\" * 5_000_000
    for vr in (b"UT", b"SQ"):
        long = b"\x28\0\x50\x10" + vr + b"\0\0" + struct.pack("<I", len(window)) + window
        at = plain.index(b"\xe0\x7f\x10\0")
        yield f"dicom.window{vr.decode()}", plain[:at] + long + plain[at:], "damaged or cut off"
    fragments = [b"\xff\xd8\xff\xd9"] + [b"\0\0"] * 20_000
    jpeg = "1.2.840.10008.1.2.4.50"
    yield "dicom.fragments", build(pixels, syntax=jpeg, frames=fragments), "fragments"
    scans = _many_scans(_jpeg(progressive=True), 2_000)
    colours = np.zeros((20, 24, 3), np.uint8)
    yield (
        "dicom.scans",
        build(colours, syntax=jpeg, frames=[scans + bytes(len(scans) % 2)]),
        ("more than 100 scans"),
    )


@pytest.fixture(scope="module")
def read_in_child(
    build_dicom: Build, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str, float, float]]:
    """By name: what is expected, what was said, after how many seconds, at which peak in MB."""
    folder, expected = tmp_path_factory.mktemp("bombs"), {}
    for name, data, said in (*_jpeg_bombs(), *_image_bombs(), *_dicom_bombs(build_dicom)):
        assert len(data) <= 25_000_000
        (folder / name).write_bytes(data)
        expected[name] = said
    child = subprocess.run(
        [sys.executable, "-c", _READ, *map(os.fspath, sorted(folder.iterdir()))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    return {name: (expected[name], *found) for name, *found in lines}


def test_every_bomb_is_met_with_pixels_or_one_line_that_says_why(read_in_child: Any) -> None:
    for name, (expected, said, _, _) in read_in_child.items():
        assert expected in said, f"{name}: {said}"
        assert "\n" not in said
    assert len(read_in_child) == 31


def test_none_takes_long(read_in_child: Any) -> None:
    slow = {name: seconds for name, (*_, seconds, _) in read_in_child.items()}
    assert max(slow.values()) < _MOST_SECONDS, slow


def test_none_takes_much_memory(read_in_child: Any) -> None:
    peaks = {name: peak for name, (*_, peak) in read_in_child.items()}
    assert max(peaks.values()) < _MOST_MB, peaks


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG16", "TIFF", "GIF", "WEBP"])
def test_the_largest_picture_of_a_kind_stays_below_600_mb(kind: str, tmp_path: Path) -> None:
    share = {"PNG16": 8 / 13, "WEBP": 8 / 18}.get(kind, 1.0)
    side = int((share * MAX_PIXELS) ** 0.5)
    path = tmp_path / kind
    if kind == "PNG16":
        head = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
        rows = zlib.compress(bytes(side * (1 + 6 * side)), 1)
        chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        ))  # fmt: skip
    else:
        options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "JPEG": {"progressive": True}}
        Image.new("RGB", (side, side), (90, 60, 50)).save(path, kind, **options.get(kind, {}))
    child = subprocess.run(
        [sys.executable, "-c", _READ, path], capture_output=True, text=True, check=True
    )
    _, said, _, peak = json.loads(child.stdout)
    assert said == f"({side}, {side}, 3)"
    assert peak < 600
