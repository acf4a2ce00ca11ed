from collections.abc import Callable

import numpy as np
import pytest

from dermfuse.data.labels import Label
from dermfuse.data.synthetic import Interference, SyntheticLesion, draw_lesion
from dermfuse.errors import DataError
from dermfuse.figures.examples import (
    RULES,
    colour_difference,
    hair_fraction,
    irregularity,
    marker_fraction,
)
from dermfuse.imaging.colours import to_lab
from dermfuse.predictions.metrics import auc

SKIN = np.full((100, 120, 3), (220, 180, 165), np.uint8)


def drawn(seed: int, *kinds: Interference) -> SyntheticLesion:
    return draw_lesion(
        np.random.default_rng(seed),
        label=Label(seed % 2),
        size_px=(160, 120),
        interferences=frozenset(kinds),
    )


def disc(radius: float, shape: tuple[int, int] = (100, 120)) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 <= radius**2


def separation(rule: Callable[..., float], kind: Interference, *others: Interference) -> float:
    """How well a rule tells images with an interference from others without, as an AUC."""
    without, disturbed = (
        [drawn(seed, *kinds) for seed in range(16)] for kinds in (others, (kind,))
    )
    values = [rule(image.image, image.mask) for image in (*without, *disturbed)]
    return auc([0] * 16 + [1] * 16, values)


def test_hairy_images_rank_above_clean_ones() -> None:
    assert separation(hair_fraction, Interference.HAIR) > 0.85


def test_inked_images_rank_above_clean_ones() -> None:
    assert separation(marker_fraction, Interference.INK) > 0.9


@pytest.mark.parametrize(
    "other", [Interference.RULER, Interference.GEL_BUBBLES, Interference.DARK_CORNERS]
)
def test_inked_images_rank_above_those_with_other_interferences(other: Interference) -> None:
    assert separation(marker_fraction, Interference.INK, other) > 0.8


def test_hairy_images_rank_above_those_with_a_ruler() -> None:
    assert separation(hair_fraction, Interference.HAIR, Interference.RULER) > 0.8


def test_a_line_is_hair_on_skin_and_not_on_the_lesion() -> None:
    image = SKIN.copy()
    image[:, 30:32] = 40  # from top to bottom, beside the lesion
    mask = disc(20)
    assert hair_fraction(image, mask) == pytest.approx(200 / (100 * 120 - 1600), rel=0.15)
    covering = np.zeros((100, 120), bool)
    covering[:, 20:60] = True
    assert hair_fraction(image, covering) == 0.0


def test_a_spot_and_a_short_tick_are_no_hair() -> None:
    image = SKIN.copy()
    image[10:13, 10:13] = 40
    image[80:88, 100:101] = 40
    assert hair_fraction(image, disc(20)) == 0.0


def test_blue_on_skin_is_marker_and_brown_is_not() -> None:
    image = SKIN.copy()
    image[:10] = (60, 60, 180)
    image[90:] = (120, 70, 40)
    share = 1200 / (100 * 120 - np.count_nonzero(disc(23)))
    assert marker_fraction(image, disc(20)) == pytest.approx(share, rel=0.02)


def test_a_blue_lesion_is_no_marker() -> None:
    image = SKIN.copy()
    image[disc(20)] = (60, 60, 180)
    assert marker_fraction(image, disc(20)) == 0.0


def test_a_paler_lesion_has_less_contrast() -> None:
    dark = drawn(3)
    skin = np.median(dark.image[~dark.mask], axis=0)
    pale = dark.image.copy()
    pale[dark.mask] = (0.2 * pale[dark.mask] + 0.8 * skin).astype(np.uint8)
    assert colour_difference(pale, dark.mask) < 0.5 * colour_difference(dark.image, dark.mask)


def test_the_colour_difference_is_that_of_the_two_colours() -> None:
    image = SKIN.copy()
    mask = disc(20)
    image[mask] = (120, 70, 40)
    lab = to_lab(np.array([[220, 180, 165], [120, 70, 40]], np.uint8))
    expected = np.linalg.norm(lab[0] - lab[1])
    assert colour_difference(image, mask) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("radius", [20, 45])
def test_a_disc_has_an_irregularity_near_one(radius: int) -> None:
    mask = disc(radius)
    assert irregularity(SKIN, mask) == pytest.approx(1.0, abs=0.04)


def test_a_notched_disc_is_more_irregular() -> None:
    notched = disc(40)
    notched[:, 58:62] &= np.arange(100)[:, None] > 50  # a cut to the centre adds twice its length
    assert irregularity(SKIN, notched) > 1.4
    ragged = disc(40) & (np.random.default_rng(0).random((100, 120)) > 0.1)
    assert irregularity(SKIN, ragged) > 2


@pytest.mark.parametrize("mask", [np.zeros((100, 120), bool), np.ones((100, 120), bool)])
def test_without_a_border_there_is_no_contrast(mask: np.ndarray) -> None:
    with pytest.raises(DataError, match="empty or the whole frame"):
        colour_difference(SKIN, mask)


def test_an_empty_mask_has_no_shape() -> None:
    with pytest.raises(DataError, match="the mask is empty"):
        irregularity(SKIN, np.zeros((100, 120), bool))


@pytest.mark.parametrize("rule", [hair_fraction, marker_fraction, colour_difference])
def test_a_mask_of_another_size_is_refused(rule: Callable[..., float]) -> None:
    with pytest.raises(DataError, match="image of shape"):
        rule(SKIN, np.ones((4, 4), bool))


def test_low_contrast_counts_from_the_smallest_and_all_else_from_the_largest() -> None:
    values = np.array([2.0, 1.0, 3.0])
    assert {rule.name: rule.order(values) for rule in RULES} == {
        "hair": [2, 0, 1],
        "marker or ink": [2, 0, 1],
        "low contrast": [1, 0, 2],
        "irregular border": [2, 0, 1],
    }
