"""What is lesion in a mask file, and by which rule; what fits no rule is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dermfuse.errors import ImageError
from dermfuse.imaging.masks import decide_mask, has_mask_name, image_of_mask, read_mask
from dermfuse.imaging.preprocess import write_mask

from .made import png

HEIGHT, WIDTH = 48, 64
YY, XX = np.mgrid[:HEIGHT, :WIDTH]
DISC = (YY - 24) ** 2 + (XX - 32) ** 2 < 12**2
INNER = (YY - 24) ** 2 + (XX - 32) ** 2 < 6**2


def _saved(folder: Path, image: Image.Image, name: str = "mask.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def _grey(*levels: int, dtype: type = np.uint8) -> Image.Image:
    """Skin, lesion and, if a third level is given, the middle of the lesion."""
    pixels = np.full(DISC.shape, levels[0], dtype)
    pixels[DISC] = levels[1]
    pixels[INNER] = levels[-1]
    return Image.fromarray(pixels)


def _coloured(skin: tuple[int, ...], lesion: tuple[int, ...], *inner: Any) -> Image.Image:
    pixels = np.empty((*DISC.shape, len(skin)), np.uint8)
    pixels[...] = skin
    pixels[DISC] = lesion
    if inner:
        pixels[INNER] = inner[0]
    return Image.fromarray(pixels, {2: "LA", 3: "RGB", 4: "RGBA"}[len(skin)])


def _palette(*colours: int) -> Image.Image:
    image = Image.fromarray(DISC.astype(np.uint8), "P")
    image.putpalette(list(colours))
    return image


class TestTwoLevels:
    @pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (1, 2), (0, 100), (254, 255)])
    def test_the_brighter_is_lesion_whichever_they_are(
        self, tmp_path: Path, low: int, high: int
    ) -> None:
        decided = decide_mask(_saved(tmp_path, _grey(low, high)))
        assert np.array_equal(decided.lesion, DISC)
        assert decided.lesion.dtype == np.bool_
        assert decided.rule == f"two levels: {low} and {high}"

    @pytest.mark.parametrize(
        ("image", "name"),
        [
            *((_grey(0, high, dtype=np.uint16), name)
              for high in (1, 255, 4095, 65535) for name in ("mask.png", "mask.tif")),
            (_grey(0, 1, dtype=np.int32), "mask.tif"),
            *((Image.fromarray(DISC), name) for name in ("mask.png", "mask.bmp", "mask.tif")),
            *((_palette(0, 0, 0, *colour), name)
              for colour in ((128, 0, 0), (0, 0, 90), (255, 255, 255))
              for name in ("mask.png", "mask.gif", "mask.tif")),
            (_grey(0, 255).convert("RGB"), "mask.png"),
        ],
    )  # fmt: skip
    def test_in_every_mode(self, tmp_path: Path, image: Image.Image, name: str) -> None:
        assert np.array_equal(read_mask(_saved(tmp_path, image, name)), DISC)

    def test_a_palette_decides_by_its_colours_not_by_its_numbers(self, tmp_path: Path) -> None:
        path = _saved(tmp_path, _palette(255, 255, 255, 0, 0, 0))
        assert np.array_equal(read_mask(path), ~DISC)

    def test_one_colour_on_black(self, tmp_path: Path) -> None:
        decided = decide_mask(_saved(tmp_path, _coloured((0, 0, 0), (200, 120, 0))))
        assert np.array_equal(decided.lesion, DISC)
        assert decided.rule == "one colour on black: (200, 120, 0)"

    def test_an_image_that_lies_on_its_side_is_turned(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        for image in (_grey(0, 255), _grey(0, 255, dtype=np.uint16)):
            image.paste(0, (0, 0, WIDTH, 20))
            path = _saved(tmp_path, image, exif=exif)
            assert np.array_equal(read_mask(path), np.rot90(DISC & (YY >= 20), 3))


class TestTransparency:
    @pytest.mark.parametrize("colour", [(255, 255, 255, 255), (0, 0, 0, 255), (9, 80, 3, 100)])
    def test_what_is_opaque_is_lesion_in_whichever_colour(
        self, tmp_path: Path, colour: tuple[int, ...]
    ) -> None:
        decided = decide_mask(_saved(tmp_path, _coloured((0, 0, 0, 0), colour)))
        assert np.array_equal(decided.lesion, DISC)
        assert decided.rule == f"opaque is lesion, two levels: 0 and {colour[3]}"

    @pytest.mark.parametrize(
        ("colour", "channels", "rule"),
        [
            (4, (255, None), "two levels: 0 and 255"),  # all opaque
            (4, (7, 300), "opaque is lesion, two levels: 0 and 300"),
            (2, (255, 0, 0), "one colour on black: (255, 0, 0)"),
        ],
    )
    def test_channels_of_sixteen_bits(
        self, tmp_path: Path, colour: int, channels: tuple[int | None, ...], rule: str
    ) -> None:
        planes = [np.full(DISC.shape, 65535) if top is None else DISC * top for top in channels]
        rows = np.stack(planes, axis=2).astype(">u2").reshape(HEIGHT, -1).view(np.uint8)
        data = png((WIDTH, HEIGHT), 16, colour, np.pad(rows, ((0, 0), (1, 0))).tobytes())
        (tmp_path / "mask.png").write_bytes(data)
        decided = decide_mask(tmp_path / "mask.png")
        assert decided.rule == rule
        assert np.array_equal(decided.lesion, DISC)

    def test_what_is_transparent_is_no_lesion_though_its_colour_is(self, tmp_path: Path) -> None:
        image = _coloured((0, 255), (255, 255))
        image.paste((255, 0), (0, 0, WIDTH, 20))
        decided = decide_mask(_saved(tmp_path, image))
        expected = DISC & (YY >= 20)
        assert np.array_equal(decided.lesion, expected)
        assert decided.rule == "two levels: 0 and 255, besides transparent pixels"

    def test_alpha_that_says_nothing_is_left_aside(self, tmp_path: Path) -> None:
        decided = decide_mask(_saved(tmp_path, _coloured((0, 255), (1, 255))))
        assert decided.rule == "two levels: 0 and 1"
        assert np.array_equal(decided.lesion, DISC)

    @pytest.mark.parametrize("mode", ["L", "I;16", "1"])
    def test_a_transparent_colour(self, tmp_path: Path, mode: str) -> None:
        wide = mode == "I;16"
        image = _grey(0, 255, dtype=np.uint16) if wide else _grey(0, 255).convert(mode)
        decided = decide_mask(_saved(tmp_path, image, transparency=0))
        assert np.array_equal(decided.lesion, DISC)
        assert decided.rule.startswith("opaque is lesion, two levels: 0 and ")

    def test_nothing_but_transparency_is_empty(self, tmp_path: Path) -> None:
        decided = decide_mask(_saved(tmp_path, _coloured((0, 0), (0, 0))))
        assert not decided.lesion.any()
        with pytest.raises(ImageError, match="every pixel is transparent, and yet they differ"):
            decide_mask(_saved(tmp_path, _coloured((0, 0), (255, 0))))


class TestOneLevel:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_zero_is_an_empty_mask(self, tmp_path: Path, dtype: type) -> None:
        decided = decide_mask(_saved(tmp_path, _grey(0, 0, dtype=dtype)))
        assert not decided.lesion.any()
        assert decided.rule == "one level: 0, empty"

    @pytest.mark.parametrize(
        ("level", "dtype"), [(1, np.uint8), (255, np.uint8), (255, np.uint16), (65535, np.uint16)]
    )
    def test_the_largest_is_the_whole_frame(self, tmp_path: Path, level: int, dtype: type) -> None:
        decided = decide_mask(_saved(tmp_path, _grey(level, level, dtype=dtype)))
        assert decided.lesion.all()
        assert decided.rule == f"one level: {level}, the whole frame"

    def test_any_other_may_be_either(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="every pixel has the level 128 of 255, which may be"):
            decide_mask(_saved(tmp_path, _grey(128, 128)))
        with pytest.raises(ImageError, match=r"every pixel has the colour \(128, 0, 0\)"):
            decide_mask(_saved(tmp_path, _coloured((128, 0, 0), (128, 0, 0))))
        with pytest.raises(ImageError, match="the palette gives all of its entries one colour"):
            decide_mask(_saved(tmp_path, _palette(0, 0, 0, 0, 0, 0)))


class TestGrades:
    def test_eight_bits_are_split_at_128_as_the_challenge_splits_them(self, tmp_path: Path) -> None:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
        decided = decide_mask(_saved(tmp_path, Image.fromarray(ramp)))
        assert np.array_equal(decided.lesion, ramp > 128)
        assert decided.rule == "graded: above 128 of 255"

    @pytest.mark.parametrize("high", [255, 1000, 65535])
    def test_sixteen_bits_are_split_at_half_of_their_maximum(
        self, tmp_path: Path, high: int
    ) -> None:
        smooth = np.asarray(_grey(0, 255).filter(ImageFilter.GaussianBlur(1)))
        image = Image.fromarray((smooth.astype(np.uint32) * high // 255).astype(np.uint16))
        decided = decide_mask(_saved(tmp_path, image))
        assert np.array_equal(decided.lesion, DISC)
        assert decided.rule == f"graded: above half of its maximum, {high}"

    def test_grades_below_128_are_split_at_half_of_their_maximum(self, tmp_path: Path) -> None:
        decided = decide_mask(_saved(tmp_path, _grey(0, 100).filter(ImageFilter.GaussianBlur(1))))
        assert decided.rule == "graded: above half of its maximum, 100"
        assert np.array_equal(decided.lesion, DISC)

    @pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
    @pytest.mark.parametrize("again", [False, True])
    def test_noise_of_jpeg_is_no_third_level(
        self, tmp_path: Path, quality: int, again: bool
    ) -> None:
        path = _saved(tmp_path, _grey(0, 255), "mask.jpg", quality=quality)
        if again:  # saved as PNG afterwards
            with Image.open(path) as image:
                path = _saved(tmp_path, image)
        decided = decide_mask(path)
        assert decided.rule == "graded: above 128 of 255"
        assert (decided.lesion ^ DISC).sum() <= 3

    @pytest.mark.parametrize("quality", [75, 95])
    def test_one_colour_as_jpeg(self, tmp_path: Path, quality: int) -> None:
        image = _coloured((0, 0, 0), (200, 0, 0)).resize((4 * WIDTH, 4 * HEIGHT), 0)
        decided = decide_mask(_saved(tmp_path, image, "mask.jpg", quality=quality))
        assert decided.rule.startswith("graded: above half of its maximum")
        expected = np.kron(DISC, np.ones((4, 4), np.bool_))
        assert (decided.lesion ^ expected).sum() < 0.01 * expected.sum()

    @pytest.mark.parametrize("slope", [0.1, 0.3, 1.0, 3.0])
    def test_probabilities(self, tmp_path: Path, slope: float) -> None:
        distance = 12 - np.hypot(YY - 24.0, XX - 32.0)
        levels = np.rint(255 / (1 + np.exp(-slope * distance))).astype(np.uint8)
        assert np.array_equal(read_mask(_saved(tmp_path, Image.fromarray(levels))), levels > 128)

    @pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    @pytest.mark.parametrize("size", [(100, 75), (32, 24), (150, 99)])
    def test_a_mask_that_was_resized(
        self, tmp_path: Path, method: Image.Resampling, size: tuple[int, int]
    ) -> None:
        resized = _grey(0, 255).resize(size, method)
        found = read_mask(_saved(tmp_path, resized))
        assert np.array_equal(found, np.asarray(resized) > 128)


class TestRefusals:
    @pytest.mark.parametrize(
        "levels", [(0, 1, 2), (0, 128, 255), (0, 255, 128), (0, 85, 170), (1, 2, 3), (0, 1, 255)]
    )
    def test_three_levels_are_classes(self, tmp_path: Path, levels: tuple[int, ...]) -> None:
        with pytest.raises(ImageError, match=r"mask\.png is no mask: .*levels.*numbers of classes"):
            decide_mask(_saved(tmp_path, _grey(*levels)))
        with pytest.raises(ImageError, match="numbers of classes"):
            decide_mask(_saved(tmp_path, _grey(*levels, dtype=np.uint16)))

    def test_levels_that_fill_much_without_areas(self, tmp_path: Path) -> None:
        scattered = np.random.default_rng(0).choice(np.array([0, 100, 200], np.uint8), DISC.shape)
        with pytest.raises(ImageError, match="3 levels that stand apart: 0, 100, 200"):
            decide_mask(_saved(tmp_path, Image.fromarray(scattered)))

    @pytest.mark.parametrize("quality", [75, 90, 95, 100])
    def test_classes_as_jpeg(self, tmp_path: Path, quality: int) -> None:
        large = _grey(0, 128, 255).resize((4 * WIDTH, 4 * HEIGHT), 0)
        with pytest.raises(ImageError, match="stand apart"):
            decide_mask(_saved(tmp_path, large, "mask.jpg", quality=quality))

    @pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    def test_classes_that_were_resized(self, tmp_path: Path, method: Image.Resampling) -> None:
        with pytest.raises(ImageError, match="stand apart"):
            decide_mask(_saved(tmp_path, _grey(0, 128, 255).resize((200, 150), method)))

    def test_colours_are_classes(self, tmp_path: Path) -> None:
        several = _coloured((0, 0, 0), (128, 0, 0), (0, 128, 0))
        for image in (several, several.quantize(4), _coloured((255, 255, 255), (255, 0, 0))):
            with pytest.raises(ImageError, match=r"is no mask: \d colours that are not shades of"):
                decide_mask(_saved(tmp_path, image))

    def test_areas_below_the_threshold_with_edges_above_it(self, tmp_path: Path) -> None:
        large = _grey(0, 100).resize((2 * WIDTH, 2 * HEIGHT), 0)
        with pytest.raises(ImageError, match=r"areas up to level 1\d\d, and only edges above 128"):
            decide_mask(_saved(tmp_path, large, "mask.jpg", quality=10))

    def test_a_file_that_is_missing_or_floating_point(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no such file"):
            read_mask(tmp_path / "none.png")
        with pytest.raises(ImageError, match="floating-point"):
            read_mask(_saved(tmp_path, Image.new("F", (20, 20)), "mask.tif"))


def test_written_masks_are_read_back(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", DISC)
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), DISC)


def test_a_mask_is_named_after_its_image_in_either_case() -> None:
    names = ["a_Segmentation.png", "a_segmentation.PNG", "a_SEGMENTATION.tif"]
    assert [image_of_mask(Path(name)) for name in names] == ["a", "a", "a"]
    assert image_of_mask(Path("b.png")) == "b"
    assert not has_mask_name(Path("b.png"))
