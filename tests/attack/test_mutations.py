"""Damaged files of every kind: pixels or one refusal, whatever a decoder raises; seeded."""

import io
import random
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.isolation import Decoders
from dermfuse.errors import DecoderError, DermfuseError
from dermfuse.imaging.reading import Read, read_any

Build = Callable[..., bytes]
_MOST_SECONDS = 10
_TIFF = ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits")


@pytest.fixture(scope="module")
def whole(build_dicom: Build) -> dict[str, bytes]:
    """A small file of every kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    palette, other = image.convert("P"), Image.fromarray(255 - pixels).convert("P")
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    files = {
        "jpeg": _encode(image, "JPEG"),
        "jpeg progressive": _encode(image, "JPEG", progressive=True),
        "jpeg cmyk": _encode(image.convert("CMYK"), "JPEG"),
        "png": _encode(image, "PNG"),
        "png palette": _encode(palette, "PNG", transparency=3),
        "png bilevel": _encode(image.convert("1"), "PNG"),
        "png alpha": _encode(image.convert("RGBA"), "PNG"),
        "png 16 bit": _encode(deep, "PNG"),
        "bmp": _encode(image, "BMP"),
        "bmp palette": _encode(palette, "BMP"),
        "gif": _encode(palette, "GIF"),
        "gif frames": _encode(palette, "GIF", save_all=True, append_images=[other]),
        "webp": _encode(image, "WEBP"),
        "webp lossless": _encode(image, "WEBP", lossless=True),
        "tiff palette": _encode(palette, "TIFF"),
        "tiff fax": _encode(image.convert("1"), "TIFF", compression="group4"),
    }
    files |= _dicom(build_dicom, pixels)
    return files | {f"tiff {each}": _encode(image, "TIFF", compression=each) for each in _TIFF}


def _dicom(build: Build, pixels: np.ndarray) -> dict[str, bytes]:
    """One of every coding."""
    grey, uid = pixels[..., 0], "1.2.840.10008.1.2"
    runs = b"".join(bytes([len(row) - 1]) + row.tobytes() for row in grey)
    jpeg, jpeg_2000 = (_encode(Image.fromarray(pixels), kind) for kind in ("JPEG", "JPEG2000"))
    jpeg_2000 = jpeg_2000[jpeg_2000.index(b"\xff\x4f\xff\x51") :]
    return {
        "dicom": build(pixels),
        "dicom implicit": build(grey, syntax=uid, preamble=False),
        "dicom big": build(grey.astype(np.uint16) * 257, syntax=f"{uid}.2"),
        "dicom deflated": build(pixels, syntax=f"{uid}.1.99"),
        "dicom rle": build(
            grey, syntax=f"{uid}.5", frames=[struct.pack("<16L", 1, 64, *[0] * 14) + runs]
        ),
        "dicom jpeg": build(
            pixels, syntax=f"{uid}.4.50", frames=[jpeg], photometric="YBR_FULL_422"
        ),
        "dicom j2k": build(pixels, syntax=f"{uid}.4.90", frames=[jpeg_2000], photometric="YBR_RCT"),
    }


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _mutated(data: bytes, draw: random.Random) -> bytes:
    """A file with one to eight faults, most of them near its start, where the headers are."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if not changed:
            break
        at = draw.randrange(min(len(changed), draw.choice((40, 200, 10**6))))
        fault = draw.randrange(6)
        if fault == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif fault == 1:
            changed[at] = draw.choice((0, 1, 127, 128, 255))
        elif fault == 2:
            del changed[at : at + draw.choice((1, 2, 4, 16, 100))]
        elif fault == 3:
            changed[at:at] = draw.randbytes(draw.choice((1, 2, 4, 16)))
        elif fault == 4:
            del changed[at:]
        else:
            start = draw.randrange(len(changed))
            changed[at : at + 8] = changed[start : start + 8]
    return bytes(changed)


def _with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks' checksums are right: its decoder meets the faults themselves."""
    changed, at = bytearray(png), 8
    while at + 12 <= len(changed):
        end = at + 8 + int.from_bytes(changed[at : at + 4])
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(changed[at + 4 : end]))
        at = end + 4
    return bytes(changed)


def _foreign(whole: dict[str, bytes], read: Read, *, seed: int, count: int) -> list[str]:
    """Reads so many damaged files and returns what is neither pixels nor a refusal, or late."""
    draw, found = random.Random(seed), []
    kinds = list(whole)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        data = _mutated(whole[kind], draw)
        if kind.startswith("png") and draw.random() < 0.7:
            data = _with_checksums(data)
        start = time.monotonic()
        try:
            pixels = read(data)
            assert pixels.dtype == np.uint8
            assert pixels.shape[2:] == (3,)
        except DecoderError as error:
            found.append(f"{kind} number {number}: {error}")
        except DermfuseError as error:
            if "\n" in str(error):
                found.append(f"{kind} number {number}: several lines")
        except Exception as error:
            found.append(f"{kind} number {number}: {error!r}")
        if time.monotonic() - start > _MOST_SECONDS:
            found.append(f"{kind} number {number}: too slow")
    return found


def test_whole_files_are_read(whole: dict[str, bytes]) -> None:
    for kind, data in whole.items():
        if kind != "gif frames":
            assert read_any(data).shape == (20, 24, 3), kind


def test_damaged_files_give_pixels_or_one_refusal(whole: dict[str, bytes]) -> None:
    assert _foreign(whole, read_any, seed=1, count=3000) == []


def test_damaged_files_end_no_decoder(whole: dict[str, bytes]) -> None:
    with Decoders(1) as decoders:
        assert _foreign(whole, decoders.read, seed=7, count=500) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_30_000_damaged_files_end_no_decoder(whole: dict[str, bytes], seed: int) -> None:
    with Decoders(1) as decoders:
        assert _foreign(whole, decoders.read, seed=seed, count=6000) == []
