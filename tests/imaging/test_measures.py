import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.imaging.measures import LesionMeasures, frame_contact, measure_lesion

SKIN, BROWN, BLACK = (191, 173, 164), (83, 43, 35), (25, 20, 20)


def paint(mask: np.ndarray, colour: tuple[int, int, int] = BROWN) -> np.ndarray:
    return np.where(mask[..., None], np.array(colour, np.uint8), np.array(SKIN, np.uint8))


def disc(radius: float, size: tuple[int, int] = (240, 320), x: float = 160, y: float = 120) -> (
    np.ndarray
):  # fmt: skip
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def blob(seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """A ragged blob within the frame: blurred noise around a slanted ellipse."""
    rng = np.random.default_rng(seed)
    height, width = size
    noise = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16), dtype=np.uint8))
    field = np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / 255 - 0.5
    rows, columns = np.mgrid[:height, :width]
    u, v = (columns - width / 2) / (0.32 * width), (rows - height / 2) / (0.26 * height)
    turn = rng.uniform(0, math.pi)
    u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    mask = (u / 1.2) ** 2 + (v * 1.2) ** 2 + 0.4 * field < 0.7
    mask[:4], mask[-4:], mask[:, :4], mask[:, -4:] = False, False, False, False
    return mask


def numbers(measures: LesionMeasures) -> list[float]:
    m = measures
    found = [m.kept_share, m.equivalent_diameter_px, m.longest_diameter_px,
             m.asymmetry, m.colour_asymmetry, m.compactness, m.solidity]  # fmt: skip
    assert None not in found
    return [float(value) for value in found if value is not None]


def of(mask: np.ndarray, image: np.ndarray | None = None) -> LesionMeasures:
    return measure_lesion(paint(mask) if image is None else image, mask)


def test_a_disc_is_round_symmetric_and_of_one_colour() -> None:
    m = of(disc(60))
    assert (m.pieces, m.kept_share, m.frame_contact, m.cut_by_frame) == (1, 1.0, 0.0, False)
    assert m.centroid_px == pytest.approx((160, 120), abs=0.5)
    assert m.equivalent_diameter_px == pytest.approx(120, rel=0.01)
    assert m.longest_diameter_px == pytest.approx(120, rel=0.02)
    assert m.axes_px == pytest.approx((120, 120), rel=0.01)
    assert m.asymmetry == pytest.approx(0, abs=0.02)
    assert m.colour_asymmetry == pytest.approx(0, abs=0.03)
    assert m.compactness == pytest.approx(1, abs=0.04)
    assert m.solidity == pytest.approx(1, abs=0.01)
    assert (m.border_step or 0) > 35
    assert (m.colour_shares or {})["dark brown"] > 0.9
    assert m.colour_count == 1


def test_a_lesion_dark_on_one_side_is_asymmetric_in_colour_alone() -> None:
    mask = disc(60)
    image = paint(mask)
    image[:, :160][mask[:, :160]] = BLACK
    m = of(mask, image)
    assert m.asymmetry == pytest.approx(0, abs=0.02)
    assert (m.colour_asymmetry or 0) > 0.08
    assert m.colour_count == 2


def test_a_star_has_a_longer_border_and_leaves_its_hull_bare() -> None:
    turns = [(r, k * math.pi / 6) for k, r in enumerate([90, 40] * 6)]
    picture = Image.new("L", (320, 240))
    points = [(160 + r * math.cos(turn), 120 + r * math.sin(turn)) for r, turn in turns]
    ImageDraw.Draw(picture).polygon(points, fill=1)
    m = of(np.asarray(picture) > 0)
    assert (m.compactness or 0) > 2
    assert (m.solidity or 1) < 0.7


def test_a_border_that_fades_out_has_a_smaller_step() -> None:
    sharp = paint(disc(60))
    faded = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(12)))
    steps = [of(disc(60), image).border_step or 0 for image in (sharp, faded)]
    assert 0 < steps[1] < steps[0] / 2


