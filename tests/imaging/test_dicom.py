"""DICOM files give the pixels that were stored; what is not read is refused without a name."""

import logging
import re
import struct
import traceback
import warnings
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import DependencyError, ImageError
from dermfuse.imaging import reading
from dermfuse.imaging.reading import read_any

from ..built_dicom import SECRET, build_file
from . import made
from .made import NOISE

pytest.importorskip("pydicom")
from dermfuse.imaging import dicom

jpeg_ls = pytest.importorskip("jpeg_ls")

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT, BIG, DEFLATED, RLE = (f"{IMPLICIT}.{end}" for end in ("1", "2", "1.99", "5"))
JPEG, JPEG_12, JPEG_LS, J2K, VIDEO = (f"{IMPLICIT}.4.{end}" for end in (50, 51, 80, 90, 102))
YBR, YBR_422 = "YBR_FULL", "YBR_FULL_422"
PLANES = np.moveaxis(NOISE, -1, 0)
GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)  # 0 to 255, three times
DEEP = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
RED = np.full((16, 16, 3), (255, 0, 0), np.uint8)
CODED_RED = np.full((16, 16, 3), (76, 85, 255), np.uint8)  # as YBR
SMOOTH = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "JPEG2000", **options: Any) -> bytes:
    plain = {"no_jp2": True, "irreversible": False} if kind == "JPEG2000" else {}
    return made.encode(pixels, kind, **plain | options)


def rle(*planes: np.ndarray) -> bytes:
    """A frame of PackBits: literal runs of 128 bytes alone."""
    runs = np.stack(planes).astype(np.uint8).reshape(len(planes), -1, 128)
    runs = np.pad(runs, ((0, 0), (0, 0), (1, 0)), constant_values=127)
    starts = [64 + i * runs[0].size for i in range(len(planes))]
    return struct.pack("<16L", len(planes), *starts, *[0] * (15 - len(planes))) + runs.tobytes()


def palette(depth: int, entries: int, first: int, **tables: bytes) -> dict[str, Any]:
    data = {f"{name}PaletteColorLookupTableData": table for name, table in tables.items()}
    descriptor = {"RedPaletteColorLookupTableDescriptor": [entries, first, depth]}
    return {"photometric": "PALETTE COLOR"} | descriptor | data


def read(pixels: np.ndarray, **options: Any) -> np.ndarray:
    return read_any(build_file(pixels, **options))


WHOLE = encode(SMOOTH, "JPEG", quality=95)
JFIF, NAMED = (
    encode(RED, "JPEG", quality=100, subsampling=0, keep_rgb=kept) for kept in (False, True)
)
SILENT = b"\xff\xd8" + JFIF[JFIF.index(b"\xff\xdb") :]
PLAIN, TRANSFORMED = encode(CODED_RED, mct=0), encode(NOISE, mct=1)
COLOURS = (("Red", [9, 20]), ("Green", [1, 30]), ("Blue", [0, 255]), ("Alpha", [255, 0]))
CODED_RUNS = rle(*np.moveaxis(CODED_RED, 2, 0))


