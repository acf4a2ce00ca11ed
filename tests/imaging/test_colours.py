"""Lab is as tabled, each example has its own colour, and skin has the tone of its swatch."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.imaging.colours import (
    REFERENCES,
    SKIN,
    TONES,
    SkinTone,
    colour_shares,
    measure_skin,
    name_tone,
    skin_gains,
    to_lab,
    typology_angle,
)

rgb2lab = pytest.importorskip("skimage.color").rgb2lab

SKIN_LAB = to_lab(np.full((60, 3), SKIN, np.uint8))


class TestColours:
    def test_lab_is_that_of_scikit_image(self) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        assert np.abs(to_lab(rgb) - rgb2lab(rgb)).max() < 0.05
        blue = to_lab(np.array([0, 0, 255], np.uint8))
        assert blue == pytest.approx([32.30, 79.19, -107.86], abs=0.1)  # as tabled

    @pytest.mark.parametrize("name", REFERENCES)
    def test_every_example_has_its_own_colour(self, name: str) -> None:
        shares = colour_shares(to_lab(np.array(REFERENCES[name], np.uint8)), SKIN_LAB)
        assert shares == {other: float(other == name) for other in REFERENCES}

    @pytest.mark.parametrize("rgb", [(20, 200, 20), (0, 0, 255), SKIN])
    def test_green_blue_and_skin_have_none_of_the_six(self, rgb: tuple[int, int, int]) -> None:
        assert sum(colour_shares(to_lab(np.array([rgb], np.uint8)), SKIN_LAB).values()) == 0

    def test_white_must_be_lighter_than_the_skin_around(self) -> None:
        white = to_lab(np.array(REFERENCES["white"], np.uint8))
        pale = to_lab(np.full((60, 3), (255, 200, 180), np.uint8)) + np.array([8, 0, 0], "f4")
        assert colour_shares(white, SKIN_LAB)["white"] == 1.0
        assert colour_shares(white, pale)["white"] == 0.0
        brown = to_lab(np.array([(83, 43, 35)], np.uint8))  # without any, usual skin
        assert colour_shares(brown, np.empty((0, 3), np.float32))["dark brown"] == 1.0

    def test_a_cast_is_taken_out_and_lightness_is_kept(self) -> None:
        bluish = np.full((60, 3), (160, 165, 190), np.uint8)
        before, after = to_lab(bluish)[0], to_lab(bluish, gains=skin_gains(bluish))[0]
        usual = to_lab(np.array(SKIN, np.uint8))
        assert after[0] == pytest.approx(before[0], abs=0.01)
        hues = [math.atan2(lab[2], lab[1]) for lab in (after, usual)]
        assert hues[0] == pytest.approx(hues[1], abs=0.01)
        assert skin_gains(bluish[:10]).tolist() == [1, 1, 1]  # little skin, the edge of the lens
        assert skin_gains(np.full((500, 3), (20, 10, 30), np.uint8)).tolist() == [1, 1, 1]

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20))
    def test_shares_are_shares(self, pixels: list[tuple[int, int, int]]) -> None:
        shares = colour_shares(to_lab(np.array(pixels, np.uint8)), SKIN_LAB)
        assert all(0 <= share <= 1 for share in shares.values())
        assert sum(shares.values()) <= 1 + 1e-9


SWATCH, BORDER, DARK = (224, 177, 132), (150, 90, 60), (70, 40, 35)
LESION = np.zeros((120, 160), bool)
LESION[45:75, 60:100] = True


def photograph(skin: tuple[int, int, int] = SWATCH) -> np.ndarray:
    return np.where(LESION[..., None], np.array(DARK, np.uint8), np.array(skin, np.uint8))


def tone(image: np.ndarray, lesion: np.ndarray = LESION) -> SkinTone:
    found = measure_skin(image, lesion)
    assert found is not None
    return found


class TestSkinTone:
    def test_the_angle_is_that_of_lightness_above_50_over_yellowness(self) -> None:
        angles = [typology_angle(*pair) for pair in ((70, 20), (50, 20), (30, 20), (70, -3.0))]
        assert angles == [pytest.approx(45), 0.0, pytest.approx(-45), None]
        limits = (55.1, 55.0, 41.0, 28.0, 10.0, -30.0)  # each belongs to the darker class
        assert tuple(map(name_tone, limits)) == tuple(TONES)

    @pytest.mark.parametrize(
        ("skin", "name"),
        [
            ((240, 205, 185), "very light"),
            (SWATCH, "intermediate"),
            ((150, 100, 65), "brown"),
            ((70, 45, 30), "dark"),
        ],
    )
    def test_skin_has_the_tone_of_its_swatch(self, skin: tuple[int, int, int], name: str) -> None:
        lightness, _, b = rgb2lab(np.array([[skin]], np.uint8))[0, 0]
        angle = tone(photograph(skin)).angle_degrees
        assert angle is not None
        assert angle == pytest.approx(math.degrees(math.atan((lightness - 50) / b)), abs=0.2)
        assert name_tone(angle) == name

    def test_the_edge_of_the_lens_a_ruler_and_glare_are_not_skin(self) -> None:
        image, plain = photograph(), tone(photograph())
        rows, columns = np.indices(LESION.shape)
        image[np.hypot(rows - 60, columns - 80) > 66] = (12, 8, 6)
        image[100:110, 40:120:4] = (20, 20, 20)
        image[20:35, 60:110] = (255, 252, 250)
        disturbed = tone(image)
        assert (disturbed.lightness, disturbed.b) == (plain.lightness, plain.b)
        assert disturbed.share < plain.share - 0.2

    def test_the_border_of_the_lesion_is_not_skin(self) -> None:
        image = photograph()
        image[41:79, 56:104] = BORDER
        image[LESION] = DARK
        everywhere = np.ones(LESION.shape, bool)
        everywhere[:, :20] = False
        image[:, 20:23] = BORDER
        assert tone(image).lightness == tone(photograph()).lightness
        assert tone(image, everywhere).share == pytest.approx((20 - 6) / 160)

    def test_where_no_skin_is_seen_there_is_no_tone(self) -> None:
        assert measure_skin(photograph(), np.ones(LESION.shape, bool)) is None
        assert measure_skin(photograph((255, 200, 180)), LESION) is None
