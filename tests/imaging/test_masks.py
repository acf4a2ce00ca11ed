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
LOWER = DISC & (YY >= 20)
NOTHING, EVERYTHING = np.zeros_like(DISC), np.ones_like(DISC)
TWO = "two levels: {} and {}"
OPAQUE = "opaque is lesion, two levels: 0 and {}"
HALF = "graded: above half of its maximum, {}"
ONE = "one colour on black: {}"
AT_128 = "graded: above 128 of 255"
SMOOTHING = (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)


def decided(folder: Path, data: bytes) -> Decided:
    (folder / "mask.png").write_bytes(data)
    return decide_mask(folder / "mask.png")


def grey(*levels: int, dtype: Any = np.uint8) -> Image.Image:
    """Skin, lesion and, if a third level is given, the middle of the lesion."""
    return Image.fromarray(np.array(levels)[DISC + INNER * (len(levels) - 2)].astype(dtype))


def coloured(*colours: tuple[int, ...]) -> Image.Image:
    """The same in colours, with or without alpha."""
    planes = [np.asarray(grey(*levels)) for levels in zip(*colours, strict=True)]
    return Image.fromarray(np.dstack(planes), {2: "LA", 3: "RGB", 4: "RGBA"}[len(planes)])


def palette(*colours: int) -> Image.Image:
    image = Image.fromarray(DISC.astype(np.uint8), "P")
    image.putpalette(list(colours))
    return image


def deep(colour: int, *tops: int | None) -> bytes:
    """A PNG whose channels of 16 bits are discs of a level, or full."""
    planes = [np.full(DISC.shape, 65535) if top is None else DISC * top for top in tops]
    rows = np.stack(planes, axis=2).astype(">u2").reshape(HEIGHT, -1)
    return png((WIDTH, HEIGHT), 16, colour, [b"\0" + row.tobytes() for row in rows])


def covered(image: Image.Image, colour: Any) -> Image.Image:
    """The image with another colour in its upper part."""
    image.paste(colour, (0, 0, WIDTH, 20))
    return image


