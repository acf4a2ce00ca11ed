"""Measures of drawn lesions are what their shapes and colours have, however they are held."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.imaging.measures import LesionMeasures, frame_contact, measure_lesion

SKIN, BROWN, BLACK = (191, 173, 164), (83, 43, 35), (25, 20, 20)
Y, X = np.mgrid[:240, :320] + 0.5


def paint(mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], np.array(BROWN, np.uint8), np.array(SKIN, np.uint8))


def disc(radius: float, x: float = 160, y: float = 120) -> np.ndarray:
    return (X - x) ** 2 + (Y - y) ** 2 <= radius**2


def blob(seed: int) -> np.ndarray:
    """A ragged, slanted blob within the frame."""
    rng = np.random.default_rng(seed)
    slant = rng.uniform(-0.4, 0.4)
    x, y = X - 160 + slant * (Y - 120), 1.6 * (Y - 120)
    turn = np.arctan2(y, x)
    waves = sum(rng.uniform(0, 0.2) / k * np.cos(k * turn + rng.uniform(0, 6)) for k in range(2, 7))
    return np.hypot(x, y) <= 90 * (1 + waves)


def of(mask: np.ndarray) -> LesionMeasures:
    return measure_lesion(paint(mask), mask)


def numbers(m: LesionMeasures) -> list[float]:
    return [m.kept_share, m.equivalent_diameter_px, m.longest_diameter_px, m.asymmetry,
            m.colour_asymmetry, m.compactness, m.solidity]  # fmt: skip


def test_a_disc_is_round_symmetric_and_of_one_colour() -> None:
    m = of(disc(60))
    assert (m.pieces, m.kept_share, m.frame_contact, m.cut_by_frame) == (1, 1.0, 0.0, False)
    assert m.centroid_px == pytest.approx((160, 120), abs=0.5)
    assert m.equivalent_diameter_px == pytest.approx(120, rel=0.01)
    assert m.longest_diameter_px == pytest.approx(120, rel=0.02)
    assert m.axes_px == pytest.approx((120, 120), rel=0.01)
    assert (m.asymmetry, m.colour_asymmetry) == pytest.approx((0, 0), abs=0.03)
    assert m.compactness == pytest.approx(1, abs=0.04)
    assert m.solidity == pytest.approx(1, abs=0.01)
    assert m.border_step > 35
    assert (m.colour_count, m.colour_shares["dark brown"] > 0.9) == (1, True)


def test_colour_border_and_outline_show_in_their_own_measures() -> None:
    half = paint(disc(60))
    half[:, :160][disc(60)[:, :160]] = BLACK
    m = measure_lesion(half, disc(60))
    assert (m.asymmetry < 0.02, m.colour_asymmetry > 0.08, m.colour_count) == (True, True, 2)
    faded = Image.fromarray(paint(disc(60))).filter(ImageFilter.GaussianBlur(12))
    assert 0 < measure_lesion(np.asarray(faded), disc(60)).border_step < m.border_step / 2
    turns = [(r, k * math.pi / 6) for k, r in enumerate([90, 40] * 6)]
    picture = Image.new("L", (320, 240))
    points = [(160 + r * math.cos(turn), 120 + r * math.sin(turn)) for r, turn in turns]
    ImageDraw.Draw(picture).polygon(points, fill=1)
    star = of(np.asarray(picture) > 0)
    assert (star.compactness > 2, star.solidity < 0.7) == (True, True)


def test_what_has_no_shape_has_no_measures_of_it() -> None:
    m = of(np.zeros((60, 80), bool))
    assert (m, m.asymmetry) == (LesionMeasures(pieces=0, cut_by_frame=False), None)
    m = of(np.ones((60, 80), bool))
    assert (m.kept_share, m.frame_contact, m.cut_by_frame) == (1.0, 1.0, True)
    assert (m.asymmetry, m.compactness, m.solidity, m.border_step) == (None,) * 4
    small, hair = np.zeros((60, 80), bool), np.zeros((1500, 2000), bool)
    small[30:34, 40:44] = True
    m = of(small)
    assert (m.centroid_px, m.asymmetry, m.compactness) == ((42.0, 32.0), None, None)
    for rows, pieces in ((slice(700, 701), 0), (slice(696, 705), 1)):
        hair[rows, 100:1900] = True
        assert of(hair).pieces == pieces


def test_a_lesion_keeps_its_shape_unless_the_frame_cuts_it() -> None:
    for y, cut in ((58, False), (0, True)):
        m = of(disc(60, y=y))
        assert (m.cut_by_frame, m.frame_contact > 0.1) == (cut, cut)
        assert (m.compactness is None, m.solidity is None) == (cut, cut)
        assert m.border_step is not None


def test_other_pieces_count_and_are_not_measured() -> None:
    m = of(disc(60) | disc(10, x=300, y=20))
    assert m.pieces == 2
    assert m.kept_share == pytest.approx(36 / 37, abs=0.005)
    assert m.centroid_px == pytest.approx((160, 120), abs=1)
    with pytest.raises(ValueError, match="differ in size"):
        measure_lesion(np.zeros((60, 80, 3), np.uint8), np.zeros((80, 60), bool))
    assert (frame_contact(np.eye(2) > 0), frame_contact(np.zeros((4, 4), bool))) == (1 / 2, 0)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_measures_of_any_mask_are_in_range(
    seed: int, density: float, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    m = measure_lesion(image, rng.random((height, width)) < density)
    shares = (m.kept_share, m.frame_contact, m.asymmetry, m.colour_asymmetry, m.solidity)
    assert all(share is None or 0 <= share <= 1 for share in shares)
    assert m.compactness is None or 1 <= m.compactness < 1000
    assert m.angle_degrees is None or 0 <= m.angle_degrees < 180
    assert m.colour_count is None or 0 <= m.colour_count <= 6
    assert (m.pieces == 0) == (m.centroid_px is None)
    assert np.isfinite([value for value in asdict(m).values() if isinstance(value, float)]).all()


@settings(max_examples=10, derandomize=True)
@given(st.integers(0, 1000), st.integers(1, 7))
def test_measures_depend_neither_on_how_the_camera_was_held_nor_on_its_size(
    seed: int, turn: int
) -> None:
    mask = blob(seed)
    image = paint(mask)
    image[:120][mask[:120]] = BLACK
    turned = [np.rot90(each[::-1] if turn > 3 else each, turn % 4) for each in (image, mask)]
    before, after = (measure_lesion(*pair) for pair in ((image, mask), turned))
    assert numbers(after) == pytest.approx(numbers(before), rel=0.1, abs=0.02)
    assert after.border_step == pytest.approx(before.border_step, rel=0.15)
    assert after.colour_count == before.colour_count
    large = measure_lesion(*(each.repeat(3, axis=0).repeat(3, axis=1) for each in (image, mask)))
    factors = np.array([1, 3, 3, 1, 1, 1, 1])
    assert numbers(large) == pytest.approx(factors * numbers(before), rel=0.1, abs=0.02)
