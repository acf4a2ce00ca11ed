"""Outlines and activation maps are drawn over an image, with a caption below it."""

import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.imaging import overlays
from dermfuse.imaging.overlays import AGAINST_COLOUR, FOR_COLOUR, FULL_LOG_ODDS, draw_outline

GREY = np.full((60, 80, 3), 120, np.uint8)
SQUARE = np.zeros((60, 80), bool)
SQUARE[20:40, 20:60] = True


def test_an_outline_is_blue_between_white_lines_and_thicker_in_larger_images() -> None:
    image = GREY.copy()
    drawn = draw_outline(image, SQUARE)
    row = drawn[30, 15:26].tolist()
    line = row.index(list(overlays.OUTLINE_COLOUR))
    assert row.count(list(overlays.HALO_COLOUR)) == 2
    assert row[line - 1] == row[line + 1] == list(overlays.HALO_COLOUR)
    assert drawn[30, 40].tolist() == drawn[5, 5].tolist() == [120] * 3
    assert np.array_equal(image, GREY)
    assert np.array_equal(draw_outline(GREY, np.zeros((60, 80), bool)), GREY)
    large, mask = (each.repeat(16, axis=0).repeat(16, axis=1) for each in (GREY, SQUARE))
    assert (draw_outline(large, mask)[480] == overlays.OUTLINE_COLOUR).all(axis=1).sum() == 2 * 4
    with pytest.raises(ValueError, match="differ in size"):
        draw_outline(GREY, SQUARE.T)


@pytest.mark.parametrize(
    ("share", "colour", "opacity"),
    [(1, FOR_COLOUR, 0.65), (9, FOR_COLOUR, 0.65), (-1, AGAINST_COLOUR, 0.65),
     (0.5, FOR_COLOUR, 0.325), (0, FOR_COLOUR, 0)],
)  # fmt: skip
def test_a_place_is_tinted_by_its_own_log_odds(
    share: float, colour: tuple[int, ...], opacity: float
) -> None:
    mixed = [120 + opacity * (channel - 120) for channel in colour]
    for other in (share, 50):  # whatever else the map holds
        shares = np.full((7, 7), share * FULL_LOG_ODDS, np.float32)
        shares[-1, -1] = FULL_LOG_ODDS * other
        assert overlays.draw_activation(GREY, shares)[0, 0].tolist() == pytest.approx(mixed, abs=1)


@pytest.mark.parametrize(("legend", "lines"), [(False, 1), (True, 2)])
@pytest.mark.parametrize(("height", "width", "line"), [(60, 80, 16), (390, 520, 20), (900, 90, 35)])
def test_the_caption_lies_below_the_image(
    height: int, width: int, line: int, legend: bool, lines: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    drawn = overlays.add_caption(image, legend=legend)
    assert drawn.shape == (height + lines * line, width, 3)
    assert np.array_equal(drawn[:height], image)
    notice = drawn[-line:]
    assert (notice < 200).any()
    assert (notice[:, -2:] == 255).all()  # the words end before the edge
    with Image.open(io.BytesIO(overlays.encode_png(drawn))) as read:
        assert np.array_equal(np.asarray(read), drawn)


def test_the_legend_runs_from_violet_against_to_amber_for() -> None:
    drawn = overlays.add_caption(np.full((390, 520, 3), 120, np.uint8), legend=True)
    middle = drawn[400, 174:346].astype(int)
    violet, white, amber = middle[2], middle[len(middle) // 2], middle[-2]
    assert (violet[2] > violet[1], white.min() > 245, amber[0] > amber[2]) == (True,) * 3
