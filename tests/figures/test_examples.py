import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import DataError
from dermfuse.figures.examples import (
    Panel,
    draw_contour,
    draw_hard_images,
    draw_panels,
    measure_hardness,
)
from dermfuse.figures.sources import read_sources, segmented_networks
from dermfuse.figures.style import DPI, WIDTH_IN, Basis

from .conftest import Make

IMAGE = np.full((24, 32, 3), 200, np.uint8)


def test_hard_images_are_measured_by_every_rule_and_say_what_no_image_has(
    make_masks: Make, validated: list[Lesion], drawn: Path, tmp_path: Path
) -> None:
    sources = read_sources([], [make_masks(tmp_path / "u", "u-net", moved_px=2)], data=drawn)
    ids = [lesion.image_id for lesion in validated]
    (network,) = segmented_networks(sources)
    table = measure_hardness(sources, [network])
    assert all(list(numbers) == ids for numbers in table.values())
    assert all(1 <= value < 5 for value in table["irregular border"].values())
    picture = draw_hard_images(sources, network, {**table, "hair": {ids[0]: 0.0}})
    assert picture.name == "fig-13-hard-images"
    assert "No image has: hair" in picture.caption
    assert "validation: n = 12 images; u-net." in picture.caption


def square(top: int, left: int, size: int) -> np.ndarray:
    mask = np.zeros((24, 32), bool)
    mask[top : top + size, left : left + size] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "extent"),
    [
        (square(4, 8, 5), (7.5, 12.5, 3.5, 8.5)),
        (np.ones((24, 32), bool), (-0.5, 31.5, -0.5, 23.5)),  # closed at the frame
    ],
)
def test_a_contour_runs_along_the_edges_of_the_pixels(
    mask: np.ndarray, extent: tuple[float, ...]
) -> None:
    axes = Figure().subplots()
    draw_contour(axes, mask, {})
    x, y = axes.lines[0].get_data()
    assert (x.min(), x.max(), y.min(), y.max()) == extent
    draw_contour(axes, np.zeros((24, 32), bool), {})
    assert len(axes.lines) == 1, "an empty mask has no outline"


def test_contours_are_red_for_the_truth_and_blue_for_the_prediction() -> None:
    panel = Panel(IMAGE, ("ISIC_0000003",), truth=square(2, 2, 12), predicted=square(6, 14, 14))
    rows = [("hair", (panel, panel)), ("nothing", ()), ("marker", (panel,))]
    basis = Basis("test", 2, ("u",))
    picture = draw_panels(rows, basis, "worst_masks", images=2)
    with pytest.raises(DataError, match="no image is of this kind"):
        draw_panels([("nothing", ())], basis, "worst_masks")
    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    pixels = np.asarray(image).reshape(-1, 3)
    assert image.size == (WIDTH_IN * DPI, int((0.9 + 2 * (3.6 + 0.22)) * DPI))
    assert (pixels == (255, 0, 0)).all(axis=1).sum() > 500
    assert (pixels == (47, 107, 255)).all(axis=1).sum() > 500
