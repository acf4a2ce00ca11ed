import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dermfuse.data.labels import Label
from dermfuse.data.synthetic import draw_lesion
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.quality import FEATURES, appearance


def features(image: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURES, appearance(image).tolist(), strict=True))


@pytest.fixture(scope="module")
def lesion() -> dict[str, float]:
    drawn = draw_lesion(
        np.random.default_rng(1), label=Label.BENIGN, size_px=(160, 120), interferences=frozenset()
    )
    return features(drawn.image)


def test_a_lesion_is_of_the_hues_of_skin_smooth_and_dark_in_the_middle(
    lesion: dict[str, float],
) -> None:
    assert lesion["skin_hues"] > 0.75
    assert lesion["foreign_hues"] == 0.0
    assert lesion["smoothness"] > 0.9
    assert lesion["centre_darkness"] > 0


def test_noise_is_rough_and_has_every_hue(lesion: dict[str, float]) -> None:
    noise = features(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    assert noise["roughness"] > 1.5 > lesion["roughness"]
    assert noise["foreign_hues"] > 0.2
    assert noise["colour_richness"] > 5 * lesion["colour_richness"]


def test_a_document_is_white_grey_and_full_of_edges(lesion: dict[str, float]) -> None:
    page = Image.new("RGB", (160, 120), "white")
    for y in range(8, 112, 8):
        ImageDraw.Draw(page).line([(10, y), (150, y)], fill="black")
    found = features(np.asarray(page))
    assert found["greys"] == 1.0
    assert found["edges"] > 0.15 > lesion["edges"]
    assert found["upright_edges"] > 0.95 > lesion["upright_edges"]


def test_a_view_of_sky_and_grass_has_foreign_hues() -> None:
    view = np.zeros((120, 160, 3), np.uint8)
    view[:60], view[60:] = (80, 140, 230), (60, 150, 50)
    found = features(view)
    assert found["foreign_hues"] == 1.0
    assert found["skin_hues"] == 0.0


def test_a_light_middle_and_a_dark_edge_are_told_apart() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:80, 20:80] = 200
    found = features(image)
    assert found["centre_darkness"] < -0.4
    assert found["radial_lightness"] < -0.5
    assert found["darks"] > 0.5


def test_a_reduced_copy_serves() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert np.array_equal(appearance(image), appearance(reduce_image(image)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(3, 40), st.booleans())
def test_features_of_any_image_are_finite(seed: int, height: int, width: int, plain: bool) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    values = appearance(np.full_like(image, image[0, 0, 0]) if plain else image)
    assert values.shape == (len(FEATURES),) == (22,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_texture_and_richness_are_those_of_their_definitions_to_a_millionth() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    found = features(pixels)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    gradient = np.hypot(grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1])
    assert found["mean_gradient"] == pytest.approx(gradient.mean() / 255, rel=1e-6)
    assert found["edges"] == pytest.approx((gradient > 32).mean(), rel=1e-6)
    colours = {tuple(pixel) for pixel in (pixels.reshape(-1, 3) >> 4).tolist()}
    assert found["colour_richness"] == pytest.approx(len(colours) / (48 * 64), rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 1639), (1639, 16), (1, 1), (2, 300)])
def test_features_of_the_thinnest_images_are_finite(height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.isfinite(appearance(noise)).all()
