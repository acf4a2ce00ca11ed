"""Image files of every kind that the app reads by itself, with what the library makes of them.

The app's units read ``web/tests/files.json``: whether a file is refused, how it lies, and (PNG,
which the app decodes itself) its pixels.
"""

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import read_image
from dermfuse.web.build import pack_bytes
from dermfuse.web.vectors import draw_image

WIDTH, HEIGHT = 29, 19
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 3),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}


def make_files() -> list[dict[str, Any]]:
    """Returns the files with the library's answers."""
    return [
        *(_answered(name, data, whole=True) for name, data in (*_pngs(), *_damaged_pngs())),
        *(_answered(name, data) for name, data in _jpegs()),
        *_turned(),
    ]


def _answered(name: str, data: bytes, *, whole: bool = False) -> dict[str, Any]:
    record = {"name": name, "file": base64.b64encode(data).decode()}
    try:
        pixels = read_image(data)
    except ImageError:
        return record | {"refused": True}
    return record | {"refused": False} | ({"rgb": pack_bytes(pixels)} if whole else {})


# ------------------------------------------------------------------------------------------- PNG


def png(
    values: NDArray[np.integer[Any]],
    depth: int,
    colour: int,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """Returns a PNG of samples (H, W, C) in its own depth; its rows take all filters in turns."""
    height, width = values.shape[:2]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(_rows(values[y::dy, x::dx], depth) for x, y, dx, dy in passes)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each)
        for each in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def chunk(name: bytes, body: bytes) -> bytes:
    """Returns one chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _rows(values: NDArray[np.integer[Any]], depth: int) -> bytes:
    if not values.size:
        return b""
    step = max(values.shape[2] * depth // 8, 1)
    above = b""
    found = b""
    for y, row in enumerate(values.reshape(len(values), -1)):
        bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.astype(np.uint8).ravel()).tobytes()
        above = above or bytes(len(packed))
        found += bytes([y % 5]) + _filtered(packed, above, step, y % 5)
        above = packed
    return found


def _filtered(row: bytes, above: bytes, step: int, kind: int) -> bytes:
    left, corner = bytes(step) + row[:-step], bytes(step) + above[:-step]
    guesses = {
        0: lambda *_: 0,
        1: lambda a, *_: a,
        2: lambda _, b, __: b,
        3: lambda a, b, _: (a + b) // 2,
        4: lambda a, b, c: min((a, b, c), key=lambda each: abs(a + b - c - each)),
    }
    each = zip(row, left, above, corner, strict=True)
    return bytes((value - guesses[kind](a, b, c)) % 256 for value, a, b, c in each)


def _pngs() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(7)
    for colour, depths in _DEPTHS.items():
        for depth in depths:
            values = random.integers(0, 2**depth, (HEIGHT, WIDTH, _CHANNELS[colour]))
            values[:8] = values[0, 0]  # a colour that many pixels have
            chunks = []
            if colour == 3:
                chunks.append((b"PLTE", random.bytes(3 * min(2**depth, 200))))
            for interlaced in (False, True):
                name = f"PNG, colour type {colour}, {depth} bits" + ", interlaced" * interlaced
                yield name, png(values, depth, colour, *chunks, interlaced=interlaced)
                transparent = _transparent(values, colour, depth, random)
                if transparent:
                    both = (*chunks, (b"tRNS", transparent))
                    yield f"{name}, tRNS", png(values, depth, colour, *both, interlaced=interlaced)


def _transparent(
    values: NDArray[np.integer[Any]], colour: int, depth: int, random: np.random.Generator
) -> bytes:
    if colour == 3:
        return random.bytes(min(2**depth, 100))
    if colour not in (0, 2):
        return b""
    above = 0 if depth == 16 else 2**depth  # bits above the depth do not count
    return b"".join(struct.pack(">H", value + above) for value in values[0, 0].tolist())


def _damaged_pngs() -> Iterator[tuple[str, bytes]]:
    values = np.asarray(draw_image(WIDTH, HEIGHT))
    whole = png(values, 8, 2, (b"tEXt", b"a\0b"))
    data, end = whole.index(b"IDAT"), whole.index(b"IEND")
    yield "PNG, a wrong checksum before its pixels", whole.replace(b"a\0b", b"a\0c")
    yield "PNG, cut off", whole[: data + 60]
    yield "PNG, a wrong checksum of its pixels", whole[: end - 9] + b"!!" + whole[end - 7 :]
    yield "PNG, without its end", whole[: end - 4]
    yield "PNG, a short transparent colour", png(values, 8, 2, (b"tRNS", b"\0\1"))
    yield "PNG, no palette", png(values[..., :1], 8, 3)
    yield "PNG, rows that are missing", _short(whole)
    control = struct.pack(">II", 2, 0)
    yield "PNG, animated", png(values, 8, 2, (b"acTL", control))


def _short(whole: bytes) -> bytes:
    head = whole[: whole.index(b"IDAT") - 4]
    rows = zlib.compress(_rows(np.asarray(draw_image(WIDTH, HEIGHT - 3)), 8))
    return head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------ JPEG


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    """Returns a drawn image as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(draw_image(61, 47)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _jpegs() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(11)
    for name, options in (
        ("4:2:0", {}),
        ("4:4:4", {"subsampling": 0, "quality": 92}),
        ("4:2:2, restart markers", {"subsampling": 1, "restart_marker_blocks": 3}),
        ("best codes", {"optimize": True, "quality": 98}),
        ("progressive", {"progressive": True}),
        ("progressive, 4:4:4", {"progressive": True, "subsampling": 0, "quality": 97}),
        ("grey", {"mode": "L"}),
        ("ink", {"mode": "CMYK"}),
    ):
        whole = jpeg(**options)
        scan = whole.rindex(b"\xff\xda")
        yield f"JPEG, {name}", whole
        yield f"JPEG, {name}, padded", whole[:-2] + b"\xff" * 40 + whole[-2:]
        yield f"JPEG, {name}, without its end", whole[:-2]
        yield f"JPEG, {name}, cut off", whole[: scan + 20]
        yield f"JPEG, {name}, ended early", whole[: -(len(whole) - scan) // 2] + b"\xff\xd9"
        yield f"JPEG, {name}, something behind its pixels", whole[:-2] + b"\x12" * 20 + whole[-2:]
        for i in range(6):  # of some neither library nor app can tell that they are damaged
            at = int(random.integers(whole.index(b"\xff\xda") + 20, len(whole) - 6))
            length = int(random.integers(1, 5))
            other = (b"\0" * length) if i % 2 else random.bytes(length).replace(b"\xff", b"\1")
            yield f"JPEG, {name}, damaged {i}", whole[:at] + other + whole[at + length :]
    whole = jpeg(quality=95, subsampling=0)
    for at in range(whole.index(b"\xff\xda") + 14, len(whole) - 72, 200):
        yield f"JPEG, blank from {at} on", whole[:at] + bytes(70) + whole[at + 70 :]
    whole = jpeg()
    frame = whole.index(b"\xff\xc0")
    yield "JPEG of 12 bits", whole[: frame + 4] + b"\x0c" + whole[frame + 5 :]
    yield "JPEG, lossless", whole[: frame + 1] + b"\xc3" + whole[frame + 2 :]
    yield "JPEG, arithmetic-coded", whole[: frame + 1] + b"\xc9" + whole[frame + 2 :]
    yield "JPEG, fill bytes before a marker", whole[:2] + b"\xff\xff" + whole[2:]


# ----------------------------------------------------------------------------------- orientation


def exif(
    value: int, *, order: str = ">", kind: int = 3, count: int = 1, before: bytes = b""
) -> bytes:
    """Returns an EXIF block, as it is without the name in front.

    Args:
        value: Of the orientation.
        order: Of bytes.
        kind: TIFF's type of the value.
        count: How many values there are said to be.
        before: An entry of the directory, 12 bytes.
    """
    layout = {1: "B3x", 3: "H2x", 4: "I", 6: "b3x", 8: "h2x", 9: "i", 11: "f"}[kind]
    entry = struct.pack(f"{order}HHI{layout}", 0x0112, kind, count, value)
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = before + entry
    return (
        head
        + struct.pack(order + "IH", 8, len(entries) // 12)
        + entries
        + struct.pack(order + "I", 0)
    )


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def _blocks() -> Iterator[tuple[str, bytes]]:
    for value in range(10):
        yield f"EXIF {value}", exif(value)
    yield "EXIF, little-endian", exif(6, order="<")
    for kind in (1, 4, 6, 8, 9, 11):
        yield f"EXIF of type {kind}", exif(6, kind=kind)
    yield "EXIF, another tag before it", exif(8, before=struct.pack(">HHI4s", 0x010F, 2, 3, b"ab"))
    yield (
        "EXIF, another tag whose value lies outside",
        exif(8, before=struct.pack(">HHII", 0x010F, 2, 300, 9000)),
    )
    yield "EXIF, twice", exif(8, before=struct.pack(">HHIHxx", 0x0112, 3, 1, 3))
    yield "EXIF, cut off", exif(6)[:16]
    yield "EXIF, two values", exif(6, count=2)
    yield "EXIF of nothing", exif(6, count=0)
    yield "EXIF with a wrong head", b"XX" + exif(6)[2:]
    yield "EXIF whose head is the wrong way round", b"MM*\0" + exif(6)[4:]


def _turned() -> Iterator[dict[str, Any]]:
    for name, block in _blocks():
        for kind in ("JPEG", "PNG", "WebP"):
            yield _lying(f"{kind}, {name}", kind, exif=b"Exif\0\0" + block)
    for kind in ("JPEG", "WebP"):
        yield _lying(f"{kind}, XMP alone", kind, xmp=XMP)
        yield _lying(f"{kind}, XMP and EXIF", kind, xmp=XMP, exif=b"Exif\0\0" + exif(3))


def _lying(name: str, kind: str, **options: Any) -> dict[str, Any]:
    plain, told = (_saved(kind, **each) for each in ({}, options))
    expected, found = read_image(plain), read_image(told)
    ways = [way for way, turn in _TURNS.items() if np.array_equal(turn(expected), found)]
    record = {"name": name, "file": base64.b64encode(told).decode(), "refused": False}
    rgb = {"rgb": pack_bytes(found)} if kind == "PNG" else {}
    return record | {"orientation": ways[0]} | rgb


def _saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if kind == "WebP":
        options |= {"lossless": True}
    Image.fromarray(draw_image(24, 17)).save(buffer, kind, **options)
    return buffer.getvalue()
