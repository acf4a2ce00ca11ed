"""Shapes have the measures that scikit-image and SciPy give them, and small copies their areas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dermfuse.imaging import geometry
from dermfuse.imaging.geometry import longest_extent, perimeter, principal_axes, solidity

ndimage = pytest.importorskip("scipy.ndimage")
measure = pytest.importorskip("skimage.measure")
convex_hull_image = pytest.importorskip("skimage.morphology").convex_hull_image

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def ellipse(a: float, b: float, angle: float, side: int = 160) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 20, 90, 170])
def test_the_axes_of_an_ellipse_are_its_own(degrees: float) -> None:
    drawn = ellipse(60, 30, math.radians(degrees))
    axes = principal_axes(drawn)
    assert (axes.x, axes.y) == pytest.approx((80, 80))
    assert (axes.major, axes.minor) == pytest.approx((120, 60), rel=0.01)
    assert math.degrees(axes.angle) == pytest.approx(degrees, abs=0.3)
    (region,) = measure.regionprops(drawn.astype(int))
    assert longest_extent(drawn) == pytest.approx(region.feret_diameter_max, abs=1)


def test_shapes_by_hand() -> None:
    pixel = principal_axes(mask("#"))
    assert (pixel.major, pixel.minor) == pytest.approx((4 / math.sqrt(12),) * 2)
    for convex in (ellipse(60, 30, 0.5), mask("####"), mask("#", "#"), mask("#")):
        assert solidity(convex) == 1.0
    assert solidity(mask("..#..", "..#..", "#####", "..#..", "..#..")) == 9 / 13
    assert longest_extent(mask("#")) == 1.0
    assert longest_extent(mask("...#", "....", "....", "....", "#...")) == 6.0


@settings(max_examples=60)
@given(masks)
def test_shapes_and_pieces_are_those_of_scikit_image_and_scipy(drawn: np.ndarray) -> None:
    labels, count = ndimage.label(drawn, np.ones((3, 3)))
    piece = geometry.largest_piece(drawn)
    assert (piece is None) == (count == 0)
    if piece is None:
        return
    areas = np.bincount(labels.ravel())[1:]
    filled = ndimage.binary_fill_holes(labels == 1 + areas.argmax())
    assert (piece.count, piece.mask.tolist()) == (count, filled.tolist())
    assert piece.kept_share == pytest.approx(areas.max() / areas.sum())
    crofton = measure.perimeter_crofton(np.pad(drawn, 2), directions=4)
    assert perimeter(drawn) == pytest.approx(crofton)
    sides = drawn.any(axis=0).sum(), drawn.any(axis=1).sum()
    if min(sides) > 1 and len(geometry.convex_hull(drawn)) > 2:
        hull = convex_hull_image(drawn, offset_coordinates=False, include_borders=True)
        assert solidity(drawn) == pytest.approx(drawn.sum() / hull.sum())


def test_folded_pixels_meet_those_on_the_other_side() -> None:
    t_shape = mask("####", ".#..")
    axes = principal_axes(t_shape)
    assert axes.x == 1.9
    # the stem stays bare; the bar meets itself, by 0.8 pixels
    assert geometry.fold(t_shape, axes, angle=math.pi / 2).uncovered == pytest.approx(1 / 5)
    bar = np.ones((1, 4), bool)
    folded = geometry.fold(bar, principal_axes(bar), angle=math.pi / 2)
    assert (folded.partner.tolist(), folded.met.all()) == ([3, 2, 1, 0], True)
    triangle = np.repeat(np.tril(np.ones((60, 60), bool)), 2, axis=1)
    for shape, least, most in ((ellipse(60, 30, 0.4), 0, 0.02), (np.ones((40, 40), bool), 0, 0),
                               (triangle, 0.15, 1)):  # fmt: skip
        assert all(least <= each.uncovered <= most for each in geometry.fold_both(shape))


def test_large_images_shrink_to_their_long_side_and_keep_their_mean() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[:, :400] = 200
    for source in (image, Image.fromarray(image)):
        reduced = geometry.reduce_image(source)
        assert reduced.image.shape == (192, 256, 3)
        assert (reduced.height_px, reduced.width_px) == (600, 800)
        assert abs(float(reduced.image.mean()) - 100) < 0.5
    assert geometry.reduce_image(reduced) is reduced
    small = np.zeros((60, 80, 3), np.uint8)
    assert geometry.reduce_image(small).image is small


def test_a_cell_of_a_reduced_mask_is_lesion_from_one_half_on() -> None:
    drawn = np.zeros((4, 512), bool)
    drawn[:, :2] = drawn[:2, 2:4] = drawn[:1, 4:6] = True  # wholly, by one half, by less
    assert geometry.reduce_mask(drawn)[:, :3].tolist() == [[True, True, True], [True, False, False]]
    bilevel = np.full((300, 400), 255, np.uint8).view(bool)  # as Pillow's own arrays are
    assert geometry.reduce_mask(bilevel).all()
    assert geometry.reduce_mask(np.ones((1, 4000), bool)).shape == (1, 256)
