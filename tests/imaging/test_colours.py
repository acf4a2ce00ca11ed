"""Lab is as tabled, each example has its own colour, and skin has the tone of its swatch."""

import math

import numpy as np
import pytest

from dermfuse.imaging import colours
from dermfuse.imaging.colours import REFERENCES, SKIN, colour_shares, measure_skin, to_lab

rgb2lab = pytest.importorskip("skimage.color").rgb2lab

SKIN_LAB = to_lab(np.full((60, 3), SKIN, np.uint8))
SWATCH, BORDER, DARK = (224, 177, 132), (150, 90, 60), (70, 40, 35)
LESION = np.zeros((120, 160), bool)
LESION[45:75, 60:100] = True


def lab(*colours: tuple[int, int, int]) -> np.ndarray:
    return to_lab(np.array(colours, np.uint8))


def photograph(skin: tuple[int, int, int] = SWATCH) -> np.ndarray:
    return np.where(LESION[..., None], np.array(DARK, np.uint8), np.array(skin, np.uint8))


def test_lab_is_that_of_scikit_image() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.abs(to_lab(rgb) - rgb2lab(rgb)).max() < 0.05
    assert lab((0, 0, 255))[0] == pytest.approx([32.30, 79.19, -107.86], abs=0.1)  # as tabled


def test_every_example_has_its_own_colour_and_others_have_none() -> None:
    for name, examples in REFERENCES.items():
        shares = colour_shares(lab(*examples), SKIN_LAB)
        assert shares == {other: float(other == name) for other in REFERENCES}
    assert sum(colour_shares(lab((20, 200, 20), (0, 0, 255), SKIN), SKIN_LAB).values()) == 0
    # white must be lighter than the skin around
    pale = lab(*[(255, 200, 180)] * 60) + np.array([8, 0, 0], "f4")
    assert colour_shares(lab(*REFERENCES["white"]), pale)["white"] == 0.0
    none = np.empty((0, 3), np.float32)  # stands for usual skin
    assert colour_shares(lab((83, 43, 35)), none)["dark brown"] == 1.0


def test_a_cast_is_taken_out_and_lightness_is_kept() -> None:
    bluish = np.full((60, 3), (160, 165, 190), np.uint8)
    before, after = to_lab(bluish)[0], to_lab(bluish, gains=colours.skin_gains(bluish))[0]
    assert after[0] == pytest.approx(before[0], abs=0.01)
    hues = [math.atan2(each[2], each[1]) for each in (after, lab(SKIN)[0])]
    assert hues[0] == pytest.approx(hues[1], abs=0.01)
    lens = np.full((500, 3), (20, 10, 30), np.uint8)
    for little in (bluish[:10], lens):
        assert colours.skin_gains(little).tolist() == [1, 1, 1]


def test_the_angle_is_that_of_lightness_above_50_over_yellowness() -> None:
    tones = [colours.SkinTone(*pair, share=1) for pair in ((70, 20), (50, 20), (70, -3.0))]
    assert [tone.angle_degrees for tone in tones] == [pytest.approx(45), 0.0, None]
    limits = (55.1, 55.0, 41.0, 28.0, 10.0, -30.0)  # each belongs to the darker class
    assert tuple(map(colours.name_tone, limits)) == tuple(colours.TONES)
    for skin, name in (
        ((240, 205, 185), "very light"), (SWATCH, "intermediate"), ((150, 100, 65), "brown"),
        ((70, 45, 30), "dark"),
    ):  # fmt: skip
        lightness, _, b = rgb2lab(np.array([[skin]], np.uint8))[0, 0]
        angle = measure_skin(photograph(skin), LESION).angle_degrees
        assert angle == pytest.approx(math.degrees(math.atan((lightness - 50) / b)), abs=0.2)
        assert colours.name_tone(angle) == name


def test_lens_ruler_glare_and_the_border_of_the_lesion_are_not_skin() -> None:
    image, plain = photograph(), measure_skin(photograph(), LESION)
    rows, columns = np.indices(LESION.shape)
    image[np.hypot(rows - 60, columns - 80) > 66] = (12, 8, 6)
    image[100:110, 40:120:4] = (20, 20, 20)
    image[20:35, 60:110] = (255, 252, 250)
    disturbed = measure_skin(image, LESION)
    assert (disturbed.lightness, disturbed.b) == (plain.lightness, plain.b)
    assert disturbed.share < plain.share - 0.2
    image = photograph()
    image[41:79, 56:104] = image[:, 20:23] = BORDER
    image[LESION] = DARK
    assert measure_skin(image, LESION).lightness == plain.lightness
    everywhere = np.broadcast_to(np.arange(160) >= 20, LESION.shape)
    assert measure_skin(image, everywhere).share == pytest.approx((20 - 6) / 160)
    assert measure_skin(photograph(), np.ones(LESION.shape, bool)) is None
    assert measure_skin(photograph((255, 200, 180)), LESION) is None
