from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.report.overlay import Example, contour_path, draw_overlay, trace_contours


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def example(truth: np.ndarray, predicted: np.ndarray) -> Example:
    image = np.full((*truth.shape, 3), 120, np.uint8)
    return Example("ISIC_0000000", image, truth, predicted, ("Jaccard 1.000",))


def area(loop: list[tuple[int, int]]) -> float:
    """The signed area within a closed outline, by the shoelace formula; clockwise is positive."""
    nexts = loop[1:] + loop[:1]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, nexts, strict=True)) / 2


def test_a_pixel_has_four_corners() -> None:
    assert trace_contours(mask("...", ".#.")) == [[(1, 1), (2, 1), (2, 2), (1, 2)]]


def test_an_l_shape_has_six_corners() -> None:
    assert contour_path(mask("#.", "##")) == "M0 0L1 0L1 1L2 1L2 2L0 2Z"


def test_a_hole_has_an_outline_of_its_own() -> None:
    outer, hole = trace_contours(mask("###", "#.#", "###"))
    assert (area(outer), area(hole)) == (9, -1)


def test_pixels_that_touch_at_a_corner_are_two_outlines() -> None:
    assert [area(loop) for loop in trace_contours(mask("#.", ".#"))] == [1, 1]
    assert [area(loop) for loop in trace_contours(mask(".#", "#."))] == [1, 1]


def test_an_empty_mask_has_no_outline() -> None:
    assert contour_path(mask("..", "..")) == ""


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=5))
def test_outlines_enclose_every_pixel_of_the_mask(rows: list[list[bool]]) -> None:
    drawn = np.array(rows)
    assert sum(area(loop) for loop in trace_contours(drawn)) == drawn.sum()


def test_an_overlay_holds_the_image_and_both_contours() -> None:
    root = ElementTree.fromstring(draw_overlay(example(mask("#."), mask(".#"))))
    assert root.get("viewBox") == "0 0 2 1"
    (image,) = root.iter("image")
    assert image.get("href", "").startswith("data:image/jpeg;base64,")
    kinds = [path.get("class") for path in root.iter("path")]
    assert kinds == ["halo", "contour truth", "halo", "contour predicted"]


def test_an_empty_prediction_draws_the_true_contour_alone() -> None:
    root = ElementTree.fromstring(draw_overlay(example(mask("#."), mask(".."))))
    assert [path.get("class") for path in root.iter("path")] == ["halo", "contour truth"]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="ISIC_0000000 differ in size"):
        example(mask("#."), mask("#"))
