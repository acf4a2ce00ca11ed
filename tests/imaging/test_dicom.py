"""DICOM files give the pixels that were stored; what is not read is refused without a name."""

import io
import logging
import traceback
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DependencyError, ImageError
from dermfuse.imaging import reading
from dermfuse.imaging.limits import MAX_PIXELS
from dermfuse.imaging.reading import read_any

from ..built_dicom import SECRET, build_file
from . import made

pytest.importorskip("pydicom")
from dermfuse.imaging.dicom import Layout, has_hole, to_display, unpack_bits

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
JPEG_LS, J2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
VIDEO = "1.2.840.10008.1.2.4.102"

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)  # 0 to 255, three times
RED = np.full((16, 16, 3), (255, 0, 0), np.uint8)
RED_YBR = np.full((16, 16, 3), (76, 85, 255), np.uint8)


def encode(pixels: np.ndarray, kind: str = "JPEG2000", **options: Any) -> bytes:
    plain = {"no_jp2": True, "irreversible": False} if kind == "JPEG2000" else {}
    return made.encode(pixels, kind, **plain | options)


def rle(*planes: np.ndarray) -> bytes:
    """A frame of PackBits, literal runs alone."""
    segments = []
    for plane in planes:
        data = plane.astype(np.uint8).tobytes()
        runs = [data[i : i + 128] for i in range(0, len(data), 128)]
        segments.append(b"".join(bytes([len(run) - 1]) + run for run in runs))
        segments[-1] += bytes(len(segments[-1]) % 2)
    offsets = np.cumsum([64, *(len(segment) for segment in segments[:-1])])
    header = np.zeros(16, "<u4")
    header[: 1 + len(segments)] = [len(segments), *offsets]
    return header.tobytes() + b"".join(segments)


def palette(
    tables: dict[str, bytes], entries: int, depth: int, *, first: int = 0
) -> dict[str, Any]:
    """The elements of a palette, which has a descriptor for each primary."""
    names = ("Red", "Green", "Blue")
    descriptors = {
        f"{name}PaletteColorLookupTableDescriptor": [entries, first, depth] for name in names
    }
    return descriptors | {
        f"{name}PaletteColorLookupTableData": data for name, data in tables.items()
    }


def read(pixels: np.ndarray, frame: bytes | None = None, **options: Any) -> np.ndarray:
    """What is read of a file that is built so; a frame is filled up to an even length."""
    if frame is not None:
        options["frames"] = [frame + bytes(len(frame) % 2)]
    return read_any(build_file(pixels, **options))


def near(pixels: np.ndarray, expected: Any, *, by: int = 1) -> bool:
    return bool(np.abs(pixels.astype(int) - expected).max() <= by)


class TestPixels:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
    def test_uncompressed_rgb_keeps_every_pixel(self, syntax: str) -> None:
        wide = syntax == BIG  # words of two bytes are swapped, so that bytes are written as OB
        stored = NOISE.astype(np.uint16) * 257 if wide else NOISE
        assert np.array_equal(read(stored, syntax=syntax), NOISE)

    def test_layouts_of_rgb_are_told_apart(self) -> None:
        planes = np.ascontiguousarray(np.moveaxis(NOISE, -1, 0)).tobytes()
        for layout in ({"preamble": False}, {"raw": planes, "PlanarConfiguration": 1}):
            assert np.array_equal(read(NOISE, **layout), NOISE)

    def test_grey_fills_the_three_channels_and_monochrome1_is_inverted(self) -> None:
        assert np.array_equal(read(GREY), np.stack([GREY] * 3, axis=-1))
        inverted = read(GREY, photometric="MONOCHROME1")
        assert np.array_equal(inverted[..., 0], 255 - GREY)

    def test_depths_use_their_full_range(self) -> None:
        twelve = np.full((16, 16), 0xF000, np.uint16)  # an overlay in the unused bits
        twelve[0, :3] += np.array([0, 2048, 4095], np.uint16)
        pixels = read(twelve, BitsStored=12, HighBit=11)
        assert pixels[0, :4, 0].tolist() == [0, 128, 255, 0]
        signed = np.full((16, 16), -(2**15), np.int16)
        signed[0, :2] = [2**15 - 1, 0]
        assert read(signed)[0, :3, 0].tolist() == [255, 128, 0]
        colours = np.full((16, 16, 3), (65535, 257, 0), np.uint16)
        assert read(colours)[3, 3].tolist() == [255, 1, 0]

    @pytest.mark.parametrize(
        ("elements", "expected"),
        [
            # 20, 22, 24 in a window from 20 to 24; others follow, of which only the first counts
            ({"WindowCenter": ["22.5", "0"], "WindowWidth": ["5", "1"], "RescaleSlope": "2",
              "RescaleIntercept": "0"}, [0, 128, 255, 255]),
            ({"WindowCenter": "11", "WindowWidth": "2", "VOILUTFunction": "LINEAR_EXACT"},
             [0, 128, 255, 255]),
            ({"WindowCenter": "11", "WindowWidth": "2", "VOILUTFunction": "SIGMOID"},
             [30, 128, 225, 255]),
            ({"WindowCenter": "11.5", "WindowWidth": "1"}, [0, 0, 255, 255]),  # a step
        ],
    )  # fmt: skip
    def test_a_window_is_applied_after_rescaling(
        self, elements: dict[str, Any], expected: list[int]
    ) -> None:
        stored = np.zeros((16, 16), np.uint16)
        stored[0, :4] = [10, 11, 12, 200]
        assert read(stored, **elements)[0, :4, 0].tolist() == expected
        inverted = read(stored, photometric="MONOCHROME1", **elements)
        assert inverted[0, :4, 0].tolist() == [255 - level for level in expected]

    def test_ybr_becomes_rgb(self) -> None:
        assert near(read(RED_YBR, photometric="YBR_FULL")[0, 0], (254, 0, 0))
        raw = bytes([76, 149, 85, 255]) * (16 * 8)  # Y1 Y2 Cb Cr
        pixels = read(RED_YBR, raw=raw, photometric="YBR_FULL_422")
        assert near(pixels[0, :2], [(254, 0, 0), (255, 73, 73)])


