from collections.abc import Callable

import numpy as np
import pytest

from dermfuse.data.isic2016 import Label
from dermfuse.data.synthetic import Interference, draw_lesion
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
BLUE, BROWN, BLACK = (60, 60, 180), (120, 70, 40), (40, 40, 40)


def disc(radius: float) -> np.ndarray:
    y, x = np.ogrid[:100, :120]
    return (y - 50) ** 2 + (x - 60) ** 2 <= radius**2


def painted(colour: tuple[int, int, int], *places: object) -> np.ndarray:
    image = SKIN.copy()
    for place in places:
        image[place] = colour
    return image


LESION, NOTHING, FRAME = disc(20), np.zeros((100, 120), bool), np.ones((100, 120), bool)


@pytest.mark.parametrize(
    ("rule", "kind", "other"),
    [
        (hair_fraction, Interference.HAIR, Interference.RULER),
        (marker_fraction, Interference.INK, Interference.DARK_CORNERS),
    ],
)
def test_disturbed_images_rank_above_others(
    rule: Callable[..., float], kind: Interference, other: Interference
) -> None:
    def number(seed: int, kind: Interference) -> float:
        rng, label = np.random.default_rng(seed), Label(seed % 2)
        x = draw_lesion(rng, label=label, size_px=(160, 120), interferences=frozenset([kind]))
        return rule(x.image, x.mask)

    numbers = [number(seed, each) for each in (other, kind) for seed in range(16)]
    assert auc([0] * 16 + [1] * 16, numbers) > 0.8


def test_a_line_is_hair_on_skin_and_not_on_the_lesion() -> None:
    image = painted(BLACK, np.s_[:, 30:32])  # from top to bottom, beside the lesion
    assert hair_fraction(image, LESION) == pytest.approx(200 / (100 * 120 - 1600), rel=0.15)
    covering = NOTHING.copy()
    covering[:, 20:60] = True
    assert hair_fraction(image, covering) == 0.0
    spot_and_tick = painted(BLACK, np.s_[10:13, 10:13], np.s_[80:88, 100:101])
    assert hair_fraction(spot_and_tick, LESION) == 0.0


def test_blue_on_skin_is_marker_and_brown_or_a_blue_lesion_is_not() -> None:
    image = painted(BLUE, np.s_[:10])
    image[90:] = BROWN
    share = 1200 / (100 * 120 - np.count_nonzero(disc(23)))
    assert marker_fraction(image, LESION) == pytest.approx(share, rel=0.02)
    assert marker_fraction(painted(BLUE, LESION), LESION) == 0.0
    assert marker_fraction(image, FRAME) == 0.0


def test_the_colour_difference_is_that_of_the_two_colours() -> None:
    lesion, skin = to_lab(np.array([BROWN, SKIN[0, 0]], np.uint8))
    found = colour_difference(painted(BROWN, LESION), LESION)
    assert found == pytest.approx(np.linalg.norm(lesion - skin))


def test_a_disc_has_an_irregularity_near_one_and_a_notched_one_more() -> None:
    assert irregularity(SKIN, LESION) == pytest.approx(1.0, abs=0.04)
    notched = disc(40)
    notched[:, 58:62] &= np.arange(100)[:, None] > 50  # a cut to the centre adds twice its length
    assert irregularity(SKIN, notched) > 1.4


def test_a_mask_without_a_border_is_refused() -> None:
    for mask in (NOTHING, FRAME):
        with pytest.raises(DataError, match="empty or the whole frame"):
            colour_difference(SKIN, mask)
    with pytest.raises(DataError, match="the mask is empty"):
        irregularity(SKIN, NOTHING)


def test_the_hardest_are_first_and_bald_ones_are_not_hairy() -> None:
    hair, _, low_contrast, _ = RULES
    numbers = {"a": 0.0, "b": 0.1, "c": 0.3, "d": 0.2}
    assert hair.hardest(numbers, 2) == ["c", "d"]
    assert hair.hardest(numbers, 9) == ["c", "d", "b"]
    assert low_contrast.hardest(numbers, 2) == ["a", "b"]
    assert [rule.largest_is_hardest for rule in RULES] == [True, True, False, True]
