import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.maps import Panel, Row, draw_contour, draw_panels
from dermfuse.figures.style import DPI, WIDTH_IN, Basis

BASIS = Basis("test", 2, ("u",))
IMAGE = np.full((24, 32, 3), 200, np.uint8)


def square(top: int, left: int, size: int) -> np.ndarray:
    mask = np.zeros((24, 32), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def extent(mask: np.ndarray) -> list[float]:
    """Left, right, top and bottom of the contour that is drawn."""
    axes = Figure().subplots()
    draw_contour(axes, mask, colour="red", dashes="-")
    points = axes.collections[0].get_paths()[0].vertices
    return [points[:, 0].min(), points[:, 0].max(), points[:, 1].min(), points[:, 1].max()]


def test_a_contour_runs_along_the_edges_of_the_pixels() -> None:
    assert extent(square(4, 8, 5)) == [7.5, 12.5, 3.5, 8.5]


def test_a_contour_is_closed_at_the_frame() -> None:
    assert extent(np.ones((24, 32), bool)) == [-0.5, 31.5, -0.5, 23.5]


def test_nothing_is_drawn_around_an_empty_mask() -> None:
    axes = Figure().subplots()
    draw_contour(axes, np.zeros((24, 32), bool), colour="red", dashes="-")
    draw_contour(axes, None, colour="red", dashes="-")
    assert not axes.collections


def test_contours_are_red_for_the_truth_and_blue_for_the_prediction() -> None:
    panel = Panel(IMAGE, ("ISIC_0000003",), truth=square(2, 2, 12), predicted=square(6, 14, 14))
    rows = [Row("hair", (panel, panel)), Row("marker", (panel,))]
    picture = draw_panels(rows, name="f", title="T", caption="C.", basis=BASIS)
    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    pixels = np.asarray(image).reshape(-1, 3)
    assert image.size == (WIDTH_IN * DPI, int((0.9 + 2 * (3.6 + 0.22)) * DPI))
    assert (pixels == (255, 0, 0)).all(axis=1).sum() > 500
    assert (pixels == (47, 107, 255)).all(axis=1).sum() > 500


def test_no_rows_and_an_empty_row_are_refused() -> None:
    with pytest.raises(DataError, match="no rows of images to draw"):
        draw_panels([], name="f", title="T", caption="", basis=BASIS)
    with pytest.raises(DataError, match=r"no images \(hair\) to draw"):
        draw_panels([Row("hair", ())], name="f", title="T", caption="", basis=BASIS)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="an image and a mask, in rows of lengths 24, 20"):
        Panel(IMAGE, (), truth=np.ones((20, 32), bool))
