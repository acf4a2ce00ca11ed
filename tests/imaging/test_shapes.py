import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import perimeter_crofton, regionprops
from skimage.morphology import convex_hull_image

from dermfuse.imaging.geometry import (
    convex_hull,
    fold,
    fold_both,
    longest_extent,
    perimeter,
    principal_axes,
    solidity,
)

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any)


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def ellipse(a: float, b: float, angle: float, side: int = 160) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 135, 170])
def test_the_axes_of_an_ellipse_are_its_own(degrees: float) -> None:
    axes = principal_axes(ellipse(60, 30, math.radians(degrees)))
    assert (axes.x, axes.y) == pytest.approx((80, 80))
    assert (axes.major, axes.minor) == pytest.approx((120, 60), rel=0.01)
    assert math.degrees(axes.angle) == pytest.approx(degrees, abs=0.3)


def test_a_pixel_has_axes() -> None:
    axes = principal_axes(mask("#"))
    assert (axes.major, axes.minor) == pytest.approx((4 / math.sqrt(12),) * 2)


@pytest.mark.parametrize("radius", [10, 25, 70])
def test_the_perimeter_of_a_disc_is_right_within_two_percent(radius: int) -> None:
    assert perimeter(ellipse(radius, radius, 0)) == pytest.approx(2 * math.pi * radius, rel=0.02)


def test_the_perimeter_of_squares_is_right_on_average_over_their_turns() -> None:
    y, x = np.mgrid[:160, :160] - 79.5
    lengths = []
    for angle in np.linspace(0, math.pi / 2, 24, endpoint=False):
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        lengths.append(perimeter(np.maximum(abs(u), abs(v)) <= 40))
    assert np.mean(lengths) == pytest.approx(320, rel=0.01)
    assert np.ptp(lengths) < 0.12 * 320


@settings(deadline=None, max_examples=40)
@given(masks)
def test_the_perimeter_is_that_of_scikit_image(drawn: np.ndarray) -> None:
    assert perimeter(drawn) == pytest.approx(perimeter_crofton(np.pad(drawn, 2), directions=4))


def test_convex_shapes_fill_their_hull() -> None:
    assert solidity(ellipse(60, 30, 0.5)) == 1.0
    assert solidity(mask("####")) == solidity(mask("#", "#")) == solidity(mask("#")) == 1.0


def test_a_cross_fills_five_of_the_pixels_of_its_hull() -> None:
    assert solidity(mask(".#.", "###", ".#.")) == 1.0  # a diamond of pixel centres
    assert solidity(mask("..#..", "..#..", "#####", "..#..", "..#..")) == 9 / 13


def test_the_hull_of_a_square_has_four_corners() -> None:
    assert sorted(convex_hull(np.ones((3, 3), bool)).tolist()) == [[0, 0], [0, 2], [2, 0], [2, 2]]


@settings(deadline=None, max_examples=40)
@given(masks)
def test_the_hull_is_that_of_scikit_image(drawn: np.ndarray) -> None:
    assert 0 < solidity(drawn) <= 1
    if min(drawn.any(axis=0).sum(), drawn.any(axis=1).sum()) > 1 and len(convex_hull(drawn)) > 2:
        hull = convex_hull_image(drawn, offset_coordinates=False, include_borders=True)
        assert solidity(drawn) == pytest.approx(drawn.sum() / hull.sum())


def test_the_longest_extent_is_ferets() -> None:
    assert longest_extent(mask("#")) == 1.0
    assert longest_extent(mask("...#", "....", "....", "....", "#...")) == 6.0
    drawn = ellipse(50, 20, 0.7)
    (region,) = regionprops(drawn.astype(int))
    assert longest_extent(drawn) == pytest.approx(region.feret_diameter_max, abs=1)


def test_an_ellipse_covers_its_mirror_image_and_a_triangle_does_not() -> None:
    folds = fold_both(ellipse(60, 30, 0.4))
    assert max(f.uncovered for f in folds) < 0.02
    triangle = np.tril(np.ones((60, 120), bool), k=0)[:, :60]
    triangle = np.repeat(triangle, 2, axis=1)
    assert min(f.uncovered for f in fold_both(triangle)) > 0.15


def test_a_half_folded_over_leaves_the_other_half_bare() -> None:
    t_shape = mask("####", ".#..")
    axes = principal_axes(t_shape)
    upright = fold(t_shape, axes, angle=math.pi / 2)
    assert axes.x == 1.9
    assert upright.uncovered == pytest.approx(
        1 / 5
    )  # the stem; the bar meets itself, by 0.8 pixels


def test_a_square_is_folded_about_its_best_axes() -> None:
    assert [f.uncovered for f in fold_both(np.ones((40, 40), bool))] == [0.0, 0.0]


def test_partners_are_the_pixels_on_the_other_side() -> None:
    bar = np.ones((1, 4), bool)
    folded = fold(bar, principal_axes(bar), angle=math.pi / 2)
    assert folded.partner.tolist() == [3, 2, 1, 0]
    assert folded.met.all()
