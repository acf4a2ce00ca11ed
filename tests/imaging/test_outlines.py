"""Outlines enclose exactly the pixels of a mask, and polygons nearly so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dermfuse.imaging.outlines import outline, trace_contours


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def area(loop: list[tuple[int, int]]) -> float:
    """The signed area within a closed outline, by the shoelace formula; clockwise is positive."""
    nexts = loop[1:] + loop[:1]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, nexts, strict=True)) / 2


def test_outlines_by_hand() -> None:
    assert trace_contours(mask("...", ".#.")) == [[(1, 1), (2, 1), (2, 2), (1, 2)]]
    corners = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (0, 2)]
    assert trace_contours(mask("#.", "##")) == [corners]
    assert [area(loop) for loop in trace_contours(mask("###", "#.#", "###"))] == [9, -1]  # a hole
    for touching in (mask("#.", ".#"), mask(".#", "#.")):
        assert [area(loop) for loop in trace_contours(touching)] == [1, 1]
    assert trace_contours(mask("..", "..")) == outline(mask("..", "..")) == []


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_outlines_enclose_every_pixel_and_polygons_lie_within_the_frame(drawn: np.ndarray) -> None:
    assert sum(area(loop) for loop in trace_contours(drawn)) == drawn.sum()
    for ring in outline(drawn):
        assert len(ring) > 2
        assert all(0 <= x <= drawn.shape[1] and 0 <= y <= drawn.shape[0] for x, y in ring)


def test_the_stairs_of_a_slope_become_one_line_and_the_largest_outline_comes_first() -> None:
    (simple,) = outline(np.tril(np.ones((40, 40), bool)))
    assert (len(simple) <= 4, area(simple)) == (True, pytest.approx(820, rel=0.03))
    drawn = np.zeros((20, 30), bool)
    drawn[1:4, 1:4] = drawn[6:18, 6:26] = True
    drawn[10:13, 10:13] = False  # a hole has an outline, too
    assert [min(ring) for ring in outline(drawn)] == [(6.0, 6.0), (1.0, 1.0), (10.0, 10.0)]
