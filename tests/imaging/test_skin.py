import math

import numpy as np
import pytest
from skimage.color import rgb2lab

from dermfuse.imaging.colours import TONES, SkinTone, measure_skin, name_tone, typology_angle

SWATCH = (224, 177, 132)
LESION = np.zeros((120, 160), bool)
LESION[45:75, 60:100] = True


def _photograph(skin: tuple[int, int, int] = SWATCH) -> np.ndarray:
    image = np.empty((*LESION.shape, 3), np.uint8)
    image[:] = skin
    image[LESION] = (70, 40, 35)
    return image


def _tone(image: np.ndarray) -> SkinTone:
    tone = measure_skin(image, LESION)
    assert tone is not None
    return tone


@pytest.mark.parametrize(
    ("lightness", "b", "angle"),
    [(70, 20, 45.0), (50, 20, 0.0), (30, 20, -45.0), (50 + math.sqrt(3) * 10, 10, 60.0)],
)
def test_the_angle_is_that_of_lightness_above_50_over_yellowness(
    lightness: float, b: float, angle: float
) -> None:
    assert typology_angle(lightness, b) == pytest.approx(angle)


@pytest.mark.parametrize("b", [0.0, -3.0])
def test_skin_that_is_not_yellow_has_no_angle(b: float) -> None:
    assert typology_angle(70, b) is None


def test_a_limit_belongs_to_the_darker_class() -> None:
    angles = (55.1, 55.0, 41.0, 28.0, 10.0, -30.0)
    assert tuple(map(name_tone, angles)) == tuple(TONES)


@pytest.mark.parametrize(
    ("skin", "name"),
    [
        ((240, 205, 185), "very light"),
        (SWATCH, "intermediate"),
        ((150, 100, 65), "brown"),
        ((70, 45, 30), "dark"),
    ],
)
def test_the_skin_around_a_lesion_has_the_tone_of_its_swatch(
    skin: tuple[int, int, int], name: str
) -> None:
    lightness, _, b = rgb2lab(np.array([[skin]], np.uint8))[0, 0]
    angle = _tone(_photograph(skin)).angle_degrees
    assert angle is not None
    assert angle == pytest.approx(math.degrees(math.atan((lightness - 50) / b)), abs=0.2)
    assert name_tone(angle) == name


def test_the_edge_of_the_lens_a_ruler_and_glare_are_not_skin() -> None:
    image, plain = _photograph(), _tone(_photograph())
    rows, columns = np.indices(LESION.shape)
    image[np.hypot(rows - 60, columns - 80) > 66] = (12, 8, 6)
    image[100:110, 40:120:4] = (20, 20, 20)
    image[20:35, 60:110] = (255, 252, 250)
    disturbed = _tone(image)
    assert (disturbed.lightness, disturbed.b) == (plain.lightness, plain.b)
    assert disturbed.share < plain.share - 0.2


def test_the_border_of_the_lesion_is_not_skin() -> None:
    image = _photograph()
    image[41:79, 56:104] = (150, 90, 60)
    image[LESION] = (70, 40, 35)
    everywhere = np.ones(LESION.shape, bool)
    everywhere[:, :20] = False
    image[:, 20:23] = (150, 90, 60)
    assert _tone(image).lightness == _tone(_photograph()).lightness
    narrow = measure_skin(image, everywhere)
    assert narrow is not None
    assert narrow.share == pytest.approx((20 - 6) / 160)


@pytest.mark.parametrize(
    ("image", "lesion"),
    [
        (_photograph(), np.ones(LESION.shape, bool)),
        (_photograph((255, 200, 180)), LESION),
    ],
)
def test_where_no_skin_is_seen_there_is_no_tone(image: np.ndarray, lesion: np.ndarray) -> None:
    assert measure_skin(image, lesion) is None
