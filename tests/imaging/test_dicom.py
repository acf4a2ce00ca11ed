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

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
JPEG_LS, J2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
VIDEO = "1.2.840.10008.1.2.4.102"

Build = Any
GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)  # 0 to 255, three times


def _encode(pixels: np.ndarray, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()


def _pack(plane: bytes) -> bytes:
    """PackBits of literal runs alone."""
    runs = [plane[i : i + 128] for i in range(0, len(plane), 128)]
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return packed + bytes(len(packed) % 2)


def _rle(planes: list[bytes]) -> bytes:
    segments = [_pack(plane) for plane in planes]
    offsets = np.cumsum([64, *(len(segment) for segment in segments[:-1])])
    header = np.zeros(16, "<u4")
    header[0] = len(segments)
    header[1 : 1 + len(segments)] = offsets
    return header.tobytes() + b"".join(segments)


class TestPixels:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
    def test_uncompressed_rgb_keeps_every_pixel(
        self, build_dicom: Build, noise: np.ndarray, syntax: str
    ) -> None:
        if syntax == BIG:  # words of two bytes are swapped, so that bytes are written as OB
            noise = noise.astype(np.uint16) * 257
        expected = (noise // 257).astype(np.uint8) if syntax == BIG else noise
        assert np.array_equal(read_any(build_dicom(noise, syntax=syntax)), expected)

    def test_a_file_without_its_preamble_is_known(
        self, build_dicom: Build, noise: np.ndarray
    ) -> None:
        assert np.array_equal(read_any(build_dicom(noise, preamble=False)), noise)

    def test_channels_stored_as_planes_are_joined(
        self, build_dicom: Build, noise: np.ndarray
    ) -> None:
        planes = np.ascontiguousarray(np.moveaxis(noise, -1, 0)).tobytes()
        data = build_dicom(noise, raw=planes, PlanarConfiguration=1)
        assert np.array_equal(read_any(data), noise)

    def test_monochrome2_fills_the_three_channels(self, build_dicom: Build) -> None:
        pixels = read_any(build_dicom(GREY))
        assert np.array_equal(pixels, np.stack([GREY] * 3, axis=-1))

    def test_monochrome1_is_inverted(self, build_dicom: Build) -> None:
        pixels = read_any(build_dicom(GREY, photometric="MONOCHROME1"))
        assert np.array_equal(pixels[..., 0], 255 - GREY)

    def test_twelve_bits_use_their_full_range_and_ignore_what_is_above(
        self, build_dicom: Build
    ) -> None:
        stored = np.full((16, 16), 0xF000, np.uint16)  # an overlay in the unused bits
        stored[0, :3] += np.array([0, 2048, 4095], np.uint16)
        pixels = read_any(build_dicom(stored, BitsStored=12, HighBit=11))
        assert pixels[0, :3, 0].tolist() == [0, 128, 255]
        assert pixels[1, 0, 0] == 0

    def test_signed_values_use_their_full_range(self, build_dicom: Build) -> None:
        stored = np.full((16, 16), -(2**15), np.int16)
        stored[0, :2] = [2**15 - 1, 0]
        assert read_any(build_dicom(stored))[0, :3, 0].tolist() == [255, 128, 0]

    def test_a_window_is_applied_after_rescaling(self, build_dicom: Build) -> None:
        stored = np.zeros((16, 16), np.uint16)
        stored[0, :4] = [10, 11, 12, 200]
        window = {"WindowCenter": ["22.5", "0"], "WindowWidth": ["5", "1"]}
        data = build_dicom(stored, RescaleSlope="2", RescaleIntercept="0", **window)
        # 20, 22, 24 in a window from 20 to 24
        assert read_any(data)[0, :5, 0].tolist() == [0, 128, 255, 255, 0]

    @pytest.mark.parametrize(
        ("function", "expected"), [("LINEAR_EXACT", [0, 128, 255]), ("SIGMOID", [30, 128, 225])]
    )
    def test_other_window_functions(
        self, build_dicom: Build, function: str, expected: list[int]
    ) -> None:
        stored = np.full((16, 16), 100, np.uint8)
        stored[0, :3] = [90, 100, 110]
        window = {"WindowCenter": "100", "WindowWidth": "20", "VOILUTFunction": function}
        assert read_any(build_dicom(stored, **window))[0, :3, 0].tolist() == expected

    def test_a_window_one_value_wide_is_a_step(self, build_dicom: Build) -> None:
        data = build_dicom(GREY, WindowCenter="100.5", WindowWidth="1")
        assert np.array_equal(read_any(data)[..., 0], np.where(GREY > 100, 255, 0))

    def test_ybr_full_becomes_rgb(self, build_dicom: Build) -> None:
        ybr = np.full((16, 16, 3), (76, 85, 255), np.uint8)  # red
        pixels = read_any(build_dicom(ybr, photometric="YBR_FULL"))
        assert np.abs(pixels[0, 0].astype(int) - (254, 0, 0)).max() <= 1

    def test_ybr_full_422_shares_colour_between_two_pixels(self, build_dicom: Build) -> None:
        raw = bytes([76, 149, 85, 255]) * (16 * 8)  # Y1 Y2 Cb Cr
        data = build_dicom(np.zeros((16, 16, 3), np.uint8), raw=raw, photometric="YBR_FULL_422")
        pixels = read_any(data).astype(int)
        assert np.abs(pixels[0, 0] - (254, 0, 0)).max() <= 1
        assert np.abs(pixels[0, 1] - (255, 73, 73)).max() <= 1

    def test_sixteen_bit_rgb_is_scaled(self, build_dicom: Build) -> None:
        stored = np.full((16, 16, 3), (65535, 257, 0), np.uint16)
        assert read_any(build_dicom(stored))[3, 3].tolist() == [255, 1, 0]


class TestPalettes:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
    @pytest.mark.parametrize("depth", [8, 16])
    def test_indices_are_looked_up(self, build_dicom: Build, syntax: str, depth: int) -> None:
        indices = np.zeros((16, 16), np.uint16)
        indices[0, :3] = [0, 1, 2]
        scale, order = (257 if depth == 16 else 1), (">u2" if syntax == BIG else "<u2")
        data = build_dicom(indices, photometric="PALETTE COLOR", syntax=syntax, **{
            f"{name}PaletteColorLookupTable{part}": value
            for name, entries in (("Red", [9, 20]), ("Green", [1, 30]), ("Blue", [0, 255]))
            for part, value in (
                ("Descriptor", [2, 1, depth]),
                ("Data", (np.array(entries) * scale).astype(order).tobytes()),
            )
        })  # fmt: skip
        # the first entry stands for 0 and 1, the second for 2 and above
        assert read_any(data)[0, :3].tolist() == [[9, 1, 0], [9, 1, 0], [20, 30, 255]]

    def test_entries_of_eight_bits_that_are_called_sixteen(self, build_dicom: Build) -> None:
        indices = np.zeros((16, 16), np.uint8)
        indices[0, 0] = 1
        data = build_dicom(indices, photometric="PALETTE COLOR", **{
            f"{name}PaletteColorLookupTable{part}": value
            for name, entries in (("Red", [9, 20]), ("Green", [1, 30]), ("Blue", [0, 255]))
            for part, value in (
                ("Descriptor", [2, 0, 16]), ("Data", np.array(entries, "<u2").tobytes())
            )
        })  # fmt: skip
        assert read_any(data)[0, :2].tolist() == [[20, 30, 255], [9, 1, 0]]

    def test_packed_entries_and_transparency_on_white(self, build_dicom: Build) -> None:
        indices = np.zeros((16, 16), np.uint8)
        indices[0, 0] = 1
        tables = {
            f"{name}PaletteColorLookupTableData": bytes(entries)
            for name, entries in (
                ("Red", [10, 20]), ("Green", [11, 21]), ("Blue", [12, 22]), ("Alpha", [255, 0])
            )
        }  # fmt: skip
        descriptors = {
            f"{name}PaletteColorLookupTableDescriptor": [2, 0, 8]
            for name in ("Red", "Green", "Blue")
        }
        data = build_dicom(indices, photometric="PALETTE COLOR", **tables, **descriptors)
        assert read_any(data)[0, :2].tolist() == [[255, 255, 255], [10, 11, 12]]

    @pytest.mark.parametrize("descriptor", [[9, 0, 16], [2, 0, 12]])
    def test_a_palette_cut_off_or_of_another_depth_is_refused(
        self, build_dicom: Build, descriptor: list[int]
    ) -> None:
        elements = {
            f"{name}PaletteColorLookupTable{part}": value
            for name in ("Red", "Green", "Blue")
            for part, value in (("Descriptor", descriptor), ("Data", bytes(4)))
        }
        with pytest.raises(ImageError, match="palette is segmented, cut off or missing"):
            read_any(build_dicom(GREY, photometric="PALETTE COLOR", **elements))

    def test_entries_written_as_numbers_are_read(self) -> None:
        from pydicom.dataset import Dataset

        from dermfuse.imaging.dicom import to_display

        header = Dataset()
        header.PhotometricInterpretation = "PALETTE COLOR"
        for name in ("Red", "Green", "Blue"):
            header.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
            header.add_new(f"{name}PaletteColorLookupTableData", "US", [257, 65535])
        stored = np.array([[0, 1]], np.uint8)
        pixels = to_display(
            stored, header, bits=8, signed=False, little_endian=True, name="the image"
        )
        assert pixels.tolist() == [[[1, 1, 1], [255, 255, 255]]]

    def test_a_missing_palette_is_refused(self, build_dicom: Build) -> None:
        with pytest.raises(ImageError, match="palette"):
            read_any(build_dicom(GREY, photometric="PALETTE COLOR"))


class TestCompressed:
    def test_run_lengths_of_rgb(self, build_dicom: Build, noise: np.ndarray) -> None:
        frame = _rle([noise[..., channel].tobytes() for channel in range(3)])
        assert np.array_equal(read_any(build_dicom(noise, syntax=RLE, frames=[frame])), noise)

    def test_run_lengths_of_sixteen_bits(self, build_dicom: Build) -> None:
        stored = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
        frame = _rle([(stored >> 8).astype(np.uint8).tobytes(), stored.astype(np.uint8).tobytes()])
        pixels = read_any(build_dicom(stored, syntax=RLE, frames=[frame]))
        assert np.array_equal(pixels[..., 0], np.rint(stored / 65535 * 255))

    def test_run_lengths_of_ybr(self, build_dicom: Build) -> None:
        ybr = np.full((16, 16, 3), (76, 85, 255), np.uint8)
        frame = _rle([ybr[..., channel].tobytes() for channel in range(3)])
        data = build_dicom(ybr, syntax=RLE, frames=[frame], photometric="YBR_FULL")
        assert np.abs(read_any(data)[0, 0].astype(int) - (254, 0, 0)).max() <= 1

    def test_jpeg_looks_as_its_file_does(self, build_dicom: Build) -> None:
        smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
        frame = _encode(smooth, "JPEG", quality=95)
        data = build_dicom(smooth, syntax=JPEG, frames=[frame], photometric="YBR_FULL_422")
        assert np.abs(read_any(data).astype(int) - read_any(frame)).max() <= 3

    def test_jpeg_2000_keeps_every_pixel(self, build_dicom: Build, noise: np.ndarray) -> None:
        frame = _encode(noise, "JPEG2000", no_jp2=True, irreversible=False, mct=1)
        data = build_dicom(noise, syntax=J2K, frames=[frame], photometric="YBR_RCT")
        assert np.array_equal(read_any(data), noise)

    @pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "RGB", "YBR_ICT"])
    def test_a_component_transform_makes_jpeg_2000_rgb(
        self, build_dicom: Build, noise: np.ndarray, photometric: str
    ) -> None:
        frame = _encode(noise, "JPEG2000", no_jp2=True, irreversible=False, mct=1)
        data = build_dicom(noise, syntax=J2K, frames=[frame], photometric=photometric)
        assert np.array_equal(read_any(data), noise)

    @pytest.mark.parametrize(
        ("photometric", "expected"),
        [("YBR_FULL", (254, 0, 0)), ("RGB", (76, 85, 255)), ("YBR_RCT", (76, 85, 255))],
    )
    def test_without_one_the_header_tells_ybr_full_from_rgb(
        self, build_dicom: Build, photometric: str, expected: tuple[int, ...]
    ) -> None:
        stored = np.full((16, 16, 3), (76, 85, 255), np.uint8)
        frame = _encode(stored, "JPEG2000", no_jp2=True, irreversible=False, mct=0)
        data = build_dicom(stored, syntax=J2K, frames=[frame], photometric=photometric)
        assert np.abs(read_any(data)[0, 0].astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
    @pytest.mark.parametrize("marker", ["JFIF", "Adobe 0", "Adobe 1", "names"])
    def test_a_jpegs_markers_decide_about_its_colours(
        self, build_dicom: Build, photometric: str, marker: str
    ) -> None:
        red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        kept = marker in ("Adobe 0", "names")
        frame = _encode(red, "JPEG", quality=100, subsampling=0, keep_rgb=kept)
        adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + marker[-1:].encode()
        if marker.startswith("Adobe"):
            start = frame.index(b"\xff\xdb")  # nothing but the quantization tables and on
            names = bytes([1, 2, 3])
            frame = b"\xff\xd8" + adobe[:-1] + bytes([int(marker[-1])]) + frame[start:]
            at = frame.index(b"\xff\xc0") + 10
            scan = frame.index(b"\xff\xda") + 5
            changed = bytearray(frame)
            changed[at : at + 9 : 3] = changed[scan : scan + 6 : 2] = names
            frame = bytes(changed)
        data = build_dicom(red, syntax=JPEG, frames=[frame], photometric=photometric)
        assert np.abs(read_any(data).astype(int) - red).max() <= 3

    @pytest.mark.parametrize(
        ("photometric", "expected"), [("RGB", (76, 85, 255)), ("YBR_FULL", (254, 0, 0))]
    )
    def test_where_a_jpeg_is_silent_the_header_decides(
        self, build_dicom: Build, photometric: str, expected: tuple[int, ...]
    ) -> None:
        red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        frame = _encode(red, "JPEG", quality=100, subsampling=0)
        frame = b"\xff\xd8" + frame[frame.index(b"\xff\xdb") :]
        data = build_dicom(red, syntax=JPEG, frames=[frame], photometric=photometric)
        assert np.abs(read_any(data)[0, 0].astype(int) - expected).max() <= 2

    def test_fill_bytes_before_a_jpegs_marker_are_read(self, build_dicom: Build) -> None:
        frame = _encode(np.full((16, 16, 3), 77, np.uint8), "JPEG")
        data = build_dicom(
            np.zeros((16, 16, 3), np.uint8), syntax=JPEG, photometric="YBR_FULL_422",
            frames=[frame[:2] + b"\xff\xff\xff" + frame[2:]],
        )  # fmt: skip
        assert np.array_equal(read_any(data), read_any(frame))

    def test_the_streams_depth_scales_grey(self, build_dicom: Build) -> None:
        frame = _encode(GREY, "JPEG2000", no_jp2=True, irreversible=False)
        stored = GREY.astype(np.uint16)  # 8 bits in the stream, 16 in the header
        assert np.array_equal(
            read_any(build_dicom(stored, syntax=J2K, frames=[frame]))[..., 0], GREY
        )

    def test_the_headers_depth_counts_if_it_is_less_and_the_values_fit(
        self, build_dicom: Build
    ) -> None:
        stored = GREY.astype(np.uint16) * np.uint16(16)  # of 12 bits, in a stream of 16
        frame = _encode(stored, "JPEG2000", no_jp2=True, irreversible=False)
        expected = np.rint(stored / 4095 * 255)
        read = read_any(build_dicom(stored, syntax=J2K, frames=[frame], BitsStored=12, HighBit=11))
        assert np.array_equal(read[..., 0], expected)
        wider = _encode(stored * np.uint16(16), "JPEG2000", no_jp2=True, irreversible=False)
        read = read_any(build_dicom(stored, syntax=J2K, frames=[wider], BitsStored=12, HighBit=11))
        assert np.array_equal(read[..., 0], np.rint(stored * 16.0 / 65535 * 255))

    def test_jpeg_ls_keeps_every_pixel(self, build_dicom: Build) -> None:
        jpeg_ls = pytest.importorskip("jpeg_ls")
        frame = bytes(jpeg_ls.encode_array(GREY))
        pixels = read_any(build_dicom(GREY, syntax=JPEG_LS, frames=[frame + bytes(len(frame) % 2)]))
        assert np.array_equal(pixels[..., 0], GREY)

    @pytest.mark.parametrize(
        ("syntax", "name"), [(JPEG_LOSSLESS, "JPEG Lossless"), (VIDEO, "MPEG-4 AVC")]
    )
    def test_a_coding_without_a_decoder_is_named(
        self, build_dicom: Build, monkeypatch: pytest.MonkeyPatch, syntax: str, name: str
    ) -> None:
        from pydicom.pixels.decoders.base import Decoder

        monkeypatch.setattr(Decoder, "is_available", False)
        with pytest.raises(ImageError, match=f"coded as {name}.*Export the image uncompressed"):
            read_any(build_dicom(GREY, syntax=syntax, frames=[b"\xff\xd8"]))

    def test_jpeg_ls_without_its_decoder_says_what_to_install(
        self, build_dicom: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pydicom.pixels.decoders.base import Decoder

        monkeypatch.setattr(Decoder, "is_available", False)
        with pytest.raises(ImageError, match=r"JPEG-LS.*pip install -e '\.\[dicom\]'"):
            read_any(build_dicom(GREY, syntax=JPEG_LS, frames=[b"\xff\xd8"]))


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
        ],
    )  # fmt: skip
    def test_what_is_not_read_is_refused_by_its_header(
        self, build_dicom: Build, elements: dict[str, Any], match: str
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values it is made to write
            data = build_dicom(GREY, **elements)
        with pytest.raises(ImageError, match=match):
            read_any(data)

    @pytest.mark.parametrize("format_name", ["JPEG", "JPEG2000"])
    def test_more_compressed_images_than_the_header_says(
        self, build_dicom: Build, noise: np.ndarray, format_name: str
    ) -> None:
        options = {"no_jp2": True} if format_name == "JPEG2000" else {}
        frame = _encode(noise, format_name, **options)
        syntax = JPEG if format_name == "JPEG" else J2K
        with pytest.raises(ImageError, match="2 compressed images, and one frame in the header"):
            read_any(build_dicom(noise, syntax=syntax, frames=[frame, frame]))

    def test_signed_colours(self, build_dicom: Build, noise: np.ndarray) -> None:
        with pytest.raises(ImageError, match="signed colours"):
            read_any(build_dicom(noise, PixelRepresentation=1))

    def test_pixel_data_cut_off(self, build_dicom: Build, noise: np.ndarray) -> None:
        with pytest.raises(ImageError, match="cut off, 100 of 2,304 bytes"):
            read_any(build_dicom(noise, raw=bytes(100)))

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
    def test_a_file_cut_off_anywhere(
        self, build_dicom: Build, noise: np.ndarray, syntax: str
    ) -> None:
        data = build_dicom(noise, syntax=syntax)
        for length in range(132, len(data) - 1, 61):
            with pytest.raises(ImageError):
                read_any(data[:length])

    @pytest.mark.parametrize("format_name", ["JPEG", "JPEG2000", "RLE"])
    def test_a_compressed_frame_cut_off(
        self, build_dicom: Build, noise: np.ndarray, format_name: str
    ) -> None:
        if format_name == "RLE":
            frame, syntax = _rle([noise[..., c].tobytes() for c in range(3)]), RLE
        else:
            frame, syntax = _encode(noise, format_name), JPEG if format_name == "JPEG" else J2K
        with pytest.raises(ImageError, match="damaged or cut off"):
            read_any(build_dicom(noise, syntax=syntax, frames=[frame[: len(frame) // 4 * 2]]))

    @pytest.mark.parametrize(("format_name", "syntax"), [("JPEG", JPEG), ("JPEG2000", J2K)])
    def test_a_compressed_image_larger_than_its_header_says(
        self, build_dicom: Build, noise: np.ndarray, format_name: str, syntax: str
    ) -> None:
        frame = _encode(np.zeros((200, 300, 3), np.uint8), format_name)
        with pytest.raises(ImageError, match=r"300 x 200 pixels\. Expected: 32 x 24"):
            read_any(build_dicom(noise, syntax=syntax, frames=[frame]))

    @pytest.mark.parametrize(("format_name", "syntax"), [("JPEG", JPEG), ("JPEG2000", J2K)])
    def test_a_compressed_image_of_other_channels(
        self, build_dicom: Build, noise: np.ndarray, format_name: str, syntax: str
    ) -> None:
        frame = _encode(noise[..., 0], format_name)
        with pytest.raises(ImageError, match=r"1 channel\(s\)\. Expected: 3"):
            read_any(build_dicom(noise, syntax=syntax, frames=[frame]))

    def test_a_jpeg_damaged_inside(self, build_dicom: Build, noise: np.ndarray) -> None:
        frame = _encode(noise, "JPEG", quality=95)
        frame = frame[: len(frame) - 300] + b"\xff\xd9"
        with pytest.raises(ImageError, match="the JPEG image is damaged or cut off"):
            read_any(build_dicom(noise, syntax=JPEG, frames=[frame + bytes(len(frame) % 2)]))

    def test_jpeg_2000_with_a_hole(self, build_dicom: Build) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        frame = _encode(pixels, "JPEG2000", no_jp2=True, irreversible=False)
        middle = len(frame) // 2
        holed = frame[:middle] + bytes(100) + frame[middle + 100 :]
        Image.open(io.BytesIO(holed)).load()  # Pillow says nothing
        with pytest.raises(ImageError, match=r"JPEG 2000 image is damaged: part .* is blank"):
            read_any(build_dicom(pixels, syntax=J2K, frames=[holed]))

    def test_zeros_of_empty_packets_are_no_hole(self, noise: np.ndarray) -> None:
        from dermfuse.imaging.dicom import has_hole

        frame = _encode(noise, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=3)
        assert not has_hole(frame)
        start = frame.index(b"\xff\x93") + 2
        packets = 3 * 3  # one layer, three resolutions, three channels
        assert not has_hole(frame[:start] + bytes(63 + packets) + b"\x80")
        assert has_hole(frame[:start] + bytes(64 + packets) + b"\x80")
        cut = _encode(noise, "JPEG2000", no_jp2=True, precinct_size=(32, 32))
        assert not has_hole(cut[: cut.index(b"\xff\x93") + 2] + bytes(500))

    def test_a_jpeg_of_twelve_bits_is_named(self, build_dicom: Build, noise: np.ndarray) -> None:
        frame = bytearray(_encode(noise, "JPEG"))
        frame[frame.index(b"\xff\xc0") + 4] = 12
        data = build_dicom(noise, syntax="1.2.840.10008.1.2.4.51", frames=[bytes(frame)])
        with pytest.raises(ImageError, match="a JPEG image of 12 bits per sample"):
            read_any(data)

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
        self, build_dicom: Build, noise: np.ndarray, photometric: str, values: int, match: str
    ) -> None:
        data = build_dicom(noise, photometric=photometric, raw=bytes(24 * 32 * values))
        with pytest.raises(ImageError, match=match):
            read_any(data)

    def test_run_lengths_that_unpack_to_too_much_stop_at_the_image(
        self, build_dicom: Build
    ) -> None:
        header = np.zeros(16, "<u4")
        header[:2] = 1, 64
        frame = header.tobytes() + b"\x81\x07" * 100_000  # 12.8 million bytes of 7
        pixels = read_any(build_dicom(GREY, syntax=RLE, frames=[frame]))
        assert (pixels == 7).all()

    def test_a_deflated_file_inflates_to_no_more_than_its_image(
        self, build_dicom: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dermfuse.imaging import dicom

        monkeypatch.setattr(dicom, "_HEADER_BYTES", 4096)
        data = build_dicom(np.zeros((16, 16), np.uint8), raw=bytes(10_000_000), syntax=DEFLATED)
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
        self,
        build_dicom: Build,
        noise: np.ndarray,
        secret: str,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        good = build_dicom(noise)
        bad = [good[:-50], good.replace(b"MONO", secret.encode()[:4]), good[:300]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bad += [
                build_dicom(noise, PhotometricInterpretation=secret),
                build_dicom(GREY, WindowCenter="1", WindowWidth="1", VOILUTFunction=secret),
                build_dicom(noise).replace(b"1.2.840.10008.1.2.1\0", secret.encode().ljust(20)),
            ]
        caplog.clear()  # of what pydicom says while it writes
        for data in bad:
            try:
                read_any(data)
            except ImageError:
                assert secret not in traceback.format_exc()
        assert secret not in caplog.text
        assert secret not in "".join(capfd.readouterr())

    def test_pydicoms_log_level_is_left_as_it_was(
        self, build_dicom: Build, noise: np.ndarray
    ) -> None:
        logger = logging.getLogger("pydicom")
        before = logger.level
        read_any(build_dicom(noise))
        assert logger.level == before