class TestPalettes:
    COLOURS = (("Red", [9, 20]), ("Green", [1, 30]), ("Blue", [0, 255]))

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
    @pytest.mark.parametrize(("depth", "scale"), [(8, 1), (16, 257), (16, 1)])
    def test_indices_are_looked_up(self, syntax: str, depth: int, scale: int) -> None:
        indices = np.zeros((16, 16), np.uint16)
        indices[0, :3] = [0, 1, 2]
        order = ">u2" if syntax == BIG else "<u2"  # 8 bits may be called 16
        tables = {name: (np.array(e) * scale).astype(order).tobytes() for name, e in self.COLOURS}
        elements = palette(tables, 2, depth, first=1)
        data = build_file(indices, photometric="PALETTE COLOR", syntax=syntax, **elements)
        # the first entry stands for 0 and 1, the second for 2 and above
        assert read_any(data)[0, :3].tolist() == [[9, 1, 0], [9, 1, 0], [20, 30, 255]]

    def test_packed_entries_and_transparency_on_white(self) -> None:
        indices = np.zeros((16, 16), np.uint8)
        indices[0, 0] = 1
        tables = {name: bytes(entries) for name, entries in (*self.COLOURS, ("Alpha", [255, 0]))}
        data = build_file(indices, photometric="PALETTE COLOR", **palette(tables, 2, 8))
        assert read_any(data)[0, :2].tolist() == [[255, 255, 255], [9, 1, 0]]

    @pytest.mark.parametrize(("entries", "depth"), [(9, 16), (2, 12), (0, 0)])
    def test_one_cut_off_of_another_depth_or_missing_is_refused(
        self, entries: int, depth: int
    ) -> None:
        tables = {name: bytes(4) for name, _ in self.COLOURS}
        elements = palette(tables, entries, depth) if depth else {}
        with pytest.raises(ImageError, match="palette is segmented, cut off or missing"):
            read(GREY, photometric="PALETTE COLOR", **elements)

    def test_entries_written_as_numbers_are_read(self) -> None:
        from pydicom.dataset import Dataset

        header = Dataset()
        header.PhotometricInterpretation = "PALETTE COLOR"
        for name in ("Red", "Green", "Blue"):
            header.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
            header.add_new(f"{name}PaletteColorLookupTableData", "US", [257, 65535])
        stored = np.array([[0, 1]], np.uint8)
        layout = Layout(1, 2, 1, "PALETTE COLOR", 8, 8, signed=False, planar=False)
        shown = to_display(stored, header, layout, little_endian=True, name="it")
        assert shown.tolist() == [[[1, 1, 1], [255, 255, 255]]]


