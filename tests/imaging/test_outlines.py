"""Outlines enclose exactly the pixels of a mask, and polygons nearly so."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from dermfuse.imaging.outlines import contour_path, outline, trace_contours


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def area(loop: list[tuple[int, int]]) -> float:
    """The signed area within a closed outline, by the shoelace formula; clockwise is positive."""
    nexts = loop[1:] + loop[:1]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, nexts, strict=True)) / 2


def test_outlines_by_hand() -> None:
    assert trace_contours(mask("...", ".#.")) == [[(1, 1), (2, 1), (2, 2), (1, 2)]]
    assert contour_path(mask("#.", "##")) == "M0 0L1 0L1 1L2 1L2 2L0 2Z"
    assert [area(loop) for loop in trace_contours(mask("###", "#.#", "###"))] == [9, -1]  # a hole
    for touching in (mask("#.", ".#"), mask(".#", "#.")):
        assert [area(loop) for loop in trace_contours(touching)] == [1, 1]
    assert (contour_path(mask("..", "..")), outline(mask("..", ".."))) == ("", [])


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_outlines_enclose_every_pixel_and_polygons_lie_within_the_frame(drawn: np.ndarray) -> None:
    assert sum(area(loop) for loop in trace_contours(drawn)) == drawn.sum()
    for ring in outline(drawn):
        assert len(ring) > 2
        assert all(0 <= x <= drawn.shape[1] and 0 <= y <= drawn.shape[0] for x, y in ring)


def test_the_stairs_of_a_slope_become_one_line_and_the_largest_outline_comes_first() -> None:
    triangle = np.tril(np.ones((40, 40), bool))
    (simple,) = outline(triangle)
    assert (len(trace_contours(triangle)[0]), len(simple) <= 4) == (82, True)
    drawn = np.zeros((20, 30), bool)
    drawn[1:4, 1:4] = drawn[6:18, 6:26] = True
    drawn[10:13, 10:13] = False  # a hole has an outline, too
    assert [min(ring) for ring in outline(drawn)] == [(6.0, 6.0), (1.0, 1.0), (10.0, 10.0)]


def test_a_simplified_outline_drawn_again_is_nearly_the_mask() -> None:
    y, x = np.mgrid[:90, :120]
    disc = (x - 60) ** 2 + (y - 45) ** 2 < 30**2
    (ring,) = outline(disc)
    picture = Image.new("L", (1200, 900))
    ImageDraw.Draw(picture).polygon([(10 * x, 10 * y) for x, y in ring], fill=1)
    again = np.asarray(picture)[5::10, 5::10] > 0  # at the pixels' centres
    assert len(ring) < 40
    assert (again & disc).sum() / (again | disc).sum() > 0.97
