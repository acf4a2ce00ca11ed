"""Odd but valid files give the right pixels; the others are refused in one line."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dermfuse.errors import ImageError, StorageError
from dermfuse.imaging.limits import MAX_PIXELS, MIN_SIDE_PX
from dermfuse.imaging.preprocess import (
    is_plain_file,
    read_image,
    read_probability,
    resize_probability,
    squeeze,
    squeeze_mask,
    write_mask,
    write_probability,
)

from .made import encode, png

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _noise(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _quarters() -> Image.Image:
    """Red, green over blue, white: 32 x 20, so that every orientation looks different."""
    image = Image.new("RGB", (32, 20), RED)
    image.paste(GREEN, (16, 0, 32, 10))
    image.paste(BLUE, (0, 10, 16, 20))
    image.paste(WHITE, (16, 10, 32, 20))
    return image


def _exif(value: int | str, tag: int = 0x0112) -> Image.Exif:
    exif = Image.Exif()
    exif[tag] = value
    return exif


def _corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in pixels[y, x]) for y in (0, -1) for x in (0, -1)]


class TestReadImage:
    def test_a_path_and_its_bytes_read_alike(self, tmp_path: Path) -> None:
        pixels, path = _noise(), tmp_path / "lesion.png"
        path.write_bytes(encode(Image.fromarray(pixels), "PNG"))
        assert np.array_equal(read_image(path), pixels)
        again = read_image(path.read_bytes())
        assert np.array_equal(again, pixels)
        again[0, 0] = 0  # may be written to

    @pytest.mark.parametrize(
        ("image", "kind", "options", "expected"),
        [
            (Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", {"quality": 100}, RED),
            (Image.new("L", (20, 20), 77), "PNG", {}, (77, 77, 77)),
            (Image.new("1", (20, 20), 1), "PNG", {}, WHITE),
            (Image.new("LA", (20, 20), (100, 128)), "PNG", {}, (177, 177, 177)),
            (Image.new("RGBA", (20, 20), (*RED, 0)), "PNG", {}, WHITE),
            (Image.new("RGBA", (20, 20), (*GREEN, 255)), "PNG", {}, GREEN),
            (Image.new("I;16B", (20, 20), 257 * 9), "TIFF", {}, (9, 9, 9)),
            (Image.new("I", (20, 20), 257 * 9), "TIFF", {}, (9, 9, 9)),
        ],
    )
    def test_every_mode_becomes_rgb_on_white(
        self, image: Image.Image, kind: str, options: dict[str, Any], expected: tuple[int, ...]
    ) -> None:
        assert np.abs(read_image(encode(image, kind, **options)).astype(int) - expected).max() <= 3

    def test_a_palette_is_looked_up_and_its_transparent_colours_are_white(self) -> None:
        image = _quarters().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
        assert _corners(read_image(encode(image, "PNG"))) == [RED, GREEN, BLUE, WHITE]
        assert _corners(read_image(encode(_quarters(), "GIF"))) == [RED, GREEN, BLUE, WHITE]
        alpha = bytes(255 * (index != image.getpixel((0, 0))) for index in range(4))
        pixels = read_image(encode(image, "PNG", transparency=alpha))
        assert _corners(pixels) == [WHITE, GREEN, BLUE, WHITE]

    @pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
    def test_sixteen_bits_are_scaled_to_eight(self, format_name: str) -> None:
        values = np.zeros((20, 20), np.uint16)
        values[0, :6] = [0, 128, 129, 257 * 100, 65_535, 32_768]
        pixels = read_image(encode(Image.fromarray(values), format_name))
        assert pixels[0, :6, 0].tolist() == [0, 0, 1, 100, 255, 128]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_exif_orientation_is_undone(self, orientation: int) -> None:
        # mirrored after as many quarter turns, counter-clockwise
        turns, mirrored = {
            1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (1, False),
            7: (1, True), 8: (3, False),
        }[orientation]  # fmt: skip
        stored = np.rot90(_noise(), turns)[:, :: -1 if mirrored else 1]
        image = Image.fromarray(np.ascontiguousarray(stored))
        assert np.array_equal(read_image(encode(image, exif=_exif(orientation))), _noise())

    @pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_the_exif_block_turns_in_every_container(self, format_name: str) -> None:
        options = {"lossless": True} if format_name == "WEBP" else {}
        pixels = read_image(encode(_quarters(), format_name, exif=_exif(6), **options))
        assert pixels.shape == (32, 20, 3)
        assert np.abs(np.array(_corners(pixels)) - [BLUE, RED, WHITE, GREEN]).max() < 60

    @pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("with_exif", [False, True])
    def test_an_orientation_in_xmp_turns_nothing(
        self, format_name: str, *, with_exif: bool
    ) -> None:
        xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        options: dict[str, Any] = {"xmp": xmp}
        if format_name == "PNG":
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options = {"pnginfo": info}
        if with_exif:
            options["exif"] = _exif("a camera", tag=0x010F)  # without an orientation
        assert read_image(encode(_quarters(), format_name, **options)).shape == (20, 32, 3)

    def test_exif_that_says_nothing_turns_nothing(self) -> None:
        for block in (_exif(9), b"Exif\0\0nonsense"):
            assert read_image(encode(_quarters(), "JPEG", exif=block)).shape == (20, 32, 3)

    def test_a_photograph_with_a_preview_behind_it_is_read(self) -> None:
        preview = Image.new("RGB", (16, 16), BLUE)
        data = encode(_quarters(), "MPO", save_all=True, append_images=[preview])
        assert read_image(data).shape == (20, 32, 3)


@pytest.mark.parametrize(("alpha", "expected"), [(0, 40), (255, 40), (51, 212)])
def test_a_fourth_byte_of_bmp_that_is_zero_throughout_is_no_alpha(
    alpha: int, expected: int
) -> None:
    image = Image.new("RGBA", (16, 16), (40, 40, 40, alpha))  # 51 is a fifth
    data = encode(image, "BMP")
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, 1024, 0, 0, 0, 0) + masks
    start = 14 + 108
    whole = b"BM" + struct.pack("<IHHI", start + 1024, 0, 0, start) + header + bytes(52)
    assert read_image(whole + data[-1024:])[0, 0].tolist() == [expected] * 3


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (encode(Image.new("RGB", (20, 20)), "GIF", save_all=True,
                     append_images=[Image.new("RGB", (20, 20), RED)]), "animated"),
            (encode(Image.new("RGB", (20, 20)), "TIFF", save_all=True,
                     append_images=[Image.new("RGB", (20, 20), RED)]), "several pages"),
            (encode(Image.fromarray(_noise(200, 200)), "JPEG")[:9000], "cut off or damaged"),
            (b"", "the file is empty"),
            (bytes(1000), "not an image"),
            (b"This is not a photograph.\n" * 50, "not an image"),
            (encode(_quarters(), "EPS"), "not an image"),  # and no interpreter is started
            (encode(Image.new("RGB", (1, 1)), "PNG"),
             f"1 x 1 pixels. Expected: {MIN_SIDE_PX} or more"),
            (png((20_000, 20_000), 1, 0, bytes(100)), f"{MAX_PIXELS:,} pixels or fewer"),
            (png((5_001, 10_000), 1, 0, bytes(100)), f"{MAX_PIXELS:,} pixels or fewer"),
            (encode(Image.new("F", (20, 20)), "TIFF"), "floating-point"),
            (encode(Image.new("I", (20, 20), 70_000), "TIFF"), "grey values from 70000"),
        ],
    )  # fmt: skip
    def test_what_is_no_picture_is_refused_in_one_line(
        self, tmp_path: Path, data: bytes, match: str
    ) -> None:
        (tmp_path / "lesion.jpg").write_bytes(data)
        with pytest.raises(ImageError, match=rf"lesion\.jpg: .*{match}") as caught:
            read_image(tmp_path / "lesion.jpg")
        assert "\n" not in str(caught.value)

    def test_pillows_own_limit_does_not_speak_below_ours(self) -> None:
        claiming = png((9_500, 10_000), 1, 0, bytes(100))  # and no warning, which is an error here
        with pytest.raises(ImageError, match="ends before the picture does"):
            read_image(claiming, max_pixels=100_000_000)

    def test_a_damaged_header(self) -> None:
        data = bytearray(encode(_quarters()))
        data[28] ^= 2  # inside IHDR: its CRC no longer fits
        with pytest.raises(ImageError, match=r"not an image, or cut off|header is damaged"):
            read_image(bytes(data))

    def test_a_missing_file_a_folder_and_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")  # not waited for
        assert not is_plain_file(tmp_path / "pipe.png")
        kinds = {"gone": "no such file", "": "a folder", "pipe.png": "not a plain file"}
        for name, found in kinds.items():
            with pytest.raises(ImageError, match=found):
                read_image(tmp_path / name)


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_mask(tmp_path / "file" / "mask.png", np.ones((16, 16), np.bool_))


class TestSqueeze:
    def test_the_whole_frame_stays(self) -> None:
        squeezed = squeeze(np.asarray(_quarters()), 16)
        assert squeezed.shape == (16, 16, 3)
        assert _corners(squeezed) == [RED, GREEN, BLUE, WHITE]

    def test_a_pillow_image_squeezes_to_the_same_pixels_as_its_array(self) -> None:
        pixels = _noise(50, 70)
        assert np.array_equal(squeeze(Image.fromarray(pixels), 32), squeeze(pixels, 32))

    def test_shrinking_averages(self) -> None:
        stripes = np.zeros((32, 32, 3), np.uint8)
        stripes[:, ::2] = 255
        assert np.abs(squeeze(stripes, 4)[1:3, 1:3].astype(int) - 127).max() <= 2

    @pytest.mark.parametrize(("covered", "expected"), [(3, False), (4, True), (5, True)])
    def test_half_a_cell_is_lesion(self, covered: int, *, expected: bool) -> None:
        mask = np.zeros((4, 2), np.bool_)
        mask.flat[:covered] = True
        assert squeeze_mask(mask, 1).item() is expected

    def test_pixels_across_a_cell_edge_count_by_their_share(self) -> None:
        mask = np.array([[True, True, False]] * 3)
        # three pixels to two cells: the first holds 1 + 1/2 of 3/2, the second 1/2 of 3/2
        assert squeeze_mask(mask, 2).tolist() == [[True, False], [True, False]]

    def test_a_mask_of_the_same_size_stays(self) -> None:
        mask = np.random.default_rng(1).random((17, 17)) > 0.5
        assert np.array_equal(squeeze_mask(mask, 17), mask)

    @given(
        mask=arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))),
        size=st.integers(1, 9),
    )
    def test_cells_agree_with_a_fine_grid(self, mask: NDArray[np.bool_], size: int) -> None:
        # every pixel as size x size equal parts: cells then hold whole parts only
        fine = np.kron(mask, np.ones((size, size), np.int64))  # (size * H, size * W)
        height, width = mask.shape
        sums = fine.reshape(size, height, size, width).sum(axis=(1, 3))
        assert np.array_equal(squeeze_mask(mask, size), 2 * sums >= height * width)

    @given(mask=arrays(np.bool_, (6, 9)), factor=st.integers(1, 4))
    def test_enlarging_and_squeezing_back_restores_a_square(
        self, mask: NDArray[np.bool_], factor: int
    ) -> None:
        square = squeeze_mask(mask, 6)
        assert np.array_equal(squeeze_mask(squeeze_mask(square, 6 * factor), 6), square)


class TestProbabilities:
    def test_eight_bits_round_to_the_nearest(self, tmp_path: Path) -> None:
        probability = np.zeros((16, 16), np.float32)
        probability[0, :4] = [1.0, 0.5, 0.499, 0.002]
        write_probability(tmp_path / "p.png", probability)
        restored = read_probability(tmp_path / "p.png")
        assert restored.dtype == np.float32
        assert np.rint(restored[0, :4] * 255).tolist() == [255, 128, 127, 1]

    @given(probability=arrays(np.float32, (16, 16), elements=st.floats(0, 1, width=32)))
    def test_a_written_map_is_off_by_half_a_step_at_most(
        self, tmp_path_factory: pytest.TempPathFactory, probability: NDArray[np.float32]
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "p.png"
        write_probability(path, probability)
        assert np.abs(read_probability(path) - probability).max() <= 0.5 / 255 + 1e-6

    def test_resizing_interpolates_between_pixel_centres(self) -> None:
        resized = resize_probability(np.array([[0.0, 1.0]], np.float32), 1, 4)
        assert resized[0].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])
        flat = resize_probability(np.full((8, 8), 0.3, np.float32), 30, 40)
        assert (flat.shape, flat.dtype, flat.flags.writeable) == ((30, 40), np.float32, True)
        assert np.abs(flat - 0.3).max() < 1e-6
