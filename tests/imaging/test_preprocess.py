"""Odd but valid files give the right pixels; the others are refused in one line."""

import io
import os
import struct
import zlib
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
from dermfuse.imaging.masks import read_mask
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

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _noise(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than follow."""
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(100)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def _quarters() -> Image.Image:
    """Red, green over blue, white: 32 x 20, so that every orientation looks different."""
    image = Image.new("RGB", (32, 20), RED)
    image.paste(GREEN, (16, 0, 32, 10))
    image.paste(BLUE, (0, 10, 16, 20))
    image.paste(WHITE, (16, 10, 32, 20))
    return image


def _corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in pixels[y, x]) for y in (0, -1) for x in (0, -1)]


class TestReadImage:
    def test_a_png_keeps_every_pixel(self) -> None:
        pixels = _noise()
        assert np.array_equal(read_image(_encode(Image.fromarray(pixels), "PNG")), pixels)

    def test_a_path_and_its_bytes_read_alike(self, tmp_path: Path) -> None:
        data = _encode(Image.fromarray(_noise()), "JPEG")
        path = tmp_path / "lesion.jpg"
        path.write_bytes(data)
        assert np.array_equal(read_image(path), read_image(data))

    def test_the_pixels_may_be_written_to(self) -> None:
        read_image(_encode(_quarters(), "PNG"))[0, 0] = 0

    def test_cmyk_becomes_rgb(self) -> None:
        data = _encode(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=100)
        assert np.abs(read_image(data).astype(int) - RED).max() <= 3

    def test_grey_fills_the_three_channels(self) -> None:
        assert (read_image(_encode(Image.new("L", (20, 20), 77), "PNG")) == 77).all()

    def test_a_one_bit_image_becomes_black_and_white(self) -> None:
        image = Image.new("1", (20, 20), 0)
        image.putpixel((3, 2), 1)
        pixels = read_image(_encode(image, "PNG"))
        assert tuple(pixels[2, 3]) == WHITE
        assert pixels.sum() == 3 * 255

    def test_a_palette_is_looked_up(self) -> None:
        image = _quarters().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
        assert _corners(read_image(_encode(image, "PNG"))) == [RED, GREEN, BLUE, WHITE]

    def test_a_transparent_palette_colour_is_laid_on_white(self) -> None:
        image = Image.new("P", (20, 20), 0)
        image.putpalette([*RED, *BLUE])
        image.putpixel((5, 5), 1)
        pixels = read_image(_encode(image, "PNG", transparency=bytes([0, 255])))
        assert tuple(pixels[0, 0]) == WHITE
        assert tuple(pixels[5, 5]) == BLUE

    def test_half_transparent_grey_is_laid_on_white(self) -> None:
        data = _encode(Image.new("LA", (20, 20), (100, 128)), "PNG")
        expected = round((100 * 128 + 255 * 127) / 255)
        assert (np.abs(read_image(data).astype(int) - expected) <= 1).all()

    def test_rgba_is_laid_on_white(self) -> None:
        image = Image.new("RGBA", (20, 20), (*RED, 0))
        image.putpixel((1, 1), (*GREEN, 255))
        pixels = read_image(_encode(image, "PNG"))
        assert tuple(pixels[0, 0]) == WHITE
        assert tuple(pixels[1, 1]) == GREEN

    def test_the_transparent_colour_of_an_rgb_png_is_laid_on_white(self) -> None:
        data = _encode(_quarters(), "PNG", transparency=RED)
        assert _corners(read_image(data)) == [WHITE, GREEN, BLUE, WHITE]

    @pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
    def test_sixteen_bits_are_scaled_to_eight(self, format_name: str) -> None:
        values = np.zeros((20, 20), np.uint16)
        values[0, :6] = [0, 128, 129, 257 * 100, 65_535, 32_768]
        pixels = read_image(_encode(Image.fromarray(values), format_name))
        assert pixels[0, :6, 0].tolist() == [0, 0, 1, 100, 255, 128]

    def test_big_endian_sixteen_bits_are_scaled_alike(self) -> None:
        image = Image.new("I;16B", (20, 20), 257 * 9)
        assert (read_image(_encode(image, "TIFF")) == 9).all()

    def test_sixteen_bits_in_a_wide_image_are_scaled_alike(self) -> None:
        image = Image.new("I", (20, 20), 257 * 9)  # what older Pillows make of a 16-bit PNG
        assert (read_image(_encode(image, "TIFF")) == 9).all()

    def test_a_camera_held_upright_is_read_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the stored image has to be turned clockwise
        pixels = read_image(_encode(_quarters(), "PNG", exif=exif))
        assert pixels.shape == (32, 20, 3)
        assert _corners(pixels) == [BLUE, RED, WHITE, GREEN]

    @pytest.mark.parametrize(
        ("orientation", "stored"),
        [
            (1, lambda x: x),
            (2, lambda x: x[:, ::-1]),
            (3, lambda x: x[::-1, ::-1]),
            (4, lambda x: x[::-1]),
            (5, lambda x: x.swapaxes(0, 1)),
            (6, lambda x: np.rot90(x, 1)),
            (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
            (8, lambda x: np.rot90(x, -1)),
        ],
    )
    def test_every_exif_orientation_is_undone(self, orientation: int, stored: Any) -> None:
        pixels = _noise()
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored(pixels)))
        assert np.array_equal(read_image(_encode(image, "PNG", exif=exif)), pixels)

    @pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_the_exif_block_turns_in_every_container(self, format_name: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"lossless": True} if format_name == "WEBP" else {}
        pixels = read_image(_encode(_quarters(), format_name, exif=exif, **options))
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
        if with_exif:  # one without an orientation
            exif = Image.Exif()
            exif[0x010F] = "a camera"
            options["exif"] = exif
        assert read_image(_encode(_quarters(), format_name, **options)).shape == (20, 32, 3)

    def test_an_orientation_that_is_none_turns_nothing(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 9
        assert read_image(_encode(_quarters(), "PNG", exif=exif)).shape == (20, 32, 3)

    def test_damaged_exif_does_not_hide_the_image(self) -> None:
        data = _encode(Image.new("RGB", (20, 20), RED), "JPEG", exif=b"Exif\0\0nonsense")
        assert read_image(data).shape == (20, 20, 3)

    def test_a_photograph_with_a_preview_behind_it_is_read(self) -> None:
        preview = Image.new("RGB", (16, 16), BLUE)
        data = _encode(_quarters(), "MPO", save_all=True, append_images=[preview])
        assert read_image(data).shape == (20, 32, 3)

    def test_a_still_gif_is_read(self) -> None:
        assert _corners(read_image(_encode(_quarters(), "GIF"))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(("alpha", "expected"), [(0, 40), (255, 40), (51, 212)])
def test_a_fourth_byte_of_bmp_that_is_zero_throughout_is_no_alpha(
    alpha: int, expected: int
) -> None:
    image = Image.new("RGBA", (16, 16), (40, 40, 40, alpha))  # 51 is a fifth
    data = _encode(image, "BMP")
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, 1024, 0, 0, 0, 0) + masks
    start = 14 + 108
    whole = b"BM" + struct.pack("<IHHI", start + 1024, 0, 0, start) + header + bytes(52)
    assert read_image(whole + data[-1024:])[0, 0].tolist() == [expected] * 3


class TestRefusals:
    def test_animation(self) -> None:
        frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN)]
        data = _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="animated"):
            read_image(data)

    def test_a_truncated_jpeg(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.jpg"
        data = _encode(Image.fromarray(_noise(200, 200)), "JPEG")
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=r"cut\.jpg: the image is cut off or damaged"):
            read_image(path)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.touch()
        with pytest.raises(ImageError, match=r"empty\.jpg: the file is empty"):
            read_image(path)

    def test_zero_bytes_and_text(self, tmp_path: Path) -> None:
        for content in (bytes(1000), b"This is not a photograph.\n" * 50):
            path = tmp_path / "lesion.jpg"
            path.write_bytes(content)
            with pytest.raises(ImageError, match=r"lesion\.jpg: not an image"):
                read_image(path)

    def test_a_single_pixel(self) -> None:
        with pytest.raises(ImageError, match=f"1 x 1 pixels. Expected: {MIN_SIDE_PX} or more"):
            read_image(_encode(Image.new("RGB", (1, 1)), "PNG"))

    @pytest.mark.parametrize("size", [(20_000, 20_000), (5_001, 10_000)])
    def test_more_pixels_than_allowed(self, size: tuple[int, int]) -> None:
        with pytest.raises(ImageError, match=f"{MAX_PIXELS:,} pixels or fewer"):
            read_image(_png_claiming(*size))

    def test_pillows_own_limit_does_not_speak_below_ours(self) -> None:
        with pytest.raises(
            ImageError, match="ends before the picture does"
        ):  # and no warning, which is an error here
            read_image(_png_claiming(9_500, 10_000), max_pixels=100_000_000)

    def test_a_damaged_header(self) -> None:
        data = bytearray(_encode(_quarters(), "PNG"))
        data[28] ^= 2  # inside IHDR: its CRC no longer fits
        with pytest.raises(ImageError, match=r"not an image, or cut off|header is damaged"):
            read_image(bytes(data))

    def test_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
            read_image(tmp_path / "gone.jpg")
        with pytest.raises(ImageError, match="a folder"):
            read_image(tmp_path)

    def test_postscript_starts_no_interpreter(self) -> None:
        with pytest.raises(ImageError, match="not an image"):
            read_image(_encode(_quarters(), "EPS"))

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match="not a plain file"):
            read_image(tmp_path / "pipe.png")
        assert not is_plain_file(tmp_path / "pipe.png")

    def test_floating_point_and_wide_integer_pixels(self) -> None:
        with pytest.raises(ImageError, match="floating-point"):
            read_image(_encode(Image.new("F", (20, 20)), "TIFF"))
        with pytest.raises(ImageError, match="grey values from 70000"):
            read_image(_encode(Image.new("I", (20, 20), 70_000), "TIFF"))

    def test_several_pages(self) -> None:
        page = Image.new("RGB", (20, 20))
        with pytest.raises(ImageError, match="several pages"):
            read_image(_encode(page, "TIFF", save_all=True, append_images=[page]))

    def test_the_message_is_one_line(self) -> None:
        with pytest.raises(ImageError) as caught:
            read_image(b"")
        assert "\n" not in str(caught.value)


class TestMasks:
    def test_lesion_is_above_128(self, tmp_path: Path) -> None:
        values = np.zeros((16, 16), np.uint8)
        values[0, :4] = [127, 128, 129, 255]
        path = tmp_path / "mask.png"
        Image.fromarray(values).save(path)
        mask = read_mask(path)
        assert mask.dtype == np.bool_
        assert mask[0, :4].tolist() == [False, False, True, True]

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
    def test_white_is_lesion_in_every_mode(self, tmp_path: Path, mode: str) -> None:
        mask = np.zeros((16, 20), np.bool_)
        mask[3:9, 4:7] = True
        path = tmp_path / "mask.png"
        if mode == "I;16":
            image = Image.fromarray(mask.astype(np.uint16) * np.uint16(65_535))
        else:
            image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).convert(mode)
        image.save(path)
        assert np.array_equal(read_mask(path), mask)

    def test_written_masks_are_0_and_255(self, tmp_path: Path) -> None:
        mask = np.eye(16, dtype=np.bool_)
        write_mask(tmp_path / "mask.png", mask)
        with Image.open(tmp_path / "mask.png") as image:
            assert image.mode == "L"
            assert image.getextrema() == (0, 255)
        assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)

    def test_a_folder_that_is_a_file_is_one_clear_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot be written"):
            write_mask(tmp_path / "file" / "mask.png", np.ones((16, 16), np.bool_))


class TestSqueeze:
    def test_the_whole_frame_stays(self) -> None:
        squeezed = squeeze(np.asarray(_quarters()), 16)
        assert squeezed.shape == (16, 16, 3)
        assert _corners(squeezed) == [RED, GREEN, BLUE, WHITE]

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

    def test_resizing_keeps_a_flat_map_and_the_order_of_sides(self) -> None:
        resized = resize_probability(np.full((8, 8), 0.3, np.float32), 30, 40)
        assert resized.shape == (30, 40)
        assert resized.dtype == np.float32
        assert np.abs(resized - 0.3).max() < 1e-6

    def test_resizing_interpolates_between_pixel_centres(self) -> None:
        resized = resize_probability(np.array([[0.0, 1.0]], np.float32), 1, 4)
        assert resized[0].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])


def test_a_pillow_image_squeezes_to_the_same_pixels_as_its_array() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    assert np.array_equal(squeeze(Image.fromarray(pixels), 32), squeeze(pixels, 32))


def test_a_resized_probability_may_be_changed_by_its_owner() -> None:
    resized = resize_probability(np.full((4, 4), 0.25, np.float32), 6, 8)
    assert resized.flags.writeable
    assert resized.dtype == np.float32
