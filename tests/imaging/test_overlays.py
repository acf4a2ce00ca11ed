import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


def square() -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    return mask


def test_the_outline_is_blue_between_white_lines() -> None:
    drawn = draw_outline(GREY, square())
    row = drawn[30, 15:26].tolist()
    assert list(OUTLINE_COLOUR) in row
    assert row.count(list(HALO_COLOUR)) == 2
    line = row.index(list(OUTLINE_COLOUR))
    assert row[line - 1] == row[line + 1] == list(HALO_COLOUR)
    assert drawn[30, 40].tolist() == drawn[5, 5].tolist() == [120] * 3


def test_lines_are_thicker_in_larger_images() -> None:
    large = draw_outline(GREY.repeat(16, axis=0).repeat(16, axis=1), np.kron(
        square(), np.ones((16, 16), bool)))  # fmt: skip
    blue = (large[480] == OUTLINE_COLOUR).all(axis=1).sum()
    assert blue == 2 * 4


def test_the_image_is_left_alone_and_an_empty_mask_draws_nothing() -> None:
    image = GREY.copy()
    draw_outline(image, square())
    assert np.array_equal(image, GREY)
    assert np.array_equal(draw_outline(image, np.zeros((60, 80), bool)), GREY)


def test_image_and_mask_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        draw_outline(GREY, square().T)


def test_what_speaks_for_is_amber_and_what_speaks_against_violet() -> None:
    full = np.array([[FULL_LOG_ODDS, -FULL_LOG_ODDS]], np.float32)
    drawn = draw_activation(GREY, full)
    for column, colour in ((0, FOR_COLOUR), (-1, AGAINST_COLOUR)):
        mixed = [round(120 + 0.65 * (channel - 120)) for channel in colour]
        assert drawn[30, column].tolist() == pytest.approx(mixed, abs=1)


def test_what_adds_nothing_leaves_the_image_bare() -> None:
    assert np.array_equal(draw_activation(GREY, np.zeros((7, 7), np.float32)), GREY)


def test_half_the_log_odds_are_half_as_opaque_whatever_else_the_map_holds() -> None:
    half = np.full((7, 7), FULL_LOG_ODDS / 2, np.float32)
    drawn = draw_activation(GREY, half)[0, 0]
    assert drawn.tolist() == pytest.approx(
        [120 + 0.325 * (channel - 120) for channel in FOR_COLOUR], abs=1
    )
    peaked = half.copy()
    peaked[-1, -1] = 50 * FULL_LOG_ODDS
    assert draw_activation(GREY, peaked)[0, 0].tolist() == drawn.tolist()


def test_no_tint_is_stronger_than_the_fullest() -> None:
    full = draw_activation(GREY, np.full((7, 7), FULL_LOG_ODDS, np.float32))
    more = draw_activation(GREY, np.full((7, 7), 9 * FULL_LOG_ODDS, np.float32))
    assert np.array_equal(full, more)


def test_the_tints_are_told_apart_in_grey() -> None:
    luminance = np.array([0.2126, 0.7152, 0.0722])
    assert np.array(FOR_COLOUR) @ luminance > 3 * (np.array(AGAINST_COLOUR) @ luminance)


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


def test_a_map_is_enlarged_without_steps() -> None:
    activation = np.linspace(0, 1, 4, dtype=np.float32)[None, :].repeat(4, axis=0)
    drawn = draw_activation(np.zeros((64, 256, 3), np.uint8), activation).astype(int)
    assert np.abs(np.diff(drawn, axis=1)).max() <= 6


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_any_map_gives_an_image(seed: int) -> None:
    activation = np.random.default_rng(seed).normal(0, 100, (7, 7)).astype(np.float32)
    assert draw_activation(GREY, activation).shape == GREY.shape


def test_a_png_holds_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(image))) as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read), image)
