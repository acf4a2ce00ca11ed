import io

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermfuse.analysis.overlays import (
    HALO_COLOUR,
    OUTLINE_COLOUR,
    draw_activation,
    draw_outline,
    encode_png,
)
from dermfuse.analysis.overlays import _lookup_table as lookup_table

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


def test_the_lookup_table_is_viridis() -> None:
    viridis = np.rint(mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255)
    assert np.abs(lookup_table() - viridis).max() <= 8
    lightness = lookup_table().astype(float) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()  # but for rounding to 8 bits it only rises


def test_what_is_not_above_low_is_not_tinted() -> None:
    activation = np.array([[-3.0, -3.0], [-3.0, 2.0]], np.float32)
    drawn = draw_activation(GREY, activation)
    assert drawn.shape == GREY.shape
    assert (drawn[:10, :10] == 120).all()
    assert drawn[-1, -1].tolist() == pytest.approx(
        [0.65 * v + 0.35 * 120 for v in (253, 231, 37)], abs=2
    )


def test_a_map_without_activation_leaves_the_image_bare() -> None:
    assert np.array_equal(draw_activation(GREY, np.full((7, 7), -1, np.float32)), GREY)


def test_a_given_high_makes_two_images_comparable() -> None:
    weak = draw_activation(GREY, np.full((7, 7), 1, np.float32), high=10.0)
    strong = draw_activation(GREY, np.full((7, 7), 10, np.float32), high=10.0)
    assert np.abs(weak.astype(int) - 120).max() < np.abs(strong.astype(int) - 120).max()


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