class TestRunLengths:
    def test_of_rgb_of_sixteen_bits_and_of_ybr(self) -> None:
        frame = rle(*np.moveaxis(NOISE, -1, 0))
        assert np.array_equal(read(NOISE, frame, syntax=RLE), NOISE)
        stored = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
        data = build_file(stored, syntax=RLE, frames=[rle(stored >> 8, stored)])
        assert np.array_equal(read_any(data)[..., 0], np.rint(stored / 65535 * 255))
        frame = rle(*np.moveaxis(RED_YBR, -1, 0))
        pixels = read(RED_YBR, frame, syntax=RLE, photometric="YBR_FULL")
        assert near(pixels[0, 0], (254, 0, 0))

    @pytest.mark.parametrize(
        ("segment", "expected"),
        [
            (b"\x01ab", b"ab"),
            (b"\x81a\x81b", b"a" * 128 + b"b" * 22),  # what goes beyond the length is dropped
            (b"\x80\x80\x00a", b"a"),  # 128 is no operation
            (b"\x02abc\xfez", b"abczzz"),
            (b"\x05ab", None),
            (b"", None),
        ],
    )
    def test_codes_by_hand(self, segment: bytes, expected: bytes | None) -> None:
        if expected is None:
            with pytest.raises(ValueError, match="not enough"):
                unpack_bits(segment, 6)
        else:
            assert unpack_bits(segment, len(expected)).tobytes() == expected

    def test_what_unpacks_to_too_much_stops_at_the_image(self) -> None:
        header = np.zeros(16, "<u4")
        header[:2] = 1, 64
        frame = header.tobytes() + b"\x81\x07" * 100_000  # 12.8 million bytes of 7
        assert (read(GREY, frame, syntax=RLE) == 7).all()