def smooth(high: int) -> Image.Image:
    """A disc with smooth edges, in 16 bits if need be."""
    levels = np.asarray(grey(0, 255).filter(ImageFilter.GaussianBlur(1))).astype(np.uint32)
    return Image.fromarray((levels * high // 255).astype(np.uint8 if high < 255 else np.uint16))


def enlarged(image: Image.Image) -> Image.Image:
    return image.resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.NEAREST)


SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6


@pytest.mark.parametrize(
    ("data", "lesion", "rule"),
    [
        *((encode(grey(low, high)), DISC, TWO.format(low, high))
          for low, high in ((0, 255), (0, 1), (1, 2), (0, 100), (254, 255))),
        *((encode(grey(0, high, dtype=np.uint16), kind), DISC, TWO.format(0, high))
          for high in (1, 255, 4095, 65535) for kind in ("PNG", "TIFF")),
        (encode(grey(0, 1, dtype=np.int32), "TIFF"), DISC, TWO.format(0, 1)),
        *((encode(Image.fromarray(DISC), kind), DISC, TWO.format(0, ""))
          for kind in ("PNG", "BMP", "TIFF")),
        *((encode(palette(0, 0, 0, *colour), kind), DISC, ONE.format(colour))
          for colour in ((128, 0, 0), (0, 0, 90)) for kind in ("PNG", "GIF", "TIFF")),
        (encode(palette(0, 0, 0, 255, 255, 255), "GIF"), DISC, TWO.format(0, 255)),
        (encode(palette(255, 255, 255, 0, 0, 0)), ~DISC, TWO.format(0, 255)),  # not by its numbers
        (encode(coloured((0, 0, 0), (200, 120, 0))), DISC, ONE.format((200, 120, 0))),
        (deep(2, 255, 0, 0), DISC, ONE.format((255, 0, 0))),
        # what alpha says, if it says anything; what is transparent is no lesion
        *((encode(coloured((0, 0, 0, 0), colour)), DISC, OPAQUE.format(colour[3]))
          for colour in ((255, 255, 255, 255), (0, 0, 0, 255), (9, 80, 3, 100))),
        (encode(coloured((0, 255), (1, 255))), DISC, TWO.format(0, 1)),
        (deep(4, 255, None), DISC, TWO.format(0, 255)),
        (deep(4, 7, 300), DISC, OPAQUE.format(300)),
        *((encode(image, transparency=0), DISC, OPAQUE.format(""))
          for image in (grey(0, 255), grey(0, 255, dtype=np.uint16), grey(0, 255).convert("1"))),
        (encode(covered(coloured((0, 255), (255, 255)), (255, 0))), LOWER,
         "two levels: 0 and 255, besides transparent pixels"),
        # smooth edges
        *((encode(smooth(high)), DISC, HALF.format(high)) for high in (100, 255, 1000, 65535)),
        # an image that lies on its side
        *((encode(covered(grey(0, 255, dtype=dtype), 0), exif=SIDEWAYS), np.rot90(LOWER, 3), "two")
          for dtype in (np.uint8, np.uint16)),
        # one level is nothing or the whole frame
        *((encode(grey(0, 0, dtype=dtype)), NOTHING, "one level: 0, empty")
          for dtype in (np.uint8, np.uint16)),
        (encode(coloured((0, 0), (0, 0))), NOTHING, "transparent everywhere: empty"),
        *((encode(grey(level, level, dtype=dtype)), EVERYTHING, f"one level: {level}, the whole")
          for level, dtype in ((1, "u1"), (255, "u1"), (255, "u2"), (65535, "u2"))),
    ],
)  # fmt: skip
def test_the_lesion_is_found_by_its_rule(
    tmp_path: Path, data: bytes, lesion: np.ndarray, rule: str
) -> None:
    found = decided(tmp_path, data)
    assert np.array_equal(found.lesion, lesion)
    assert found.lesion.dtype == np.bool_
    assert found.rule.startswith(rule)


def test_grades_of_8_bits_are_split_as_the_challenge_splits_them(tmp_path: Path) -> None:
    away = 12 - np.hypot(YY - 24, XX - 32)  # from the edge of the disc
    slopes = [np.rint(255 / (1 + np.exp(-slope * away))) for slope in (0.1, 0.3, 1.0, 3.0)]
    resized = [grey(0, 255).resize((150, 99), method) for method in SMOOTHING]
    for levels in (np.arange(256).reshape(16, 16), *slopes, *resized):
        pixels = np.asarray(levels).astype(np.uint8)
        found = decided(tmp_path, encode(pixels))
        assert (found.rule, (found.lesion == (pixels > 128)).all()) == (AT_128, True)


@pytest.mark.parametrize("quality", [50, 75, 100])
def test_noise_of_jpeg_is_no_third_level(tmp_path: Path, quality: int) -> None:
    found = decided(tmp_path, encode(grey(0, 255), "JPEG", quality=quality))
    assert (found.rule, (found.lesion ^ DISC).sum() <= 3) == (AT_128, True)
    red = enlarged(coloured((0, 0, 0), (200, 0, 0)))
    found = decided(tmp_path, encode(red, "JPEG", quality=max(quality, 75)))
    assert found.rule.startswith(HALF.format(""))
    expected = np.kron(DISC, np.ones((4, 4), np.bool_))
    assert (found.lesion ^ expected).sum() < 0.01 * expected.sum()


SEVERAL = coloured((0, 0, 0), (128, 0, 0), (0, 128, 0))
SCATTERED = np.random.default_rng(0).choice(np.array([0, 100, 200], np.uint8), DISC.shape)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        *((encode(grey(*levels, dtype=dtype)), "levels.*numbers of classes")
          for levels in ((0, 1, 2), (0, 128, 255), (0, 255, 128), (0, 85, 170), (1, 2, 3))
          for dtype in (np.uint8, np.uint16)),
        (encode(SCATTERED), "3 levels that stand apart: 0, 100, 200"),
        *((encode(enlarged(grey(0, 128, 255)), "JPEG", quality=quality), "stand apart")
          for quality in (75, 95, 100)),
        *((encode(grey(0, 128, 255).resize((200, 150), method)), "stand apart")
          for method in SMOOTHING),
        *((encode(image), r"\d colours that are not shades of")
          for image in (SEVERAL, SEVERAL.quantize(4), coloured((255, 255, 255), (255, 0, 0)))),
        (encode(enlarged(grey(0, 100)), "JPEG", quality=10),
         r"areas up to level 1\d\d, and only edges above 128"),
        (encode(grey(128, 128)), "every pixel has the level 128 of 255, which may be"),
        (encode(coloured((128, 0, 0), (128, 0, 0))), r"every pixel has the colour \(128, 0"),
        (encode(palette(0, 0, 0, 0, 0, 0)), "the palette gives all of its entries one colour"),
        (encode(coloured((0, 0), (255, 0))), "every pixel is transparent, and yet they differ"),
        (encode(coloured((0, 100), (255, 100), (9, 90))), "no pixel is more than half opaque"),
    ],
)  # fmt: skip
def test_what_fits_no_rule_is_refused(tmp_path: Path, data: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=rf"mask\.png is no mask: .*{match}"):
        decided(tmp_path, data)


def test_files_are_written_read_and_named_as_the_challenge_has_them(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "mask.png")
    with pytest.raises(ImageError, match="floating-point"):
        decided(tmp_path, encode(Image.new("F", (20, 20)), "TIFF"))
    write_mask(tmp_path / "mask.png", DISC)
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), DISC)
    names = ["a_Segmentation.png", "a_segmentation.PNG", "a_SEGMENTATION.tif", "b.png"]
    assert [image_of_mask(Path(name)) for name in names] == ["a", "a", "a", "b"]
    assert [has_mask_name(Path(name)) for name in names] == [True, True, True, False]
