"""Files, bytes, streams, Pillow images and arrays give the same pixels, or one clear refusal."""

import contextlib
import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from dermfuse.errors import DermfuseError, ImageError
from dermfuse.imaging import reading
from dermfuse.imaging.preprocess import read_image
from dermfuse.imaging.reading import is_dicom, read_any

Build = Any
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "LA", "PA", "RGBX"]
MODES += ["RGBa", "La", "LAB"]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class TestFiles:
    def test_a_path_bytes_and_a_stream_read_alike(self, tmp_path: Path, noise: np.ndarray) -> None:
        path = tmp_path / "lesion.png"
        path.write_bytes(_png(noise))
        with path.open("rb") as file:
            from_stream = read_any(file)
        for pixels in (read_any(path), read_any(path.read_bytes()), from_stream):
            assert np.array_equal(pixels, noise)

    def test_the_content_decides_and_not_the_name(
        self, tmp_path: Path, noise: np.ndarray, build_dicom: Build
    ) -> None:
        (tmp_path / "a.dcm").write_bytes(_png(noise))
        (tmp_path / "b.png").write_bytes(build_dicom(noise))
        assert np.array_equal(read_any(tmp_path / "a.dcm"), noise)
        assert np.array_equal(read_any(tmp_path / "b.png"), noise)

    def test_a_stream_that_cannot_be_rewound_is_read(self, noise: np.ndarray) -> None:
        read, write = os.pipe()
        os.write(write, _png(noise))
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert np.array_equal(read_any(pipe), noise)

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda folder: folder, "a folder"),
            (lambda folder: folder / "none.png", "no such file"),
            (lambda _: Path("a\0b"), "no such file"),
            (lambda _: Path(os.devnull), "not a plain file"),
            (lambda folder: str(folder / "none.png"), "no such file"),
            (lambda _: 3.5, "given as float"),
            (lambda _: b"", "the file is empty"),
            (lambda _: io.StringIO("text"), "yields str"),
        ],
    )  # fmt: skip
    def test_what_is_no_image_is_refused(self, tmp_path: Path, make: Any, match: str) -> None:
        with pytest.raises(ImageError, match=match):
            read_any(make(tmp_path))

    def test_a_palette_that_is_missing_is_a_refusal(self) -> None:
        rows = zlib.compress(bytes(17 * 16))
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0)), (b"IDAT", rows)]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
            for tag, body in [*chunks, (b"IEND", b"")]
        )
        with pytest.raises(ImageError):
            read_any(data)

    def test_a_gif_that_is_cut_in_its_second_frame_is_refused(self, noise: np.ndarray) -> None:
        frames = [Image.fromarray(pixels).convert("P") for pixels in (noise, 255 - noise)]
        whole, one = io.BytesIO(), io.BytesIO()
        frames[0].save(whole, "GIF", save_all=True, append_images=frames[1:])
        frames[0].save(one, "GIF")
        for length in range(len(one.getvalue()) - 1, len(whole.getvalue())):
            with contextlib.suppress(ImageError):
                read_any(whole.getvalue()[:length])

    @pytest.mark.parametrize(
        ("raised", "match"),
        [
            (RecursionError("too deep"), "damaged"),
            (MemoryError(), "more memory than there is"),
            (struct.error("unpack"), "damaged"),
            (AssertionError(), "damaged"),
            (OverflowError("too large"), "damaged"),
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

        data = io.BytesIO()
        Image.fromarray(noise).convert("CMYK").save(data, "JPEG")
        monkeypatch.setattr(Image.Image if where == "convert" else JpegImageFile, where, fail)
        with pytest.raises(ImageError, match=rf"lesion\.jpg: .*{match}"):
            read_any(data.getvalue(), name="lesion.jpg")

    @pytest.mark.parametrize(("height", "width"), [(16, 1639), (1639, 16), (16, 321)])
    def test_what_is_too_thin_to_be_judged_is_refused(self, height: int, width: int) -> None:
        thin = np.full((height, width, 3), 128, np.uint8)
        with pytest.raises(ImageError, match=f"the image: {width} x {height} pixels, too thin"):
            read_any(_png(thin))
        with pytest.raises(ImageError, match="strip: "):
            read_any(thin, name="strip")
        assert read_any(np.full((16, 320), 128, np.uint8)).shape == (16, 320, 3)

    def test_a_closed_stream_is_refused(self) -> None:
        stream = io.BytesIO(b"data")
        stream.close()
        with pytest.raises(ImageError, match="cannot be read"):
            read_any(stream)

    def test_a_stream_without_an_end_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_an_image_reads_as_its_file(self, noise: np.ndarray) -> None:
        half = Image.fromarray(np.dstack([noise, noise[..., 0]]), "RGBA")
        buffer = io.BytesIO()
        half.save(buffer, "PNG")
        assert np.array_equal(read_any(half), read_image(buffer.getvalue()))

    def test_exif_orientation_is_applied(self, noise: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG", exif=exif)
        with Image.open(buffer) as image:
            assert np.array_equal(read_any(image), noise[::-1, ::-1])

    def test_the_image_stays_open(self, noise: np.ndarray) -> None:
        image = Image.fromarray(noise)
        read_any(image)
        assert image.getpixel((0, 0)) == tuple(noise[0, 0])

    def test_a_closed_or_floating_point_image_is_refused(self) -> None:
        closed = Image.new("RGB", (20, 20))
        closed.close()
        with pytest.raises(ImageError, match="damaged"):
            read_any(closed)
        with pytest.raises(ImageError, match="floating-point"):
            read_any(Image.new("F", (20, 20)))


class TestArrays:
    def test_rgb_is_copied(self, noise: np.ndarray) -> None:
        before = noise.copy()
        pixels = read_any(noise)
        assert np.array_equal(pixels, noise)
        pixels[:] = 0
        assert np.array_equal(noise, before)

    def test_views_read_as_they_look(self, noise: np.ndarray) -> None:
        assert np.array_equal(read_any(noise[::-1, ::-1]), noise[::-1, ::-1])

    @pytest.mark.parametrize("shape", [(16, 20), (16, 20, 1)])
    def test_grey_fills_the_three_channels(self, shape: tuple[int, ...]) -> None:
        assert (read_any(np.full(shape, 7, np.uint8)) == 7).all()

    def test_transparency_is_laid_on_white(self) -> None:
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


FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")


@pytest.fixture(scope="session")
def seeds(build_dicom: Build) -> dict[str, bytes]:
    """Small valid files: what a mutation starts from."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    files = {}
    for name in FORMATS:
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if name in ("JPEG", "PNG", "WEBP") else {}
        Image.fromarray(pixels).save(buffer, name, **options)
        files[name] = buffer.getvalue()
    return files | _dicom_seeds(build_dicom, pixels, files["JPEG"])


def _dicom_seeds(build: Build, pixels: np.ndarray, jpeg: bytes) -> dict[str, bytes]:
    grey = pixels[..., 0]
    header = np.zeros(16, "<u4")
    header[:2] = 1, 64
    runs = (b"\x1f" + grey.tobytes()[start : start + 32] for start in range(0, 320, 32))
    rle = header.tobytes() + b"".join(runs)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True)
    seeds = {
        "DICOM": build(pixels),
        "DICOM implicit": build(grey, syntax="1.2.840.10008.1.2", preamble=False),
        "DICOM big": build(grey.astype(np.uint16), syntax="1.2.840.10008.1.2.2"),
        "DICOM deflated": build(grey, syntax="1.2.840.10008.1.2.1.99"),
        "DICOM RLE": build(grey, syntax="1.2.840.10008.1.2.5", frames=[rle]),
        "DICOM JPEG": build(
            pixels, syntax="1.2.840.10008.1.2.4.50", frames=[jpeg], photometric="YBR_FULL_422"
        ),
        "DICOM J2K": build(
            pixels, syntax="1.2.840.10008.1.2.4.90", frames=[buffer.getvalue()],
            photometric="YBR_RCT",
        ),
    }  # fmt: skip
    with contextlib.suppress(ImportError):
        import jpeg_ls

        frame = bytes(jpeg_ls.encode_array(grey))
        seeds["DICOM JPEG-LS"] = build(grey, syntax="1.2.840.10008.1.2.4.80", frames=[frame])
    return seeds


@dataclass(frozen=True)
class Change:
    """One change of a file; half of them fall into its first 700 bytes, where headers are."""

    kind: str
    place: float
    in_header: bool
    data: bytes

    def apply(self, file: bytearray) -> None:
        size = min(len(file), 700) if self.in_header else len(file)
        at = int(self.place * size)
        if self.kind == "set":
            file[at : at + len(self.data)] = self.data
        elif self.kind == "cut":
            del file[at:]
        elif self.kind == "insert":
            file[at:at] = self.data
        elif self.kind == "delete":
            del file[at : at + len(self.data)]
        else:
            file[at:at] = file[at : at + 64]


CHANGES = st.lists(
    st.builds(
        Change,
        kind=st.sampled_from(["set", "set", "set", "cut", "insert", "delete", "copy"]),
        place=st.floats(0, 1, exclude_max=True),
        in_header=st.booleans(),
        data=st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=6,
)


def _mutated(file: bytes, changes: list[Change]) -> bytes:
    data = bytearray(file)
    for change in changes:
        change.apply(data)
    return bytes(data)


def _reads_or_refuses(data: bytes) -> None:
    with contextlib.suppress(DermfuseError):
        pixels = read_any(data)
        assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)


class TestHostileBytes:
    def test_the_files_that_are_mutated_are_whole(self, seeds: dict[str, bytes]) -> None:
        assert len(seeds) >= 13
        assert {read_any(file).size for file in seeds.values()} == {16 * 20 * 3}

    @settings(max_examples=400, deadline=None)
    @given(st.integers(0, 99), CHANGES)
    def test_a_damaged_file_is_read_or_refused(
        self, seeds: dict[str, bytes], index: int, changes: list[Change]
    ) -> None:
        _reads_or_refuses(_mutated(list(seeds.values())[index % len(seeds)], changes))

    @pytest.mark.slow
    @settings(max_examples=20_000, deadline=None)
    @given(st.integers(0, 99), CHANGES)
    def test_many_damaged_files_are_read_or_refused(
        self, seeds: dict[str, bytes], index: int, changes: list[Change]
    ) -> None:
        _reads_or_refuses(_mutated(list(seeds.values())[index % len(seeds)], changes))

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=400), st.booleans())
    @example(b"", True)
    def test_random_bytes_are_refused(self, data: bytes, with_preamble: bool) -> None:
        _reads_or_refuses(bytes(128) + b"DICM" + data if with_preamble else data)

    def test_a_file_cut_off_anywhere_is_read_or_refused(self, seeds: dict[str, bytes]) -> None:
        for data in seeds.values():
            for length in range(0, len(data), 1 + len(data) // 40):
                _reads_or_refuses(data[:length])

    def test_a_warning_is_no_refusal(self, noise: np.ndarray) -> None:
        buffer = io.BytesIO()
        # an EXIF block whose directory promises more than it holds
        Image.fromarray(noise).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_any(buffer.getvalue()).shape == noise.shape
