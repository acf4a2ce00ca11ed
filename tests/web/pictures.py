"""Files of one lesion each: the kinds of image that browsers and Pillow may read apart."""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dermfuse.analysis.examples import example_images

from ..imaging.made import encode, png

Save = Callable[[Path], object]

_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def drawn(width: int, height: int) -> Image.Image:
    """A drawn image that networks which learnt from dermoscopy take for it."""
    images = example_images()
    with Image.open(images[width % len(images)]) as image:
        return image.resize((width, height), Image.Resampling.BICUBIC)


def saved(width: int = 240, height: int = 180, mode: str = "RGB", **options: Any) -> Save:
    return lambda path: drawn(width, height).convert(mode).save(path, **options)


def written(make: Callable[..., bytes], *arguments: Any, **options: Any) -> Save:
    return lambda path: path.write_bytes(make(*arguments, **options))


def quantized(width: int = 240, height: int = 180, **options: Any) -> Save:
    return lambda path: drawn(width, height).quantize(64).save(path, **options)


def exif(orientation: int) -> bytes:
    entry = struct.pack(">HHIHxx", 0x0112, 3, 1, orientation)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def with_corners(path: Path) -> None:
    image = drawn(400, 300)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (0, 0, 60, 60))
    alpha.paste(0, (340, 240, 400, 300))
    image.putalpha(alpha)
    image.save(path)


PICTURES: Mapping[str, Save] = {
    "camera.jpg": saved(1022, 767, quality=85),
    "cmyk.jpg": saved(500, 375, "CMYK", quality=92),
    "grey.jpg": saved(420, 300, "L", quality=90),
    "mirrored.jpg": saved(480, 320, quality=90, exif=exif(5)),
    "odd.jpg": saved(333, 251, quality=75),
    "palette.png": quantized(300, 240),
    "plain.png": saved(640, 480),
    "progressive.jpg": saved(211, 640, progressive=True, subsampling=0),
    "rotated.jpg": saved(480, 320, quality=90, exif=exif(6)),
    "transparent.png": with_corners,
}
"""As people have them."""


def samples(mode: str, depth: int) -> np.ndarray:
    levels = np.asarray(drawn(240, 180).convert(mode)).reshape(180, 240, -1).astype(np.uint16)
    if depth == 16:
        return levels * 257 if mode == "L" else levels * 256 + 131  # rounds up
    return levels >> (8 - depth)


def packed(values: np.ndarray, depth: int, *chunks: tuple[bytes, bytes], interlaced: bool) -> bytes:
    rows = []
    for x, y, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = values[y::dy, x::dx]
        bits = (part.reshape(len(part), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
        lines = np.packbits(bits.astype(np.uint8).reshape(len(part), -1), axis=1)
        rows += [b"\0" + line.tobytes() for line in lines]
    height, width, channels = values.shape
    data = png((width, height), depth, 2 if channels == 3 else 0, rows, *chunks)
    if not interlaced:
        return data
    head = data[12:28] + b"\x01"  # the last byte of its header
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def deep(mode: str, depth: int, *chunks: tuple[bytes, bytes], keyed: bool = False) -> Save:
    """A PNG; keyed, its left third has the transparent colour, and others are near it."""

    def save(path: Path) -> None:
        values, keys = samples(mode, depth), []
        if keyed:
            values[:, :80] = values[0, 0]
            if depth == 16:
                values[:60, -80:] = values[0, 0] + 1
            keys = [(b"tRNS", struct.pack(f">{values.shape[2]}H", *values[0, 0].tolist()))]
        interlaced = "interlaced" in path.name
        path.write_bytes(packed(values, depth, *chunks, *keys, interlaced=interlaced))

    return save


def with_xmp(path: Path) -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    drawn(240, 180).save(path, pnginfo=info)


def see_through(path: Path) -> None:
    image = drawn(240, 180)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path, lossless=True, exact=True)


RARITIES: Mapping[str, Save] = {
    "alpha.webp": see_through,
    "exif-3.webp": saved(lossless=True, exif=exif(3)),
    "exif-6-lossy.webp": saved(quality=90, exif=exif(6)),
    "exif-7.png": saved(exif=exif(7)),
    "exif-8-16-bit.png": deep("RGB", 16, (b"eXIf", exif(8)[6:])),
    "gamma.png": deep("RGB", 8, (b"gAMA", struct.pack(">I", 100_000))),
    "grey-1.png": deep("L", 1),
    "grey-2-key.png": deep("L", 2, keyed=True),
    "grey-4-key-interlaced.png": deep("L", 4, keyed=True),
    "grey-16-key.png": deep("L", 16, keyed=True),
    "palette.bmp": quantized(),
    "rgb-8-key.png": deep("RGB", 8, keyed=True),
    "rgb-16.png": deep("RGB", 16),
    "rgb-16-key.png": deep("RGB", 16, keyed=True),
    "transparent.gif": quantized(transparency=5),
    "xmp-6.jpg": saved(quality=95, xmp=XMP),
    "xmp-6.png": with_xmp,
    "xmp-6.webp": saved(lossless=True, xmp=XMP),
    "xmp-6-exif-3.jpg": saved(xmp=XMP, exif=exif(3)),
}
"""Turned, transparent or deep in rarer ways."""


def jpeg(**options: Any) -> bytes:
    return encode(drawn(640, 480), "JPEG", quality=90, **options)


def zeroed(**options: Any) -> bytes:
    whole = jpeg(**options)
    half = len(whole) // 2
    return whole[:half] + bytes(4096) + whole[half + 4096 :]


def of_twelve_bits() -> bytes:
    whole = bytearray(jpeg())
    whole[whole.index(b"\xff\xc0") + 4] = 12
    return bytes(whole)


def ended_early() -> bytes:
    return jpeg()[: len(jpeg()) // 2] + b"\xff\xd9"


def moving(path: Path) -> None:
    drawn(240, 180).save(path, save_all=True, append_images=[drawn(240, 180).rotate(90)])


UNREADABLE: Mapping[str, Save] = {
    "avif.jpg": written(bytes, b"\0\0\0\x1cftypavif" + bytes(100)),
    "dicom.jpg": written(bytes, bytes(128) + b"DICM" + bytes(100)),
    "ended-early.jpg": written(ended_early),
    "iphone.jpg": written(bytes, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
    "jpeg2000.jpg": saved(format="JPEG2000"),
    "moving.gif": moving,
    "moving.png": moving,
    "moving.webp": moving,
    "tiff.jpg": saved(format="TIFF", compression="tiff_lzw"),
    "twelve-bits.jpg": written(of_twelve_bits),
    "zeroed.jpg": written(zeroed),
    "zeroed-progressive.jpg": written(zeroed, progressive=True),
}
"""Refused."""


def write_pictures(folder: Path, kinds: Mapping[str, Save] = PICTURES) -> list[Path]:
    folder.mkdir(parents=True)
    for name, save in kinds.items():
        save(folder / name)
    return sorted(folder.iterdir())
