"""What is lesion in a mask file, and by which rule; what fits no rule is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dermfuse.errors import ImageError
from dermfuse.imaging.masks import Decided, decide_mask, has_mask_name, image_of_mask, read_mask
from dermfuse.imaging.preprocess import write_mask

from .made import encode, png

HEIGHT, WIDTH = 48, 64
YY, XX = np.mgrid[:HEIGHT, :WIDTH]
DISC = (YY - 24) ** 2 + (XX - 32) ** 2 < 12**2
INNER = (YY - 24) ** 2 + (XX - 32) ** 2 < 6**2
KINDS = {"png": "PNG", "tif": "TIFF", "bmp": "BMP", "gif": "GIF", "jpg": "JPEG"}


def decided(folder: Path, image: Image.Image, suffix: str = "png", **options: Any) -> Decided:
    (folder / f"mask.{suffix}").write_bytes(encode(image, KINDS[suffix], **options))
    return decide_mask(folder / f"mask.{suffix}")


def grey(*levels: int, dtype: type = np.uint8) -> Image.Image:
    """Skin, lesion and, if a third level is given, the middle of the lesion."""
    pixels = np.full(DISC.shape, levels[0], dtype)
    pixels[DISC] = levels[1]
    pixels[INNER] = levels[-1]
    return Image.fromarray(pixels)


def coloured(skin: tuple[int, ...], lesion: tuple[int, ...], *inner: Any) -> Image.Image:
    pixels = np.empty((*DISC.shape, len(skin)), np.uint8)
    pixels[...] = skin
    pixels[DISC] = lesion
    if inner:
        pixels[INNER] = inner[0]
    return Image.fromarray(pixels, {2: "LA", 3: "RGB", 4: "RGBA"}[len(skin)])


def palette(*colours: int) -> Image.Image:
    image = Image.fromarray(DISC.astype(np.uint8), "P")
    image.putpalette(list(colours))
    return image


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    return image.resize((factor * WIDTH, factor * HEIGHT), Image.Resampling.NEAREST)


def scaled(high: int) -> Image.Image:
    """A disc with smooth edges, in 16 bits."""
    smooth = np.asarray(grey(0, 255).filter(ImageFilter.GaussianBlur(1)))
    return Image.fromarray((smooth.astype(np.uint32) * high // 255).astype(np.uint16))


TWO = "two levels: {} and {}"
OPAQUE = "opaque is lesion, two levels: 0 and {}"
HALF = "graded: above half of its maximum, {}"


class TestRules:
    @pytest.mark.parametrize(
        ("image", "suffix", "rule"),
        [
            *((grey(low, high), "png", TWO.format(low, high))
              for low, high in ((0, 255), (0, 1), (1, 2), (0, 100), (254, 255))),
            *((grey(0, high, dtype=np.uint16), suffix, TWO.format(0, high))
              for high in (1, 255, 4095, 65535) for suffix in ("png", "tif")),
            (grey(0, 1, dtype=np.int32), "tif", TWO.format(0, 1)),
            *((Image.fromarray(DISC), suffix, "two levels: 0 and ")
              for suffix in ("png", "bmp", "tif")),
            *((palette(0, 0, 0, *colour), suffix, f"one colour on black: {colour}")
              for colour in ((128, 0, 0), (0, 0, 90)) for suffix in ("png", "gif", "tif")),
            (palette(0, 0, 0, 255, 255, 255), "gif", TWO.format(0, 255)),
            (coloured((0, 0, 0), (200, 120, 0)), "png", "one colour on black: (200, 120, 0)"),
            *((coloured((0, 0, 0, 0), colour), "png", OPAQUE.format(colour[3]))
              for colour in ((255, 255, 255, 255), (0, 0, 0, 255), (9, 80, 3, 100))),
            (coloured((0, 255), (1, 255)), "png", TWO.format(0, 1)),  # alpha says nothing
            *((scaled(high), "png", HALF.format(high)) for high in (255, 1000, 65535)),
            (grey(0, 100).filter(ImageFilter.GaussianBlur(1)), "png", HALF.format(100)),
        ],
    )  # fmt: skip
    def test_the_disc_is_found(
        self, tmp_path: Path, image: Image.Image, suffix: str, rule: str
    ) -> None:
        found = decided(tmp_path, image, suffix)
        assert np.array_equal(found.lesion, DISC)
        assert found.lesion.dtype == np.bool_
        assert found.rule.startswith(rule)

    @pytest.mark.parametrize(
        ("colour", "channels", "rule"),
        [
            (4, (255, None), TWO.format(0, 255)),  # all opaque
            (4, (7, 300), OPAQUE.format(300)),
            (2, (255, 0, 0), "one colour on black: (255, 0, 0)"),
        ],
    )
    def test_in_channels_of_sixteen_bits(
        self, tmp_path: Path, colour: int, channels: tuple[int | None, ...], rule: str
    ) -> None:
        planes = [np.full(DISC.shape, 65535) if top is None else DISC * top for top in channels]
        rows = np.stack(planes, axis=2).astype(">u2").reshape(HEIGHT, -1).view(np.uint8)
        data = png((WIDTH, HEIGHT), 16, colour, np.pad(rows, ((0, 0), (1, 0))).tobytes())
        (tmp_path / "mask.png").write_bytes(data)
        found = decide_mask(tmp_path / "mask.png")
        assert np.array_equal(found.lesion, DISC)
        assert found.rule == rule

    @pytest.mark.parametrize("mode", ["L", "I;16", "1"])
    def test_a_transparent_colour_is_no_lesion(self, tmp_path: Path, mode: str) -> None:
        wide = mode == "I;16"
        image = grey(0, 255, dtype=np.uint16) if wide else grey(0, 255).convert(mode)
        found = decided(tmp_path, image, transparency=0)
        assert np.array_equal(found.lesion, DISC)
        assert found.rule.startswith(OPAQUE.format(""))

    def test_other_parts_of_the_frame(self, tmp_path: Path) -> None:
        by_colour = decided(tmp_path, palette(255, 255, 255, 0, 0, 0))  # not by its numbers
        assert np.array_equal(by_colour.lesion, ~DISC)
        image = coloured((0, 255), (255, 255))
        image.paste((255, 0), (0, 0, WIDTH, 20))  # transparent, whatever its colour
        found = decided(tmp_path, image)
        assert np.array_equal(found.lesion, DISC & (YY >= 20))
        assert found.rule == "two levels: 0 and 255, besides transparent pixels"
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        for lying in (grey(0, 255), grey(0, 255, dtype=np.uint16)):
            lying.paste(0, (0, 0, WIDTH, 20))
            turned = decided(tmp_path, lying, exif=exif).lesion
            assert np.array_equal(turned, np.rot90(DISC & (YY >= 20), 3))

    @pytest.mark.parametrize(
        ("image", "rule"),
        [
            (grey(0, 0), "one level: 0, empty"),
            (grey(0, 0, dtype=np.uint16), "one level: 0, empty"),
            (coloured((0, 0), (0, 0)), "transparent everywhere: empty"),
            *((grey(level, level, dtype=dtype), f"one level: {level}, the whole frame")
              for level, dtype in ((1, np.uint8), (255, np.uint8), (255, np.uint16),
                                   (65535, np.uint16))),
        ],
    )  # fmt: skip
    def test_one_level_is_nothing_or_the_whole_frame(
        self, tmp_path: Path, image: Image.Image, rule: str
    ) -> None:
        found = decided(tmp_path, image)
        assert found.rule == rule
        assert found.lesion.all() == found.lesion.any() == rule.endswith("frame")


class TestGrades:
    @pytest.mark.parametrize(
        "levels",
        [
            np.arange(256, dtype=np.uint8).reshape(16, 16),
            *(np.rint(255 / (1 + np.exp(-slope * (12 - np.hypot(YY - 24.0, XX - 32.0)))))
              for slope in (0.1, 0.3, 1.0, 3.0)),
            *(grey(0, 255).resize(size, method)
              for size in ((100, 75), (32, 24), (150, 99))
              for method in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)),
        ],
    )  # fmt: skip
    def test_eight_bits_are_split_at_128_as_the_challenge_splits_them(
        self, tmp_path: Path, levels: Any
    ) -> None:
        pixels = np.asarray(levels).astype(np.uint8)
        found = decided(tmp_path, Image.fromarray(pixels))
        assert np.array_equal(found.lesion, pixels > 128)
        assert found.rule == "graded: above 128 of 255"

    @pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
    def test_noise_of_jpeg_is_no_third_level(self, tmp_path: Path, quality: int) -> None:
        found = decided(tmp_path, grey(0, 255), "jpg", quality=quality)
        with Image.open(tmp_path / "mask.jpg") as image:
            again = decided(tmp_path, image)  # saved as PNG afterwards
        for each in (found, again):
            assert each.rule == "graded: above 128 of 255"
            assert (each.lesion ^ DISC).sum() <= 3

    @pytest.mark.parametrize("quality", [75, 95])
    def test_one_colour_as_jpeg(self, tmp_path: Path, quality: int) -> None:
        image = enlarged(coloured((0, 0, 0), (200, 0, 0)), 4)
        found = decided(tmp_path, image, "jpg", quality=quality)
        assert found.rule.startswith(HALF.format(""))
        expected = np.kron(DISC, np.ones((4, 4), np.bool_))
        assert (found.lesion ^ expected).sum() < 0.01 * expected.sum()


SEVERAL = coloured((0, 0, 0), (128, 0, 0), (0, 128, 0))
SCATTERED = np.random.default_rng(0).choice(np.array([0, 100, 200], np.uint8), DISC.shape)


@pytest.mark.parametrize(
    ("image", "suffix", "options", "match"),
    [
        *((grey(*levels, dtype=dtype), "png", {}, "levels.*numbers of classes")
          for levels in ((0, 1, 2), (0, 128, 255), (0, 255, 128), (0, 85, 170), (1, 2, 3))
          for dtype in (np.uint8, np.uint16)),
        (Image.fromarray(SCATTERED), "png", {}, "3 levels that stand apart: 0, 100, 200"),
        *((enlarged(grey(0, 128, 255), 4), "jpg", {"quality": quality}, "stand apart")
          for quality in (75, 90, 95, 100)),
        *((grey(0, 128, 255).resize((200, 150), method), "png", {}, "stand apart")
          for method in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)),
        *((image, "png", {}, r"\d colours that are not shades of")
          for image in (SEVERAL, SEVERAL.quantize(4), coloured((255, 255, 255), (255, 0, 0)))),
        (enlarged(grey(0, 100), 2), "jpg", {"quality": 10},
         r"areas up to level 1\d\d, and only edges above 128"),
        (grey(128, 128), "png", {}, "every pixel has the level 128 of 255, which may be"),
        (coloured((128, 0, 0), (128, 0, 0)), "png", {}, r"every pixel has the colour \(128, 0"),
        (palette(0, 0, 0, 0, 0, 0), "png", {}, "the palette gives all of its entries one colour"),
        (coloured((0, 0), (255, 0)), "png", {}, "every pixel is transparent, and yet they differ"),
    ],
)  # fmt: skip
def test_what_fits_no_rule_is_refused(
    tmp_path: Path, image: Image.Image, suffix: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ImageError, match=rf"mask\.{suffix} is no mask: .*{match}"):
        decided(tmp_path, image, suffix, **options)


def test_what_is_no_image_is_refused_as_one(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(ImageError, match="floating-point"):
        decided(tmp_path, Image.new("F", (20, 20)), "tif")


def test_written_masks_are_read_back(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", DISC)
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), DISC)


def test_a_mask_is_named_after_its_image_in_either_case() -> None:
    names = ["a_Segmentation.png", "a_segmentation.PNG", "a_SEGMENTATION.tif", "b.png"]
    assert [image_of_mask(Path(name)) for name in names] == ["a", "a", "a", "b"]
    assert [has_mask_name(Path(name)) for name in names] == [True, True, True, False]
