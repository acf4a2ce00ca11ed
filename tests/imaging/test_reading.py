"""Files, bytes, streams, Pillow images and arrays give the same pixels, or one clear refusal."""

import io
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import ImageError
from dermfuse.imaging import reading
from dermfuse.imaging.preprocess import is_plain_file, read_image
from dermfuse.imaging.reading import read_any

from ..built_dicom import BuildDicom
from .made import NOISE, encode

CLOSED = Image.new("RGB", (20, 20))
CLOSED.close()


def test_paths_bytes_and_streams_read_alike_whatever_their_name(
    tmp_path: Path, build_dicom: BuildDicom
) -> None:
    path, dicom = tmp_path / "lesion.dcm", tmp_path / "dicom.png"
    path.write_bytes(encode(NOISE))
    dicom.write_bytes(build_dicom(NOISE))
    read, write = os.pipe()  # cannot be rewound
    os.write(write, encode(NOISE))
    os.close(write)
    with path.open("rb") as file, os.fdopen(read, "rb") as pipe:
        for source in (path, str(path), path.read_bytes(), file, pipe, dicom):
            assert np.array_equal(read_any(source), NOISE)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (Path("/"), "a folder"), (Path("none.png"), "no such file"), (Path("a\0b"), "no such file"),
        (Path(os.devnull), "not a plain file"), (3.5, "given as float"), (b"", "the file is empty"),
        (io.StringIO("text"), "yields str"), (CLOSED, "damaged"),
        (Image.new("F", (20, 20)), "floating-point"),
        *((np.full(shape, 128, np.uint8), f"{shape[1]} x {shape[0]} pixels, too thin")
          for shape in ((16, 1639), (1639, 16), (16, 321))),
        (np.zeros((3, 20, 20), np.uint8), "3 x 20 x 20.*Move the channels to the end"),
        (np.zeros((2, 20, 20, 3), np.uint8), "2 x 20 x 20 x 3.*one image at a time"),
        (np.zeros((20, 20, 2), np.uint8), "20 x 20 x 2"), (np.zeros((), np.uint8), "no axis"),
        (np.zeros((15, 20, 3), np.uint8), "20 x 15 pixels"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "20000 x 20000"),
        (np.full((20, 20), 1.01), "outside 0 to 1"), (np.full((20, 20), np.nan), "outside 0 to 1"),
        (np.zeros((20, 20), bool), "type bool"), (np.full((20, 20), None), "type object"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_name(source: Any, match: str) -> None:
    with pytest.raises(ImageError, match=rf"^it\b.*{match}"):
        read_any(source, name="it")


def test_pipes_and_streams_without_an_end_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert not is_plain_file(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a plain file"):
        read_any(tmp_path / "pipe.png")
    monkeypatch.setattr(reading, "MAX_BYTES", 1000)
    (tmp_path / "long.png").write_bytes(bytes(1001))
    with pytest.raises(ImageError, match="more than 1,000 bytes"):
        read_any(tmp_path / "long.png")
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(ImageError, match="1,000 bytes"):
        read_any(zeros)
    zeros.close()
    with pytest.raises(ImageError, match="cannot be read"):
        read_any(zeros)


@pytest.mark.parametrize("where", ["JpegImagePlugin.JpegImageFile.load", "Image.Image.convert"])
def test_whatever_a_decoder_raises_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    data = encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG")
    for raised, match in ((AssertionError, "damaged"), (MemoryError, "more memory than there is")):
        monkeypatch.setattr(f"PIL.{where}", Mock(side_effect=raised))
        with pytest.raises(ImageError, match=rf"lesion\.jpg: .*{match}"):
            read_any(data, name="lesion.jpg")


def test_pillow_images_read_as_their_files_and_stay_open() -> None:
    for mode in (*"1LPI", "RGB", "CMYK", "HSV", "I;16", "LA", "PA", "RGBX", "RGBa", "La", "LAB"):
        assert read_any(Image.new(mode, (20, 16))).shape == (16, 20, 3)
    half = Image.fromarray(np.dstack([NOISE, NOISE[..., 0]]), "RGBA")
    assert np.array_equal(read_any(half), read_image(encode(half)))
    assert half.getpixel((0, 0)) == (*NOISE[0, 0], NOISE[0, 0, 0])
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    with Image.open(io.BytesIO(encode(NOISE, exif=exif))) as image:
        assert np.array_equal(read_any(image), NOISE[::-1, ::-1])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        *((np.full((16, 20, *channels), 7, np.uint8), 7) for channels in ((), (1,))),
        (np.zeros((16, 16, 4), np.uint8), 255),  # transparency is laid on white
        *((np.full((16, 320, 3), value, kind), expected) for value, kind, expected in (
            (1.0, "f4", 255), (0.0, "f8", 0), (0.5, "f2", 128), (65535, "u2", 255),
            (257, ">u2", 1), (128, "u2", 0), (129, "u2", 1))),
    ],
)  # fmt: skip
def test_arrays_are_scaled_by_rule(array: np.ndarray, expected: int) -> None:
    assert (read_any(array) == expected).all()


def test_an_array_is_copied_as_it_looks() -> None:
    before = NOISE.copy()
    pixels = read_any(before[::-1, ::-1])
    assert np.array_equal(pixels, NOISE[::-1, ::-1])
    pixels[:] = 0
    assert np.array_equal(NOISE, before)
