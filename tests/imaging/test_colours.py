import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from dermfuse.imaging.colours import REFERENCES, SKIN, colour_shares, skin_gains, to_lab

SKIN_LAB = to_lab(np.full((60, 3), SKIN, np.uint8))


def test_lab_is_that_of_scikit_image() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.abs(to_lab(rgb) - rgb2lab(rgb)).max() < 0.05
    blue = to_lab(np.array([0, 0, 255], np.uint8))
    assert blue == pytest.approx([32.30, 79.19, -107.86], abs=0.1)  # as tabled


@pytest.mark.parametrize("name", REFERENCES)
def test_every_example_has_its_own_colour(name: str) -> None:
    shares = colour_shares(to_lab(np.array(REFERENCES[name], np.uint8)), SKIN_LAB)
    assert shares == {other: float(other == name) for other in REFERENCES}


@pytest.mark.parametrize("rgb", [(20, 200, 20), (0, 0, 255), SKIN])
def test_green_blue_and_skin_have_none_of_the_six_colours(rgb: tuple[int, int, int]) -> None:
    assert sum(colour_shares(to_lab(np.array([rgb], np.uint8)), SKIN_LAB).values()) == 0


def test_white_must_be_lighter_than_the_skin() -> None:
    white = to_lab(np.array(REFERENCES["white"], np.uint8))
    pale = to_lab(np.full((60, 3), (255, 200, 180), np.uint8)) + np.array([8, 0, 0], np.float32)
    assert colour_shares(white, SKIN_LAB)["white"] == 1.0
    assert colour_shares(white, pale)["white"] == 0.0


def test_a_lesion_without_skin_around_is_compared_with_usual_skin() -> None:
    brown = to_lab(np.array([(83, 43, 35)], np.uint8))
    assert colour_shares(brown, np.empty((0, 3), np.float32))["dark brown"] == 1.0


def test_a_cast_is_taken_out_and_lightness_is_kept() -> None:
    bluish = np.full((60, 3), (160, 165, 190), np.uint8)
    gains = skin_gains(bluish)
    before, after = to_lab(bluish)[0], to_lab(bluish, gains=gains)[0]
    usual = to_lab(np.array(SKIN, np.uint8))
    assert after[0] == pytest.approx(before[0], abs=0.01)
    assert np.arctan2(after[2], after[1]) == pytest.approx(np.arctan2(usual[2], usual[1]), abs=0.01)


def test_little_skin_and_the_dark_edge_of_the_lens_take_no_cast_out() -> None:
    assert skin_gains(np.full((10, 3), (160, 165, 190), np.uint8)).tolist() == [1, 1, 1]
    assert skin_gains(np.full((500, 3), (20, 10, 30), np.uint8)).tolist() == [1, 1, 1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20))
def test_shares_are_shares(pixels: list[tuple[int, int, int]]) -> None:
    shares = colour_shares(to_lab(np.array(pixels, np.uint8)), SKIN_LAB)
    assert all(0 <= share <= 1 for share in shares.values())
    assert sum(shares.values()) <= 1 + 1e-9
