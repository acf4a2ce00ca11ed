"""Files, bytes, streams, Pillow images and arrays give the same pixels, or one clear refusal."""

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from dermfuse.errors import DermfuseError, ImageError
from dermfuse.imaging import reading
from dermfuse.imaging.preprocess import read_image
from dermfuse.imaging.reading import is_dicom, read_any

from .made import encode

Build = Any
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "LA", "PA", "RGBX"]
MODES += ["RGBa", "La", "LAB"]


class TestFiles:
    def test_paths_bytes_and_streams_read_alike_whatever_their_name(
        self, tmp_path: Path, noise: np.ndarray, build_dicom: Build
    ) -> None:
        path, dicom = tmp_path / "lesion.dcm", tmp_path / "dicom.png"
        path.write_bytes(encode(noise))
        dicom.write_bytes(build_dicom(noise))
        read, write = os.pipe()  # cannot be rewound
        os.write(write, encode(noise))
        os.close(write)
        with path.open("rb") as file, os.fdopen(read, "rb") as pipe:
            for source in (path, str(path), path.read_bytes(), file, pipe, dicom):
                assert np.array_equal(read_any(source), noise)

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda folder: folder, "a folder"),
            (lambda folder: folder / "none.png", "no such file"),
            (lambda _: Path("a\0b"), "no such file"),
            (lambda _: Path(os.devnull), "not a plain file"),
            (lambda _: 3.5, "given as float"),
            (lambda _: b"", "the file is empty"),
            (lambda _: io.StringIO("text"), "yields str"),
        ],
    )  # fmt: skip
    def test_what_is_no_image_is_refused(self, tmp_path: Path, make: Any, match: str) -> None:
        with pytest.raises(ImageError, match=match):
            read_any(make(tmp_path))

    def test_a_gif_that_is_cut_in_its_second_frame_is_refused(self, noise: np.ndarray) -> None:
        first, second = (Image.fromarray(each).convert("P") for each in (noise, 255 - noise))
        whole = encode(first, "GIF", save_all=True, append_images=[second])
        for length in range(len(encode(first, "GIF")) - 1, len(whole), 7):
            with contextlib.suppress(ImageError):
                read_any(whole[:length])

    @pytest.mark.parametrize(
        ("raised", "match"),
        [
            (RecursionError("too deep"), "damaged"),
            (MemoryError(), "more memory than there is"),
            (AssertionError(), "damaged"),
            (SyntaxError("broken"), "damaged"),
        ],
    )
    @pytest.mark.parametrize("where", ["load", "convert"])
    def test_whatever_a_decoder_raises_is_a_refusal(
        self, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch, where: str,
        raised: Exception, match: str,
    ) -> None:  # fmt: skip
        def fail(*_: object, **__: object) -> None:
            raise raised

        data = encode(Image.fromarray(noise).convert("CMYK"), "JPEG")
        monkeypatch.setattr(Image.Image if where == "convert" else JpegImageFile, where, fail)
        with pytest.raises(ImageError, match=rf"lesion\.jpg: .*{match}"):
            read_any(data, name="lesion.jpg")

    @pytest.mark.parametrize(("height", "width"), [(16, 1639), (1639, 16), (16, 321)])
    def test_what_is_too_thin_to_be_judged_is_refused(self, height: int, width: int) -> None:
        thin = np.full((height, width, 3), 128, np.uint8)
        with pytest.raises(ImageError, match=f"the image: {width} x {height} pixels, too thin"):
            read_any(encode(thin))
        with pytest.raises(ImageError, match="strip: "):
            read_any(thin, name="strip")
        assert read_any(np.full((16, 320), 128, np.uint8)).shape == (16, 320, 3)

    def test_a_stream_that_is_closed_or_has_no_end_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = io.BytesIO(b"data")
        stream.close()
        with pytest.raises(ImageError, match="cannot be read"):
            read_any(stream)
        monkeypatch.setattr(reading, "MAX_BYTES", 1000)
        with Path("/dev/zero").open("rb") as zeros, pytest.raises(ImageError, match="1,000 bytes"):
            read_any(zeros)

    def test_the_given_name_stands_in_the_message(self) -> None:
        with pytest.raises(ImageError, match=r"^standard input: "):
            read_any(b"no image", name="standard input")

    @pytest.mark.parametrize("head", [b"", b"\x02\x00", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
    def test_only_a_file_meta_group_without_a_preamble_is_dicom(self, head: bytes) -> None:
        assert not is_dicom(head)
        assert is_dicom(b"\x02\x00\x00\x00UL\x04\x00")


class TestPillowImages:
    @pytest.mark.parametrize("mode", MODES)
    def test_every_mode_becomes_rgb(self, mode: str) -> None:
        pixels = read_any(Image.new(mode, (20, 16)))
        assert (pixels.shape, pixels.dtype) == ((16, 20, 3), np.uint8)

    def test_an_image_reads_as_its_file_and_stays_open(self, noise: np.ndarray) -> None:
        half = Image.fromarray(np.dstack([noise, noise[..., 0]]), "RGBA")
        assert np.array_equal(read_any(half), read_image(encode(half)))
        assert half.getpixel((0, 0)) == (*noise[0, 0], noise[0, 0, 0])
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        with Image.open(io.BytesIO(encode(noise, exif=exif))) as image:
            assert np.array_equal(read_any(image), noise[::-1, ::-1])

    def test_a_closed_or_floating_point_image_is_refused(self) -> None:
        closed = Image.new("RGB", (20, 20))
        closed.close()
        with pytest.raises(ImageError, match="damaged"):
            read_any(closed)
        with pytest.raises(ImageError, match="floating-point"):
            read_any(Image.new("F", (20, 20)))


class TestArrays:
    def test_rgb_is_copied_as_it_looks(self, noise: np.ndarray) -> None:
        before = noise.copy()
        pixels = read_any(noise[::-1, ::-1])
        assert np.array_equal(pixels, noise[::-1, ::-1])
        pixels[:] = 0
        assert np.array_equal(noise, before)

    def test_grey_fills_the_three_channels_and_transparency_is_laid_on_white(self) -> None:
        for shape in ((16, 20), (16, 20, 1)):
            assert (read_any(np.full(shape, 7, np.uint8)) == 7).all()
        assert (read_any(np.zeros((16, 16, 4), np.uint8)) == 255).all()

    @pytest.mark.parametrize(
        ("value", "dtype", "expected"),
        [
            (1.0, "f4", 255), (0.0, "f8", 0), (0.5, "f2", 128),
            (65535, "u2", 255), (257, ">u2", 1), (128, "u2", 0), (129, "u2", 1),
        ],
    )  # fmt: skip
    def test_other_types_are_scaled_by_rule(self, value: float, dtype: str, expected: int) -> None:
        assert (read_any(np.full((16, 16, 3), value, dtype)) == expected).all()

    @pytest.mark.parametrize(
        ("pixels", "match"),
        [
            (np.zeros((3, 20, 20), np.uint8), "3 x 20 x 20.*Move the channels to the end"),
            (np.zeros((2, 20, 20, 3), np.uint8), "2 x 20 x 20 x 3.*one image at a time"),
            (np.zeros((20, 20, 2), np.uint8), "20 x 20 x 2"),
            (np.zeros((), np.uint8), "no axis"),
            (np.zeros((15, 20, 3), np.uint8), "20 x 15 pixels"),
            (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "20000 x 20000"),
            (np.full((20, 20), 1.01), "outside 0 to 1"),
            (np.full((20, 20), np.nan), "outside 0 to 1"),
            (np.zeros((20, 20), bool), "type bool"),
            (np.zeros((20, 20), np.int64), "type int64"),
            (np.full((20, 20), None), "type object"),
        ],
    )  # fmt: skip
    def test_others_are_refused(self, pixels: np.ndarray, match: str) -> None:
        with pytest.raises(ImageError, match=match):
            read_any(pixels)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_refused(data: bytes, with_preamble: bool) -> None:
    with contextlib.suppress(DermfuseError):
        read_any(bytes(128) + b"DICM" + data if with_preamble else data)


def test_a_warning_is_no_refusal(noise: np.ndarray) -> None:
    # an EXIF block whose directory promises more than it holds
    data = encode(noise, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_any(data).shape == noise.shape
