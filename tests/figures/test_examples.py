from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import DataError
from dermfuse.figures.examples import (
    RULES,
    draw_hard_images,
    draw_probabilities,
    draw_worst_masks,
    draw_wrong_classes,
    hardest,
    measure_hardness,
)
from dermfuse.figures.sources import Sources, read_sources, scored_groups, segmented_networks
from dermfuse.predictions.scores import ScoreTable, write_scores

Make = Callable[..., Path]

HAIR, _, LOW_CONTRAST, _ = RULES


@pytest.fixture(scope="module")
def sources(make_masks: Make, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two U-Nets' masks and maps."""
    folder = tmp_path_factory.mktemp("predictions")
    moved = [make_masks(folder / f"u{px}", f"u-net {px}", moved_px=px) for px in (2, 6)]
    return read_sources([], moved, data=drawn)


def test_the_hardest_images_are_first_and_bald_ones_are_not_hairy() -> None:
    numbers = {"a": 0.0, "b": 0.1, "c": 0.3, "d": 0.2}
    assert hardest(HAIR, numbers, 2) == ["c", "d"]
    assert hardest(HAIR, numbers, 9) == ["c", "d", "b"]
    assert hardest(LOW_CONTRAST, numbers, 2) == ["a", "b"]


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
    (picture,) = draw_probabilities(sources)
    assert picture.name == "fig-12-probability-maps"
    assert "u-net 2; u-net 6; fusion: mean of both." in picture.caption


def test_scores_have_no_probability_maps(make_scores: Make, drawn: Path, tmp_path: Path) -> None:
    scores = read_sources([], [make_scores(tmp_path / "a", "a")], data=drawn)
    with pytest.raises(DataError, match="no predictions folder holds probability maps"):
        draw_probabilities(scores)


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
    with pytest.raises(DataError, match="no image is classified wrongly"):
        draw_wrong_classes(sources, group, name="f")
