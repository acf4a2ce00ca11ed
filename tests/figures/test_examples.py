import io
from collections.abc import Callable
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
    draw_probability_maps,
    draw_worst_masks,
    draw_wrong_classes,
    mapped_networks,
    measure_hardness,
)
from dermfuse.figures.hardness import RULES
from dermfuse.figures.sources import Sources, read_sources, scored_groups, segmented_networks
from dermfuse.figures.style import DPI, WIDTH_IN, Basis
from dermfuse.predictions.scores import ScoreTable, write_scores

Make = Callable[..., Path]

IMAGE = np.full((24, 32, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def sources(make_masks: Make, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two U-Nets' masks and maps."""
    folder = tmp_path_factory.mktemp("predictions")
    moved = [make_masks(folder / f"u{px}", f"u-net {px}", moved_px=px) for px in (2, 6)]
    return read_sources([], moved, data=drawn)


def test_every_rule_is_measured_on_every_image(sources: Sources, validated: list[Lesion]) -> None:
    ids = [lesion.image_id for lesion in validated]
    table = measure_hardness(sources, ids[:3])
    assert set(table) == {rule.name for rule in RULES}
    assert all(list(numbers) == ids[:3] for numbers in table.values())
    assert all(1 <= value < 5 for value in table["irregular border"].values())


def test_hard_images_say_their_number_and_what_no_image_has(sources: Sources) -> None:
    (network, _) = segmented_networks(sources)
    first, second = list(network.agreement)[:2]
    table = {rule.name: {first: 0.0, second: 0.5} for rule in RULES}
    table["hair"] = {first: 0.0}
    picture = draw_hard_images(sources, network, table, name="fig-13")
    assert picture.name == "fig-13"
    assert "No image has: hair." in picture.caption
    assert "validation: n = 12 images; u-net 2." in picture.caption


def test_the_worst_masks_are_drawn(sources: Sources) -> None:
    (_, network) = segmented_networks(sources)
    picture = draw_worst_masks(sources, network, name="fig-14")
    assert "The 8 images with the lowest Jaccard" in picture.caption


def test_two_u_nets_without_their_fusion_get_it(sources: Sources) -> None:
    (networks,) = mapped_networks(sources)
    picture = draw_probability_maps(sources, networks, name="fig-12")
    assert "u-net 2; u-net 6; fusion: mean of both." in picture.caption


def test_scores_have_no_probability_maps(make_scores: Make, drawn: Path, tmp_path: Path) -> None:
    scores = read_sources([], [make_scores(tmp_path / "a", "a")], data=drawn)
    with pytest.raises(DataError, match="no predictions folder holds probability maps"):
        mapped_networks(scores)


def test_sure_and_wrong_images_are_drawn_and_none_is_refused(
    make_scores: Make, validated: list[Lesion], drawn: Path, tmp_path: Path
) -> None:
    folder = make_scores(tmp_path / "a", "a")
    (group,) = scored_groups(sources := read_sources([], [folder], data=drawn))
    assert "missed melanomas" in draw_wrong_classes(sources, group, name="f").caption
    ids = tuple(lesion.image_id for lesion in validated)
    right = np.array([0.1 + 0.8 * int(lesion.label or 0) for lesion in validated])
    write_scores(folder / "scores.csv", ScoreTable(ids, right))
    (group,) = scored_groups(sources := read_sources([], [folder], data=drawn))
    with pytest.raises(DataError, match="no image is of this kind"):
        draw_wrong_classes(sources, group, name="f")


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
    draw_contour(axes, mask, colour="red", dashes="-")
    x, y = axes.collections[0].get_paths()[0].vertices.T
    assert (x.min(), x.max(), y.min(), y.max()) == extent


def test_nothing_is_drawn_around_an_empty_mask() -> None:
    axes = Figure().subplots()
    draw_contour(axes, np.zeros((24, 32), bool), colour="red", dashes="-")
    draw_contour(axes, None, colour="red", dashes="-")
    assert not axes.collections


def test_contours_are_red_for_the_truth_and_blue_for_the_prediction() -> None:
    panel = Panel(IMAGE, ("ISIC_0000003",), truth=square(2, 2, 12), predicted=square(6, 14, 14))
    rows = [("hair", (panel, panel)), ("nothing", ()), ("marker", (panel,))]
    basis = Basis("test", 2, ("u",))
    picture = draw_panels(rows, "f", basis, "worst_masks", images=2)
    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    pixels = np.asarray(image).reshape(-1, 3)
    assert image.size == (WIDTH_IN * DPI, int((0.9 + 2 * (3.6 + 0.22)) * DPI))
    assert (pixels == (255, 0, 0)).all(axis=1).sum() > 500
    assert (pixels == (47, 107, 255)).all(axis=1).sum() > 500
