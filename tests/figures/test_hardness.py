from collections.abc import Callable

import numpy as np
import pytest

from dermfuse.data.labels import Label
from dermfuse.data.synthetic import Interference, SyntheticLesion, draw_lesion
from dermfuse.errors import DataError
from dermfuse.figures.hardness import (
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


@pytest.mark.parametrize(
    ("rule", "kind", "others", "least"),
    [
        (hair_fraction, Interference.HAIR, (), 0.85),
        (hair_fraction, Interference.HAIR, (Interference.RULER,), 0.8),
        (marker_fraction, Interference.INK, (), 0.9),
        (marker_fraction, Interference.INK, (Interference.RULER,), 0.8),
        (marker_fraction, Interference.INK, (Interference.GEL_BUBBLES,), 0.8),
        (marker_fraction, Interference.INK, (Interference.DARK_CORNERS,), 0.8),
    ],
)
def test_disturbed_images_rank_above_others(
    rule: Callable[..., float],
    kind: Interference,
    others: tuple[Interference, ...],
    least: float,
) -> None:
    assert separation(rule, kind, *others) > least


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
    expected = np.linalg.norm(
        np.subtract(*to_lab(np.array([[220, 180, 165], [120, 70, 40]], "u1")))
    )
    assert colour_difference(image, mask) == pytest.approx(expected)


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


def test_the_hardest_are_first_and_bald_ones_are_not_hairy() -> None:
    hair, _, low_contrast, _ = RULES
    numbers = {"a": 0.0, "b": 0.1, "c": 0.3, "d": 0.2}
    assert hair.hardest(numbers, 2) == ["c", "d"]
    assert hair.hardest(numbers, 9) == ["c", "d", "b"]
    assert low_contrast.hardest(numbers, 2) == ["a", "b"]
    assert [rule.largest_is_hardest for rule in RULES] == [True, True, False, True]
