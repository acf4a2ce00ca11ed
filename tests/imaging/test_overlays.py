"""Outlines and activation maps are drawn over an image, with a caption below it."""

import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.imaging.overlays import (
    AGAINST_COLOUR,
    FOR_COLOUR,
    FULL_LOG_ODDS,
    HALO_COLOUR,
    OUTLINE_COLOUR,
    add_caption,
    draw_activation,
    draw_outline,
    encode_png,
)

GREY = np.full((60, 80, 3), 120, np.uint8)
SQUARE = np.zeros((60, 80), bool)
SQUARE[20:40, 20:60] = True


class TestOutline:
    def test_it_is_blue_between_white_lines(self) -> None:
        image = GREY.copy()
        drawn = draw_outline(image, SQUARE)
        row = drawn[30, 15:26].tolist()
        line = row.index(list(OUTLINE_COLOUR))
        assert row.count(list(HALO_COLOUR)) == 2
        assert row[line - 1] == row[line + 1] == list(HALO_COLOUR)
        assert drawn[30, 40].tolist() == drawn[5, 5].tolist() == [120] * 3
        assert np.array_equal(image, GREY)
        assert np.array_equal(draw_outline(GREY, np.zeros((60, 80), bool)), GREY)

    def test_lines_are_thicker_in_larger_images(self) -> None:
        large, mask = (each.repeat(16, axis=0).repeat(16, axis=1) for each in (GREY, SQUARE))
        drawn = draw_outline(large, mask)
        assert (drawn[480] == OUTLINE_COLOUR).all(axis=1).sum() == 2 * 4

    def test_image_and_mask_must_have_one_size(self) -> None:
        with pytest.raises(ValueError, match="differ in size"):
            draw_outline(GREY, SQUARE.T)


class TestActivation:
    def test_what_speaks_for_is_amber_and_what_speaks_against_violet(self) -> None:
        full = np.array([[FULL_LOG_ODDS, -FULL_LOG_ODDS]], np.float32)
        drawn = draw_activation(GREY, full)
        for column, colour in ((0, FOR_COLOUR), (-1, AGAINST_COLOUR)):
            mixed = [round(120 + 0.65 * (channel - 120)) for channel in colour]
            assert drawn[30, column].tolist() == pytest.approx(mixed, abs=1)
        luminance = np.array([0.2126, 0.7152, 0.0722])  # told apart in grey
        assert np.array(FOR_COLOUR) @ luminance > 3 * (np.array(AGAINST_COLOUR) @ luminance)

    def test_it_is_as_opaque_as_the_log_odds_whatever_else_the_map_holds(self) -> None:
        def first(share: float, last: float | None = None) -> list[int]:
            shares = np.full((7, 7), share * FULL_LOG_ODDS, np.float32)
            shares[-1, -1] = FULL_LOG_ODDS * (share if last is None else last)
            found: list[int] = draw_activation(GREY, shares)[0, 0].tolist()
            return found

        half = [120 + 0.325 * (channel - 120) for channel in FOR_COLOUR]
        assert first(0.5) == pytest.approx(half, abs=1)
        assert first(0.5, last=50) == first(0.5)
        assert first(9) == first(1)
        assert first(0) == [120] * 3

    def test_a_map_is_enlarged_without_steps(self) -> None:
        activation = np.linspace(0, 1, 4, dtype=np.float32)[None, :].repeat(4, axis=0)
        drawn = draw_activation(np.zeros((64, 256, 3), np.uint8), activation).astype(int)
        assert np.abs(np.diff(drawn, axis=1)).max() <= 6


@pytest.mark.parametrize(("legend", "lines"), [(False, 1), (True, 2)])
@pytest.mark.parametrize(("height", "width", "line"), [(60, 80, 16), (390, 520, 20), (900, 90, 35)])
def test_the_caption_lies_below_the_image(
    height: int, width: int, line: int, legend: bool, lines: int
) -> None:
    image = np.full((height, width, 3), 120, np.uint8)
    drawn = add_caption(image, legend=legend)
    assert drawn.shape == (height + lines * line, width, 3)
    assert np.array_equal(drawn[:height], image)
    notice = drawn[-line:]
    assert (notice < 200).any()
    assert (notice[:, -2:] == 255).all()  # the words end before the edge


def test_the_legend_runs_from_against_to_for() -> None:
    drawn = add_caption(np.full((390, 520, 3), 120, np.uint8), legend=True)
    middle = drawn[400, 174:346].astype(int)
    violet, white, amber = middle[2], middle[len(middle) // 2], middle[-2]
    assert violet[2] > violet[1]
    assert white.min() > 245
    assert amber[0] > amber[2]


def test_a_png_holds_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(image))) as read:
        assert np.array_equal(np.asarray(read), image)