class TestCompressed:
    def test_jpeg_looks_as_its_file_does(self) -> None:
        smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
        frame = encode(smooth, "JPEG", quality=95)
        filled = frame[:2] + b"\xff\xff\xff" + frame[2:]  # fill bytes before a marker
        for each in (frame, filled):
            pixels = read(smooth, each, syntax=JPEG, photometric="YBR_FULL_422")
            assert near(pixels, read_any(frame), by=3)

    @pytest.mark.parametrize(
        "photometric", ["YBR_RCT", "YBR_FULL", "YBR_FULL_422", "RGB", "YBR_ICT"]
    )
    def test_a_component_transform_makes_jpeg_2000_rgb(self, photometric: str) -> None:
        frame = encode(NOISE, mct=1)
        pixels = read(NOISE, frame, syntax=J2K, photometric=photometric)
        assert np.array_equal(pixels, NOISE)

    @pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
    @pytest.mark.parametrize("marker", ["JFIF", "Adobe 0", "Adobe 1", "names"])
    def test_a_jpegs_markers_decide_about_its_colours(self, photometric: str, marker: str) -> None:
        kept = marker in ("Adobe 0", "names")
        frame = encode(RED, "JPEG", quality=100, subsampling=0, keep_rgb=kept)
        if marker.startswith("Adobe"):
            adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([int(marker[-1])])
            start = frame.index(b"\xff\xdb")  # nothing but the quantization tables and what follows
            changed = bytearray(b"\xff\xd8" + adobe + frame[start:])
            at, scan = changed.index(b"\xff\xc0") + 10, changed.index(b"\xff\xda") + 5
            changed[at : at + 9 : 3] = changed[scan : scan + 6 : 2] = bytes([1, 2, 3])
            frame = bytes(changed)
        pixels = read(RED, frame, syntax=JPEG, photometric=photometric)
        assert near(pixels, RED, by=3)

    @pytest.mark.parametrize(
        ("photometric", "expected"), [("RGB", (76, 85, 255)), ("YBR_FULL", (254, 0, 0))]
    )
    def test_where_a_stream_is_silent_the_header_decides(
        self, photometric: str, expected: tuple[int, ...]
    ) -> None:
        frame = encode(RED, "JPEG", quality=100, subsampling=0)
        silent = b"\xff\xd8" + frame[frame.index(b"\xff\xdb") :]
        assert near(read(RED, silent, syntax=JPEG, photometric=photometric), expected, by=2)
        frame = encode(RED_YBR, mct=0)  # no component transform
        assert near(read(RED_YBR, frame, syntax=J2K, photometric=photometric), expected)
        assert near(read(RED_YBR, frame, syntax=J2K, photometric="YBR_RCT"), (76, 85, 255))

    @pytest.mark.parametrize(
        ("stored", "coded", "elements", "top"),
        [
            (GREY.astype(np.uint16), GREY, {}, 255),  # 8 bits in the stream, 16 in the header
            # of 12 bits, in a stream of 16; the header counts if the values fit
            (GREY.astype(np.uint16) * 16, None, {"BitsStored": 12, "HighBit": 11}, 4095),
            (GREY.astype(np.uint16) * 256, None, {"BitsStored": 12, "HighBit": 11}, 65535),
        ],
    )
    def test_the_streams_depth_scales_grey(
        self, stored: np.ndarray, coded: np.ndarray | None,
        elements: dict[str, Any], top: int,
    ) -> None:  # fmt: skip
        frame = encode(stored if coded is None else coded)
        pixels = read(stored, frame, syntax=J2K, **elements)
        assert np.array_equal(pixels[..., 0], np.rint(stored / top * 255))

    def test_jpeg_ls_keeps_every_pixel(self) -> None:
        jpeg_ls = pytest.importorskip("jpeg_ls")
        frame = bytes(jpeg_ls.encode_array(GREY))
        pixels = read_any(build_file(GREY, syntax=JPEG_LS, frames=[frame + bytes(len(frame) % 2)]))
        assert np.array_equal(pixels[..., 0], GREY)

    @pytest.mark.parametrize(
        ("syntax", "match"),
        [
            (JPEG_LOSSLESS, "JPEG Lossless.*Export the image uncompressed"),
            (VIDEO, "MPEG-4 AVC.*Export the image uncompressed"),
            (JPEG_LS, r"JPEG-LS.*pip install -e '\.\[dicom\]'"),
        ],
    )
    def test_a_coding_without_a_decoder_is_named(
        self, monkeypatch: pytest.MonkeyPatch, syntax: str, match: str
    ) -> None:
        from pydicom.pixels.decoders.base import Decoder

        monkeypatch.setattr(Decoder, "is_available", False)
        with pytest.raises(ImageError, match=f"coded as {match}"):
            read(GREY, syntax=syntax, frames=[b"\xff\xd8"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("elements", "match"),
        [
            ({"NumberOfFrames": "2"}, "2 frames"),
            ({"NumberOfFrames": "-1"}, "-1 frames"),
            ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels"),
            ({"Rows": 1000, "Columns": 1000, "NumberOfFrames": "101"}, "101 frames"),
            ({"Rows": 8}, "16 or more on each side"),
            ({"Rows": None}, "holds no image"),
            ({"PixelData": None}, "no pixel data"),
            ({"PhotometricInterpretation": "HSV"}, "another colour interpretation"),
            ({"PhotometricInterpretation": "RGB"}, "1 sample.* and RGB"),
            ({"SamplesPerPixel": 4}, "4 sample"),
            ({"BitsStored": 1}, "1 bits stored in 8"),
            ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits stored"),
            ({"HighBit": 6}, "end at bit 6 of 8"),
            ({"WindowCenter": "5", "WindowWidth": "0"}, "window"),
            ({"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "CUBIC"}, "window"),
            ({"RescaleSlope": "nan", "WindowCenter": "5", "WindowWidth": "9"}, "window|damaged"),
            ({"VOILUTSequence": []}, "lookup table"),
            ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PixelRepresentation": 1},
             "signed colours"),
        ],
    )  # fmt: skip
    def test_what_is_not_read_is_refused_by_its_header(
        self, elements: dict[str, Any], match: str
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values it is made to write
            data = build_file(GREY, **elements)
        with pytest.raises(ImageError, match=match):
            read_any(data)

    @pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEG), ("JPEG2000", J2K)])
    def test_a_compressed_image_that_is_not_its_headers(self, kind: str, syntax: str) -> None:
        frame = encode(NOISE, kind)
        for frames, match in (
            ([frame, frame], "2 compressed images, and one frame in the header"),
            ([frame[: len(frame) // 4 * 2]], "damaged or cut off"),
            ([encode(np.zeros((200, 300, 3), np.uint8), kind)], r"300 x 200 .* Expected: 32 x 24"),
            ([encode(NOISE[..., 0], kind)], r"1 channel\(s\)\. Expected: 3"),
        ):
            with pytest.raises(ImageError, match=match):
                read(NOISE, syntax=syntax, frames=frames)

    def test_damage_inside(self) -> None:
        frame = encode(NOISE, "JPEG", quality=95)
        frame = frame[: len(frame) - 300] + b"\xff\xd9"
        with pytest.raises(ImageError, match="the JPEG image is damaged or cut off"):
            read_any(build_file(NOISE, syntax=JPEG, frames=[frame + bytes(len(frame) % 2)]))
        frame = rle(*np.moveaxis(NOISE, -1, 0))
        with pytest.raises(ImageError, match="damaged or cut off"):
            read(NOISE, frame[: len(frame) // 4 * 2], syntax=RLE)
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        frame = encode(pixels)
        middle = len(frame) // 2
        holed = frame[:middle] + bytes(100) + frame[middle + 100 :]
        Image.open(io.BytesIO(holed)).load()  # Pillow says nothing
        with pytest.raises(ImageError, match=r"JPEG 2000 image is damaged: part .* is blank"):
            read(pixels, holed, syntax=J2K)

    def test_zeros_of_empty_packets_are_no_hole(self) -> None:
        frame = encode(NOISE, num_resolutions=3)
        assert not has_hole(frame)
        start = frame.index(b"\xff\x93") + 2
        packets = 3 * 3  # one layer, three resolutions, three channels
        assert not has_hole(frame[:start] + bytes(63 + packets) + b"\x80")
        assert has_hole(frame[:start] + bytes(64 + packets) + b"\x80")
        cut = encode(NOISE, precinct_size=(32, 32))
        assert not has_hole(cut[: cut.index(b"\xff\x93") + 2] + bytes(500))

    def test_a_jpeg_of_twelve_bits_is_named(self) -> None:
        frame = bytearray(encode(NOISE, "JPEG"))
        frame[frame.index(b"\xff\xc0") + 4] = 12
        data = build_file(NOISE, syntax="1.2.840.10008.1.2.4.51", frames=[bytes(frame)])
        with pytest.raises(ImageError, match="a JPEG image of 12 bits per sample"):
            read_any(data)

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
    def test_a_file_cut_off_anywhere(self, syntax: str) -> None:
        data = build_file(NOISE, syntax=syntax)
        for length in range(132, len(data) - 1, 61):
            with pytest.raises(ImageError):
                read_any(data[:length])

    @pytest.mark.parametrize(
        ("photometric", "values", "match"),
        [
            ("YBR_FULL_422", 3, "YBR_FULL_422 and 2,304 bytes.*three values per pixel.*1,536"),
            ("YBR_FULL", 2, "YBR_FULL and 1,536 bytes.*those are YBR_FULL_422.*2,304"),
            ("RGB", 4, "3,072 bytes of pixel data, of which the header describes 2,304"),
            ("RGB", 1, "cut off, 768 of 2,304"),
        ],
    )
    def test_interpretation_and_length_that_do_not_fit(
        self, photometric: str, values: int, match: str
    ) -> None:
        data = build_file(NOISE, photometric=photometric, raw=bytes(24 * 32 * values))
        with pytest.raises(ImageError, match=match):
            read_any(data)

    def test_a_deflated_file_inflates_to_no_more_than_its_image(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dermfuse.imaging import dicom

        monkeypatch.setattr(dicom, "_HEADER_BYTES", 4096)
        data = build_file(np.zeros((16, 16), np.uint8), raw=bytes(10_000_000), syntax=DEFLATED)
        _, body = dicom._split(data, "it")
        assert len(dicom._inflate(body, "it", MAX_PIXELS)) == 2 * 4096 + 256
        with pytest.raises(ImageError, match="of which the header describes 256"):
            read_any(data)

    def test_without_pydicom_the_line_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "find_spec", lambda _: None)
        with pytest.raises(DependencyError, match=r"pip install -e '\.\[dicom\]'"):
            read_any(bytes(128) + b"DICM")


class TestPrivacy:
    def test_no_fault_quotes_the_patient(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        level = logging.getLogger("pydicom").level
        good = build_file(NOISE)
        bad = [good[:-50], good.replace(b"MONO", SECRET.encode()[:4]), good[:300]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bad += [
                build_file(NOISE, PhotometricInterpretation=SECRET),
                build_file(GREY, WindowCenter="1", WindowWidth="1", VOILUTFunction=SECRET),
                build_file(NOISE).replace(b"1.2.840.10008.1.2.1\0", SECRET.encode().ljust(20)),
            ]
        caplog.clear()  # of what pydicom says while it writes
        for data in bad:
            try:
                read_any(data)
            except ImageError:
                assert SECRET not in traceback.format_exc()
        assert SECRET not in caplog.text
        assert SECRET not in "".join(capfd.readouterr())
        assert logging.getLogger("pydicom").level == level
