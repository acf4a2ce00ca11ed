"""Files of one lesion each: the kinds of image that browsers and Pillow may read apart."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dermfuse.analysis.examples import example_images

_ORIENTATION = 0x0112
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def write_pictures(folder: Path) -> list[Path]:
    """Writes ten files as people have them, and returns them by name."""
    return _write(folder, _SAVES)


def write_rarities(folder: Path) -> list[Path]:
    """Writes files that are turned, transparent or deep in rarer ways, and returns them by name."""
    return _write(folder, _RARITIES)


def write_unreadable(folder: Path) -> list[Path]:
    """Writes files that are refused, and returns them by name."""
    return _write(folder, _UNREADABLE)


def png(
    values: NDArray[np.integer[Any]],
    depth: int,
    colour: int,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """Returns a PNG of samples (H, W, C) in its own depth."""
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
    bits = (values.reshape(len(values), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.astype(np.uint8).reshape(len(values), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def exif(orientation: int) -> bytes:
    """Returns an EXIF block, as it is without the name in front."""
    entry = struct.pack(">HHIHxx", _ORIENTATION, 3, 1, orientation)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def _write(folder: Path, saves: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    folder.mkdir(parents=True)
    for name, save in saves.items():
        save(folder / name)
    return sorted(folder.iterdir())


def _drawn(width: int, height: int) -> Image.Image:
    """Returns a drawn image that networks which learnt from dermoscopy take for it."""
    images = example_images()
    with Image.open(images[width % len(images)]) as image:
        return image.resize((width, height), Image.Resampling.BICUBIC)


def _turned(path: Path, orientation: int) -> None:
    _drawn(480, 320).save(path, quality=90, exif=_exif(orientation))


def _transparent(path: Path) -> None:
    image = _drawn(400, 300)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (0, 0, 60, 60))
    alpha.paste(0, (340, 240, 400, 300))
    image.putalpha(alpha)
    image.save(path)


_SAVES: dict[str, Callable[[Path], None]] = {
    "camera.jpg": lambda path: _drawn(1022, 767).save(path, quality=85),
    "cmyk.jpg": lambda path: _drawn(500, 375).convert("CMYK").save(path, quality=92),
    "grey.jpg": lambda path: _drawn(420, 300).convert("L").save(path, quality=90),
    "mirrored.jpg": lambda path: _turned(path, 5),
    "odd.jpg": lambda path: _drawn(333, 251).save(path, quality=75),
    "palette.png": lambda path: _drawn(300, 240).quantize(64).save(path),
    "plain.png": lambda path: _drawn(640, 480).save(path),
    "progressive.jpg": lambda path: _drawn(211, 640).save(path, progressive=True, subsampling=0),
    "rotated.jpg": lambda path: _turned(path, 6),
    "transparent.png": _transparent,
}


def _pixels() -> NDArray[np.uint8]:
    return np.asarray(_drawn(240, 180))


def _keyed(path: Path, values: NDArray[Any], depth: int, colour: int, **options: bool) -> None:
    """Writes a PNG whose left third has the transparent colour, and in which others are near it."""
    values = values.copy()
    values[:, : values.shape[1] // 3] = values[0, 0]
    if depth == 16:
        values[:60, -80:] = values[0, 0] + 1
    key = struct.pack(f">{values.shape[2]}H", *values[0, 0].tolist())
    path.write_bytes(png(values, depth, colour, (b"tRNS", key), **options))


def _grey(depth: int) -> NDArray[np.integer[Any]]:
    levels = np.asarray(_drawn(240, 180).convert("L")).astype(np.uint16)[..., None]
    return levels * 257 if depth == 16 else levels >> (8 - depth)


def _deep() -> NDArray[np.integer[Any]]:
    return _pixels().astype(np.uint16) * 256 + 131  # rounds up, where the upper byte alone is less


def _xmp_png(path: Path) -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    _drawn(240, 180).save(path, pnginfo=info)


def _see_through(path: Path, **options: Any) -> None:
    image = _drawn(240, 180)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path, **options)


def _exif(orientation: int) -> bytes:
    return b"Exif\0\0" + exif(orientation)


_RARITIES: dict[str, Callable[[Path], object]] = {
    "alpha.webp": lambda path: _see_through(path, lossless=True, exact=True),
    "exif-3.webp": lambda path: _drawn(240, 180).save(path, lossless=True, exif=_exif(3)),
    "exif-6-lossy.webp": lambda path: _drawn(240, 180).save(path, quality=90, exif=_exif(6)),
    "exif-7.png": lambda path: _drawn(240, 180).save(path, exif=_exif(7)),
    "exif-8-16-bit.png": lambda path: path.write_bytes(png(_deep(), 16, 2, (b"eXIf", exif(8)))),
    "gamma.png": lambda path: path.write_bytes(
        png(_pixels(), 8, 2, (b"gAMA", struct.pack(">I", 100_000)))
    ),
    "grey-1.png": lambda path: path.write_bytes(png(_grey(1), 1, 0)),
    "grey-2-key.png": lambda path: _keyed(path, _grey(2), 2, 0),
    "grey-4-key-interlaced.png": lambda path: _keyed(path, _grey(4), 4, 0, interlaced=True),
    "grey-16-key.png": lambda path: _keyed(path, _grey(16), 16, 0),
    "palette.bmp": lambda path: _drawn(240, 180).quantize(64).save(path),
    "rgb-8-key.png": lambda path: _keyed(path, _pixels(), 8, 2),
    "rgb-16.png": lambda path: path.write_bytes(png(_deep(), 16, 2)),
    "rgb-16-key.png": lambda path: _keyed(path, _deep(), 16, 2),
    "transparent.gif": lambda path: _drawn(240, 180).quantize(64).save(path, transparency=5),
    "xmp-6.jpg": lambda path: _drawn(240, 180).save(path, quality=95, xmp=XMP),
    "xmp-6.png": _xmp_png,
    "xmp-6.webp": lambda path: _drawn(240, 180).save(path, lossless=True, xmp=XMP),
    "xmp-6-exif-3.jpg": lambda path: _drawn(240, 180).save(path, xmp=XMP, exif=_exif(3)),
}


def _jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    _drawn(640, 480).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def _zeroed(path: Path, **options: Any) -> None:
    whole = _jpeg(**options)
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(4096) + whole[half + 4096 :])


def _of_twelve_bits(path: Path) -> None:
    whole = bytearray(_jpeg())
    whole[whole.index(b"\xff\xc0") + 4] = 12
    path.write_bytes(whole)


def _ended_early(path: Path) -> None:
    whole = _jpeg()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")


def _moving(path: Path) -> None:
    _drawn(240, 180).save(path, save_all=True, append_images=[_drawn(240, 180).rotate(90)])


_UNREADABLE: dict[str, Callable[[Path], object]] = {
    "avif.jpg": lambda path: path.write_bytes(b"\0\0\0\x1cftypavif" + bytes(100)),
    "dicom.jpg": lambda path: path.write_bytes(bytes(128) + b"DICM" + bytes(100)),
    "ended-early.jpg": _ended_early,
    "iphone.jpg": lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
    "jpeg2000.jpg": lambda path: _drawn(240, 180).save(path, "JPEG2000"),
    "moving.gif": _moving,
    "moving.png": _moving,
    "moving.webp": _moving,
    "tiff.jpg": lambda path: _drawn(240, 180).save(path, "TIFF", compression="tiff_lzw"),
    "twelve-bits.jpg": _of_twelve_bits,
    "zeroed.jpg": _zeroed,
    "zeroed-progressive.jpg": lambda path: _zeroed(path, progressive=True),
}
