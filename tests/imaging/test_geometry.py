"""Shapes have the measures that scikit-image and SciPy give them, and small copies their areas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dermfuse.imaging.geometry import (
    Reduced,
    convex_hull,
    corner_pieces,
    fold,
    fold_both,
    largest_piece,
    longest_extent,
    perimeter,
    principal_axes,
    reduce_image,
    reduce_mask,
    solidity,
)

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


class TestShapes:
    @pytest.mark.parametrize("degrees", [0, 20, 90, 170])
    def test_the_axes_of_an_ellipse_are_its_own(self, degrees: float) -> None:
        axes = principal_axes(ellipse(60, 30, math.radians(degrees)))
        assert (axes.x, axes.y) == pytest.approx((80, 80))
        assert (axes.major, axes.minor) == pytest.approx((120, 60), rel=0.01)
        assert math.degrees(axes.angle) == pytest.approx(degrees, abs=0.3)
        pixel = principal_axes(mask("#"))
        assert (pixel.major, pixel.minor) == pytest.approx((4 / math.sqrt(12),) * 2)

    @pytest.mark.parametrize("radius", [10, 25, 70])
    def test_the_perimeter_of_a_disc_is_right_within_two_percent(self, radius: int) -> None:
        disc = ellipse(radius, radius, 0)
        assert perimeter(disc) == pytest.approx(2 * math.pi * radius, rel=0.02)

    @settings(deadline=None, max_examples=40)
    @given(masks.filter(np.any))
    def test_perimeter_and_hull_are_those_of_scikit_image(self, drawn: np.ndarray) -> None:
        assert perimeter(drawn) == pytest.approx(
            measure.perimeter_crofton(np.pad(drawn, 2), directions=4)
        )
        assert 0 < solidity(drawn) <= 1
        sides = drawn.any(axis=0).sum(), drawn.any(axis=1).sum()
        if min(sides) > 1 and len(convex_hull(drawn)) > 2:
            hull = convex_hull_image(drawn, offset_coordinates=False, include_borders=True)
            assert solidity(drawn) == pytest.approx(drawn.sum() / hull.sum())

    def test_convex_shapes_fill_their_hull(self) -> None:
        for convex in (ellipse(60, 30, 0.5), mask("####"), mask("#", "#"), mask("#")):
            assert solidity(convex) == 1.0
        assert solidity(mask("..#..", "..#..", "#####", "..#..", "..#..")) == 9 / 13

    def test_the_longest_extent_is_ferets(self) -> None:
        assert longest_extent(mask("#")) == 1.0
        assert longest_extent(mask("...#", "....", "....", "....", "#...")) == 6.0
        drawn = ellipse(50, 20, 0.7)
        (region,) = measure.regionprops(drawn.astype(int))
        assert longest_extent(drawn) == pytest.approx(region.feret_diameter_max, abs=1)


class TestFolds:
    def test_symmetric_shapes_cover_their_mirror_image_and_a_triangle_does_not(self) -> None:
        assert max(f.uncovered for f in fold_both(ellipse(60, 30, 0.4))) < 0.02
        assert [f.uncovered for f in fold_both(np.ones((40, 40), bool))] == [0.0, 0.0]
        triangle = np.repeat(np.tril(np.ones((60, 120), bool), k=0)[:, :60], 2, axis=1)
        assert min(f.uncovered for f in fold_both(triangle)) > 0.15

    def test_pixels_meet_those_on_the_other_side(self) -> None:
        t_shape = mask("####", ".#..")
        axes = principal_axes(t_shape)
        assert axes.x == 1.9
        # the stem stays bare; the bar meets itself, by 0.8 pixels
        assert fold(t_shape, axes, angle=math.pi / 2).uncovered == pytest.approx(1 / 5)
        bar = np.ones((1, 4), bool)
        folded = fold(bar, principal_axes(bar), angle=math.pi / 2)
        assert folded.partner.tolist() == [3, 2, 1, 0]
        assert folded.met.all()


class TestPieces:
    @pytest.mark.parametrize(
        ("drawn", "largest", "count", "share"),
        [
            (("#..", ".#.", "#.."), ("#..", ".#.", "#.."), 1, 1.0),  # corners join
            (("#.##", "#.##"), ("..##", "..##"), 2, 4 / 6),
            (("#####", "#.#.#", "###.#"), ("#####", "###.#", "###.#"), 1, 1.0),  # hole and bay
            (("#.#.#",) * 9 + ("#####",), ("#.#.#",) * 9 + ("#####",), 1, 1.0),  # a comb
        ],
    )
    def test_the_largest_is_kept_without_holes(
        self, drawn: tuple[str], largest: tuple[str], count: int, share: float
    ) -> None:
        piece = largest_piece(mask(*drawn))
        assert piece is not None
        assert piece.mask.tolist() == mask(*largest).tolist()
        assert (piece.count, piece.kept_share) == (count, share)

    @settings(deadline=None, max_examples=60)
    @given(masks)
    def test_they_are_those_of_scipy(self, drawn: np.ndarray) -> None:
        labels, count = ndimage.label(drawn, np.ones((3, 3)))
        piece = largest_piece(drawn)
        assert (piece is None) == (count == 0)
        if piece is not None:
            areas = np.bincount(labels.ravel())[1:]
            first = labels == 1 + areas.argmax()
            assert piece.count == count
            assert piece.kept_share == pytest.approx(areas.max() / areas.sum())
            assert np.array_equal(piece.mask, ndimage.binary_fill_holes(first))

    def test_only_those_with_a_corner_are_corner_pieces(self) -> None:
        found = corner_pieces(mask("##.#.", ".....", ".#..#"))
        assert found.tolist() == mask("##...", ".....", "....#").tolist()
        for shape in ((1, 1), (1, 4), (4, 1)):
            assert corner_pieces(np.ones(shape, bool)).all()
            assert not corner_pieces(np.zeros(shape, bool)).any()


class TestReduction:
    def test_small_and_reduced_images_are_left_as_they_are(self) -> None:
        image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
        reduced = reduce_image(image)
        assert reduced.image is image
        assert (reduced.height_px, reduced.width_px) == (60, 80)
        large = Reduced(np.zeros((300, 400, 3), np.uint8), 3000, 4000)
        assert reduce_image(large) is large

    def test_a_large_image_shrinks_to_its_long_side_and_keeps_its_mean(self) -> None:
        image = np.zeros((600, 800, 3), np.uint8)
        image[:, :400] = 200
        for source in (image, Image.fromarray(image)):
            reduced = reduce_image(source)
            assert reduced.image.shape == (192, 256, 3)
            assert (reduced.height_px, reduced.width_px) == (600, 800)
            assert abs(float(reduced.image.mean()) - 100) < 0.5

    def test_a_cell_of_a_mask_is_lesion_from_one_half_on(self) -> None:
        drawn = np.zeros((4, 512), bool)
        drawn[:, :2] = True  # the first cell wholly
        drawn[:2, 2:4] = True  # the second by one half
        drawn[:1, 4:6] = True  # the third by less
        assert reduce_mask(drawn)[:, :3].tolist() == [[True, True, True], [True, False, False]]
        bilevel = np.full((300, 400), 255, np.uint8).view(bool)  # as Pillow's own arrays are
        assert reduce_mask(bilevel).all()
        assert reduce_mask(np.ones((1, 4000), bool)).shape == (1, 256)