def test_an_empty_mask_and_the_whole_frame_have_no_shape() -> None:
    m = of(np.zeros((60, 80), bool))
    assert m == LesionMeasures(pieces=0, cut_by_frame=False)
    assert m.asymmetry is None
    m = of(np.ones((60, 80), bool))
    assert (m.kept_share, m.frame_contact, m.cut_by_frame) == (1.0, 1.0, True)
    assert (m.asymmetry, m.compactness, m.solidity, m.border_step) == (None,) * 4
    assert m.colour_count == 1


@pytest.mark.parametrize(("y", "cut"), [(58, False), (0, True)])
def test_a_lesion_keeps_its_shape_unless_the_frame_cuts_it(y: float, *, cut: bool) -> None:
    m = of(disc(60, y=y))
    assert m.cut_by_frame is cut
    assert ((m.frame_contact or 0) > 0.1) is cut
    assert (m.compactness is None) is (m.solidity is None) is cut
    assert m.border_step is not None


def test_what_is_small_or_thin_has_a_place_and_no_shape() -> None:
    mask = np.zeros((60, 80), bool)
    mask[30:34, 40:44] = True
    m = of(mask)
    assert (m.centroid_px, m.asymmetry, m.compactness) == ((42.0, 32.0), None, None)
    hair = np.zeros((1500, 2000), bool)
    hair[700, 100:1900] = True
    assert of(hair).pieces == 0
    hair[696:705, 100:1900] = True
    assert of(hair).pieces == 1


def test_other_pieces_count_and_are_not_measured() -> None:
    m = of(disc(60) | disc(10, x=300, y=20))
    assert m.pieces == 2
    assert m.kept_share == pytest.approx(36 / 37, abs=0.005)
    assert m.centroid_px == pytest.approx((160, 120), abs=1)


def test_image_and_mask_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        measure_lesion(np.zeros((60, 80, 3), np.uint8), np.zeros((80, 60), bool))
    assert frame_contact(np.eye(2) > 0) == 1 / 2
    assert frame_contact(np.zeros((4, 4), bool)) == 0.0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_measures_of_any_mask_are_in_range(
    seed: int, density: float, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    m = measure_lesion(image, rng.random((height, width)) < density)
    for share in (m.kept_share, m.frame_contact, m.asymmetry_longer,
                  m.asymmetry_shorter, m.colour_asymmetry, m.solidity):  # fmt: skip
        assert share is None or 0 <= share <= 1
    assert m.compactness is None or 1 <= m.compactness < 1000
    assert m.angle_degrees is None or 0 <= m.angle_degrees < 180
    assert m.colour_count is None or 0 <= m.colour_count <= 6
    assert (m.pieces == 0) == (m.centroid_px is None)
    json.dumps(m.to_dict(), allow_nan=False)


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(0, 1000), st.integers(1, 7))
def test_measures_do_not_depend_on_how_the_camera_was_held(seed: int, turn: int) -> None:
    mask = blob(seed)
    image = paint(mask)
    image[:120][mask[:120]] = BLACK
    turned = [np.ascontiguousarray(np.rot90(a[::-1] if turn > 3 else a, turn % 4)) for a in (
        image, mask)]  # fmt: skip
    before, after = (measure_lesion(*pair) for pair in ((image, mask), turned))
    assert numbers(after) == pytest.approx(numbers(before), rel=0.1, abs=0.02)
    assert after.border_step == pytest.approx(before.border_step, rel=0.15)
    assert after.colour_count == before.colour_count


@settings(deadline=None, max_examples=6, derandomize=True)
@given(st.integers(0, 1000))
def test_measures_do_not_depend_on_the_size_of_the_image(seed: int) -> None:
    mask = blob(seed)
    small, large = (
        measure_lesion(paint(m), m) for m in (mask, mask.repeat(3, axis=0).repeat(3, axis=1))
    )
    expected = numbers(small)
    expected[1:3] = [3 * value for value in expected[1:3]]
    assert numbers(large) == pytest.approx(expected, rel=0.1, abs=0.02)