@pytest.mark.parametrize(
    ("stored", "options", "expected", "by"),
    [
        *((NOISE, {"syntax": syntax}, NOISE, 0) for syntax in (EXPLICIT, IMPLICIT, DEFLATED)),
        (NOISE, {"preamble": False}, NOISE, 0),
        (NOISE, {"raw": PLANES.tobytes(), "PlanarConfiguration": 1}, NOISE, 0),
        (NOISE, {"syntax": RLE, "frames": [rle(*PLANES)]}, NOISE, 0),
        (NOISE.astype(np.uint16) * 257, {"syntax": BIG}, NOISE, 0),
        (GREY, {}, GREY[..., None], 0),
        (GREY, {"photometric": "MONOCHROME1"}, 255 - GREY[..., None], 0),
        (DEEP, {"syntax": RLE, "frames": [rle(DEEP >> 8, DEEP)]}, DEEP[..., None] / 257, 0.5),
        (CODED_RED, {"photometric": YBR}, RED, 1),
        (CODED_RED, {"photometric": YBR, "syntax": RLE, "frames": [CODED_RUNS]}, RED, 1),
        (CODED_RED, {"photometric": YBR_422, "raw": bytes([76, 149, 85, 255] * 128)},  # Y Y Cb Cr
         [[(254, 0, 0), (255, 73, 73)] * 8], 1),
        # entries of a palette may be packed, and transparent on white
        (np.eye(16, dtype=np.uint8),
         palette(8, 2, 0, **{name: bytes(entries) for name, entries in COLOURS}),
         np.where(np.eye(16)[..., None], 255, (9, 1, 0)), 0),
        (GREY, {"syntax": JPEG_LS, "frames": [bytes(jpeg_ls.encode_array(GREY))]},
         GREY[..., None], 0),
        # fill bytes may stand before a marker
        *((SMOOTH, {"syntax": JPEG, "frames": [frame], "photometric": YBR_422}, read_any(WHOLE), 3)
          for frame in (WHOLE, WHOLE[:2] + b"\xff\xff\xff" + WHOLE[2:])),
        # what a stream says of its colours stands above the header
        *((RED, {"syntax": JPEG, "frames": [frame], "photometric": said}, RED, 3)
          for frame in (JFIF, NAMED) for said in ("RGB", YBR, YBR_422)),
        *((NOISE, {"syntax": J2K, "frames": [TRANSFORMED], "photometric": said}, NOISE, 0)
          for said in ("RGB", YBR, YBR_422, "YBR_RCT", "YBR_ICT")),
        # where it is silent the header decides
        *((RED, {"syntax": JPEG, "frames": [SILENT], "photometric": said}, shown, 2)
          for said, shown in (("RGB", CODED_RED), (YBR, RED))),
        *((CODED_RED, {"syntax": J2K, "frames": [PLAIN], "photometric": said}, shown, 1)
          for said, shown in (("RGB", CODED_RED), ("YBR_RCT", CODED_RED), (YBR, RED))),
        # 8 bits in the stream, 16 in the header; 16 and 12, which count if the values fit
        (GREY.astype(np.uint16), {"syntax": J2K, "frames": [encode(GREY)]}, GREY[..., None], 0),
        *((each, {"syntax": J2K, "frames": [encode(each)], "BitsStored": 12, "HighBit": 11},
           each[..., None] / top * 255, 0.5) for each, top in ((DEEP // 16, 4095), (DEEP, 65535))),
    ],
)  # fmt: skip
def test_every_coding_shows_what_was_stored(
    stored: np.ndarray, options: dict[str, Any], expected: Any, by: float
) -> None:
    assert np.abs(read(stored, **options) - np.asarray(expected, float)).max() <= by


@pytest.mark.parametrize(
    ("first", "kind", "elements", "expected"),
    [
        ([-(2**15), 2**15 - 1, 0], "i2", {}, [0, 255, 128]),
        # with an overlay in the unused bits
        ([0xF000, 0xF800, 0xFFFF], "u2", {"BitsStored": 12, "HighBit": 11}, [0, 128, 255]),
        # 20, 22, 24 in a window from 20 to 24; others follow, of which only the first counts
        ([10, 11, 12, 200], "u2",
         {"WindowCenter": ["22.5", "0"], "WindowWidth": ["5", "1"], "RescaleSlope": "2",
          "RescaleIntercept": "0"}, [0, 128, 255, 255]),
        ([10, 11, 12, 200], "u2",
         {"WindowCenter": "11", "WindowWidth": "2", "VOILUTFunction": "SIGMOID"},
         [30, 128, 225, 255]),
        ([11, 12], "u2", {"WindowCenter": "11.5", "WindowWidth": "1"}, [0, 255]),  # a step
    ],
)  # fmt: skip
def test_grey_uses_its_full_range_or_its_window(
    first: list[int], kind: str, elements: dict[str, Any], expected: list[int]
) -> None:
    stored = np.full((16, 16), first[0], kind)
    stored[0, : len(first)] = first
    assert read(stored, **elements)[0, : len(first), 0].tolist() == expected
    inverted = read(stored, photometric="MONOCHROME1", **elements)
    assert inverted[0, : len(first), 0].tolist() == [255 - level for level in expected]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize(("depth", "scale"), [(8, 1), (16, 257), (16, 1)])
def test_a_palette_is_looked_up(syntax: str, depth: int, scale: int) -> None:
    indices = np.eye(16, dtype=np.uint16) * 2 + 1
    order = ">u2" if syntax == BIG else "<u2"  # 8 bits may be called 16
    tables = {name: (np.array(e) * scale).astype(order).tobytes() for name, e in COLOURS[:3]}
    data = build_file(indices, syntax=syntax, **palette(depth, 2, 2, **tables))
    # as bytes or as numbers: the first entry stands for 2 and below, the second for 3 and above
    numbers = re.sub(rb"(?s)(\x28\0[\1-\3]\x12)OW\0\0(..)\0\0", rb"\1US\2", data)
    assert (numbers != data) is (syntax == EXPLICIT)
    for each in (data, numbers):
        assert read_any(each)[0, :2].tolist() == [[20, 30, 255], [9, 1, 0]]


WINDOW = {"WindowCenter": "5", "WindowWidth": "9"}
FINE, LARGE = NOISE.repeat(2, 0), np.zeros((200, 300, 3), np.uint8)
CODED, NOISY, RUNS = encode(FINE), encode(NOISE, "JPEG", quality=95), rle(*PLANES)
DEPTH = NOISY.index(b"\xff\xc0") + 4


@pytest.mark.parametrize(
    ("pixels", "options", "match"),
    [
        (GREY, {"NumberOfFrames": "2"}, "2 frames"),
        (GREY, {"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels"),
        (GREY, {"Rows": 8}, "16 or more on each side"), (GREY, {"Rows": None}, "holds no image"),
        (GREY, {"PixelData": None}, "no pixel data"), (GREY, {"SamplesPerPixel": 4}, "4 sample"),
        (GREY, {"photometric": "HSV"}, "another colour interpretation"),
        (GREY, {"BitsStored": 1}, "1 bits stored in 8"), (GREY, {"HighBit": 6}, "bit 6 of 8"),
        (GREY, WINDOW | {"WindowWidth": "0"}, "window"),
        (GREY, WINDOW | {"VOILUTFunction": "CUBIC"}, "window"),
        (GREY, {"VOILUTSequence": []}, "lookup table"),
        (NOISE, {"PixelRepresentation": 1}, "signed colours"),
        # palettes that are cut off, of another depth or missing
        *((GREY, palette(*of, **dict.fromkeys(("Red", "Green", "Blue")[:tables], bytes(4))),
           "palette is segmented, cut off or missing")
          for of, tables in (((16, 9, 0), 3), ((12, 2, 0), 3), ((16, 2, 0), 0))),
        # interpretation and length do not fit
        (NOISE, {"photometric": YBR_422, "raw": bytes(2304)},
         "YBR_FULL_422 and 2,304 bytes.*three values per pixel.*1,536"),
        (NOISE, {"raw": bytes(3072)}, "3,072 bytes of pixel data, .* describes 2,304"),
        (NOISE, {"raw": bytes(768)}, "cut off, 768 of 2,304"),
        # streams that are not what the header says, damaged, or without a decoder
        *((NOISE, {"syntax": syntax, "frames": frames}, match)
          for syntax, kind in ((JPEG, "JPEG"), (J2K, "JPEG2000"))
          for frames, match in (
              ([encode(NOISE, kind)] * 2, "2 compressed images, and one frame in the header"),
              ([encode(NOISE, kind)[:1000]], "damaged or cut off"),
              ([encode(LARGE, kind)], r"300 x 200 .* Expected: 32 x 24"),
              ([encode(NOISE[..., 0], kind)], r"1 channel\(s\)\. Expected: 3"),
          )),
        (NOISE, {"syntax": JPEG, "frames": [NOISY[:-300] + b"\xff\xd9"]}, "JPEG image is damaged"),
        (NOISE, {"syntax": JPEG_12, "frames": [NOISY[:DEPTH] + b"\x0c" + NOISY[DEPTH + 1 :]]},
         "a JPEG image of 12 bits per sample"),
        (NOISE, {"syntax": RLE, "frames": [RUNS[:1000]]}, "damaged or cut off"),
        (FINE, {"syntax": J2K, "frames": [CODED[:2000] + bytes(100) + CODED[2100:]]},
         r"JPEG 2000 image is damaged: part .* is blank"),
        (GREY, {"syntax": VIDEO, "frames": [b"\xff\xd8"]},
         "coded as MPEG-4 AVC.*Export the image uncompressed"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused(
    pixels: np.ndarray, options: dict[str, Any], match: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values it is made to write
        data = build_file(pixels, **options)
    with pytest.raises(ImageError, match=match):
        read_any(data)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(ImageError, match=r"coded as JPEG-LS.*pip install -e '\.\[dicom\]'"):
        read(GREY, frames=[b"\xff\xd8"], syntax=JPEG_LS)
    monkeypatch.setattr(reading, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install -e '\.\[dicom\]'"):
        read_any(bytes(128) + b"DICM")


def test_zeros_of_empty_packets_are_no_hole() -> None:
    packets = 3 * 3  # one layer, three resolutions, three channels
    own = {"precinct_size": (32, 32)}
    for options, zeros, hole in (({}, 63, False), ({}, 64, True), (own, 500, False)):
        frame = encode(NOISE, num_resolutions=3, **options)
        start = frame.index(b"\xff\x93") + 2
        assert dicom.has_hole(frame[:start] + bytes(zeros + packets) + b"\x80") is hole


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_a_file_cut_off_anywhere_is_refused(syntax: str) -> None:
    data = build_file(NOISE, syntax=syntax)
    for length in range(132, len(data) - 1, 61):
        with pytest.raises(ImageError):
            read_any(data[:length])


def test_what_is_packed_unpacks_to_no_more_than_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * 100_000  # 12.8 million of 7
    assert (read(GREY, frames=[runs], syntax=RLE) == 7).all()
    monkeypatch.setattr(dicom, "_HEADER_BYTES", 4096)  # of which twice so many come of ten million
    with pytest.raises(ImageError, match=r": [78],\d{3} bytes .* the header describes 256"):
        read(np.zeros((16, 16), np.uint8), raw=bytes(10_000_000), syntax=DEFLATED)


def test_no_fault_quotes_the_patient(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    level = logging.getLogger("pydicom").level
    good = build_file(NOISE)
    bad = [good[:-50], good[:300]]
    bad += [good.replace(b"1.2.840.10008.1.2.1\0", SECRET.encode().ljust(20))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bad += [build_file(NOISE, PhotometricInterpretation=SECRET)]
        bad += [build_file(GREY, WindowCenter="1", WindowWidth="1", VOILUTFunction=SECRET)]
    caplog.clear()  # of what pydicom says while it writes
    for data in bad:
        try:
            read_any(data)
        except ImageError:
            assert SECRET not in traceback.format_exc()
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())
    assert logging.getLogger("pydicom").level == level
