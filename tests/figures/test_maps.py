import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.maps import (
    ActivationRow,
    ProbabilityRow,
    ShownImage,
    draw_activation_maps,
    draw_probability_maps,
)
from dermfuse.figures.style import DPI, WIDTH_IN, Basis
from dermfuse.imaging.preprocess import resize_map

BASIS = Basis("validation", 2, ("a", "b"), malignant=1)
PIXELS = np.full((24, 32, 3), 200, np.uint8)
SHOWN = [ShownImage("ISIC_0000000", PIXELS, "benign", np.eye(24, 32) > 0), ShownImage("b", PIXELS)]


def test_a_map_is_spread_without_overshooting() -> None:
    small = np.array([[0.0, -7.0], [3.0, 1.0]], np.float32)
    large = resize_map(small, 60, 80)
    assert large.shape == (60, 80)
    assert [large.min(), large.max()] == [-7.0, 3.0]
    assert [large[0, 0], large[0, -1], large[-1, 0], large[-1, -1]] == [0.0, -7.0, 3.0, 1.0]


def test_activation_maps_are_a_picture_of_a_row_per_network() -> None:
    rows = [
        ActivationRow(name, np.random.default_rng(0).normal(0, 1, (2, 2, 2)), np.array([0.2, 0.8]))
        for name in ("a", "b")
    ]
    picture = draw_activation_maps(SHOWN, rows, basis=BASIS, chosen="By a rule.")
    image = Image.open(io.BytesIO(picture.png))
    assert image.size == (WIDTH_IN * DPI, round((0.9 + 3 * (3.2 + 0.4)) * DPI))
    assert "By a rule." in picture.caption


def test_probability_maps_are_a_picture_with_both_contours() -> None:
    value = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    rows = [ProbabilityRow("a", (value, value)), ProbabilityRow("b", (value, value))]
    picture = draw_probability_maps(SHOWN, rows, basis=BASIS, chosen="All.")
    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    assert image.width == WIDTH_IN * DPI
    pixels = np.asarray(image).reshape(-1, 3)
    for colour in ((255, 0, 0), (47, 107, 255)):
        assert (pixels == colour).all(axis=1).any()


def test_nothing_and_missing_maps_are_refused() -> None:
    activations = ActivationRow("a", np.zeros((1, 2, 2), np.float32), np.zeros(1))
    with pytest.raises(DataError, match="no images to draw"):
        draw_activation_maps([], [activations], basis=BASIS, chosen="")
    with pytest.raises(DataError, match="no networks to draw"):
        draw_probability_maps(SHOWN, [], basis=BASIS, chosen="")
    with pytest.raises(DataError, match="of lengths 2, 1"):
        draw_activation_maps(SHOWN, [activations], basis=BASIS, chosen="")
    with pytest.raises(DataError, match="images and maps of a of lengths 2, 0"):
        draw_probability_maps(SHOWN, [ProbabilityRow("a", ())], basis=BASIS, chosen="")
