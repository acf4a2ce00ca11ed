"""Damaged files of every kind: pixels or one refusal, whatever a decoder raises; seeded."""

import random
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.isolation import Decoders
from dermfuse.errors import DecoderError, DermfuseError
from dermfuse.imaging.reading import Read, read_any

from ..built_dicom import BuildDicom
from ..imaging.made import encode

_MOST_SECONDS = 10


@pytest.fixture(scope="module")
def whole(build_dicom: BuildDicom) -> dict[str, bytes]:
    """A small file of every kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    image, uid, grey = Image.fromarray(pixels), "1.2.840.10008.1.2", pixels[..., 0]
    palette, other, fax = image.convert("P"), Image.fromarray(255 - pixels), image.convert("1")
    deep = grey.astype(np.uint16) * 257
    jpeg, jpeg_2000 = encode(image, "JPEG"), encode(image, "JPEG2000", no_jp2=True)
    runs = b"".join(bytes([len(row) - 1]) + row.tobytes() for row in grey)
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + runs
    return {
        "jpeg": jpeg,
        "jpeg progressive": encode(image, "JPEG", progressive=True),
        "jpeg cmyk": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image),
        "png palette": encode(palette, transparency=3),
        "png bilevel": encode(fax),
        "png alpha": encode(image.convert("RGBA")),
        "png 16 bit": encode(deep),
        "bmp": encode(image, "BMP"),
        "bmp palette": encode(palette, "BMP"),
        "gif": encode(palette, "GIF"),
        "gif frames": encode(palette, "GIF", save_all=True, append_images=[other.convert("P")]),
        "webp": encode(image, "WEBP"),
        "webp lossless": encode(image, "WEBP", lossless=True),
        "tiff palette": encode(palette, "TIFF"),
        "tiff fax": encode(fax, "TIFF", compression="group4"),
        **{f"tiff {each}": encode(image, "TIFF", compression=each)
           for each in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits")},
        "dicom": build_dicom(pixels),
        "dicom implicit": build_dicom(grey, syntax=uid, preamble=False),
        "dicom big": build_dicom(deep, syntax=f"{uid}.2"),
        "dicom deflated": build_dicom(pixels, syntax=f"{uid}.1.99"),
        "dicom rle": build_dicom(grey, syntax=f"{uid}.5", frames=[runs]),
        "dicom jpeg": build_dicom(
            pixels, syntax=f"{uid}.4.50", frames=[jpeg], photometric="YBR_FULL_422"),
        "dicom j2k": build_dicom(
            pixels, syntax=f"{uid}.4.90", frames=[jpeg_2000], photometric="YBR_RCT"),
    }  # fmt: skip


def _mutated(data: bytes, draw: random.Random) -> bytes:
    """A file with one to eight faults, most of them near its start, where the headers are."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if not changed:
            break
        at = draw.randrange(min(len(changed), draw.choice((40, 200, 10**6))))
        start, few = draw.randrange(len(changed)), draw.choice((1, 2, 4, 16))
        removed, put = draw.choice([
            (1, bytes([changed[at] ^ 1 << draw.randrange(8)])),
            (1, bytes([draw.choice((0, 1, 127, 128, 255))])),
            (draw.choice((few, 100)), b""),
            (0, draw.randbytes(few)),
            (len(changed), b""),
            (8, bytes(changed[start : start + 8])),
        ])  # fmt: skip
        changed[at : at + removed] = put
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


@pytest.mark.parametrize(
    ("seed", "count"),
    [(7, 500), *(pytest.param(seed, 6000, marks=pytest.mark.slow) for seed in range(2, 7))],
)
def test_damaged_files_end_no_decoder(whole: dict[str, bytes], seed: int, count: int) -> None:
    with Decoders(1) as decoders:
        assert _foreign(whole, decoders.read, seed=seed, count=count) == []
