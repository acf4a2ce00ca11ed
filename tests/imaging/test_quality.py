import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from dermfuse.data.labels import Label
from dermfuse.data.synthetic import draw_lesion
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.quality import LIMITS, assess_quality, sharpness


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    """A sharp, drawn lesion without interference; fine grain stands for the skin's."""
    drawn = draw_lesion(
        np.random.default_rng(5), label=Label.BENIGN, size_px=(320, 240), interferences=frozenset()
    )
    grain = np.random.default_rng(0).normal(0, 4, (240, 320, 1))
    return np.clip(drawn.image + grain, 0, 255).astype(np.uint8)


def raised(image: np.ndarray, **choices: float) -> set[str]:
    return {flag.name for flag in assess_quality(image, **choices) if flag.raised}


def test_a_good_image_raises_no_flag(good: np.ndarray) -> None:
    assert raised(good, frame_contact=0.0) == set()
    assert [flag.name for flag in assess_quality(good, frame_contact=0.0)] == list(LIMITS)


def test_a_small_image_is_too_small(good: np.ndarray) -> None:
    assert "too_small" in raised(good[:223])
    assert "too_small" not in raised(good[:224])


def test_the_size_is_that_before_reduction() -> None:
    image = np.random.default_rng(0).integers(90, 160, (600, 800, 3), dtype=np.uint8)
    assert "too_small" not in raised(reduce_image(image))  # type: ignore[arg-type]


@pytest.mark.parametrize("radius_px", [2, 3, 5])
def test_a_blurred_image_is_blurred(good: np.ndarray, radius_px: int) -> None:
    blurred = Image.fromarray(good).filter(ImageFilter.GaussianBlur(radius_px))
    assert raised(np.asarray(blurred)) == {"blurred"}


def test_an_enlarged_image_is_blurred(good: np.ndarray) -> None:
    tiny = Image.fromarray(good).resize((64, 48), Image.Resampling.BOX)
    assert "blurred" in raised(np.asarray(tiny.resize((640, 480), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize(("factor", "flag"), [(0.4, "too_dark"), (3.0, "too_bright")])
def test_exposure_is_judged(good: np.ndarray, factor: float, flag: str) -> None:
    exposed = ImageEnhance.Brightness(Image.fromarray(good)).enhance(factor)
    assert flag in raised(np.asarray(exposed))


def test_a_faint_image_has_low_contrast(good: np.ndarray) -> None:
    faint = ImageEnhance.Contrast(Image.fromarray(good)).enhance(0.1)
    assert raised(np.asarray(faint)) == {"low_contrast"}


def test_the_edge_of_the_lens_is_dark_corners_and_a_dark_lesion_is_not(good: np.ndarray) -> None:
    rows, columns = np.mgrid[:240, :320]
    outside = ((columns - 160) / 160) ** 2 + ((rows - 120) / 120) ** 2 > 1
    within = ((columns - 160) / 80) ** 2 + ((rows - 120) / 80) ** 2 < 1
    vignette, dark = good.copy(), good.copy()
    vignette[outside], dark[within] = 5, 5
    assert "dark_corners" in raised(vignette)
    flags = {flag.name: flag for flag in assess_quality(dark)}
    assert flags["dark_corners"].value == 0.0


def test_a_lesion_that_runs_out_of_the_frame_is_cut(good: np.ndarray) -> None:
    assert raised(good, frame_contact=0.31) == {"lesion_cut"}
    assert raised(good, frame_contact=0.3) == set()
    assert "lesion_cut" not in {flag.name for flag in assess_quality(good)}


def test_a_flag_says_in_words_what_it_found(good: np.ndarray) -> None:
    flag = assess_quality(good)[1]
    assert flag.sentence == "The image is in focus."
    written = json.loads(json.dumps(flag.to_dict()))
    assert written["threshold"] == 0.6
    assert written["raised"] is False
    blurred = np.asarray(Image.fromarray(good).filter(ImageFilter.GaussianBlur(3)))
    assert "blurred" in assess_quality(blurred)[1].sentence


def test_sharpness_does_not_depend_on_contrast(good: np.ndarray) -> None:
    grey = np.asarray(Image.fromarray(good).convert("L"), dtype=np.float32)
    assert sharpness(grey / 5) == pytest.approx(sharpness(grey), rel=1e-3)
    assert sharpness(np.zeros((5, 5), np.float32)) == 0.0


def test_sharpness_at_the_normalised_size_does_not_depend_on_the_camera() -> None:
    drawn = draw_lesion(
        np.random.default_rng(2), label=Label.BENIGN, size_px=(600, 448), interferences=frozenset()
    )
    half = np.asarray(Image.fromarray(drawn.image).resize((300, 224), Image.Resampling.BOX))
    values = [assess_quality(image)[1].value for image in (drawn.image, half)]
    assert values[0] == pytest.approx(values[1], rel=0.15)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(3, 40))
def test_any_image_has_finite_flags(seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert all(np.isfinite(flag.value) for flag in assess_quality(image, frame_contact=0.0))


def test_the_gradient_is_the_hypotenuse_to_a_millionth() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.float32)
    middle = grey[1:-1, 1:-1]
    left, right, above, below = grey[1:-1, :-2], grey[1:-1, 2:], grey[:-2, 1:-1], grey[2:, 1:-1]
    laplacian = np.abs(4 * middle - left - right - above - below)
    gradient = np.hypot(right - left, below - above)
    expected = np.percentile(laplacian, 99) / np.percentile(gradient, 99)
    assert sharpness(grey) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 1639), (1639, 16), (2, 300)])
def test_values_of_the_thinnest_images_are_finite(height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert all(np.isfinite(flag.value) for flag in assess_quality(noise))
