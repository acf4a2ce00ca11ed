"""Flags say what is wrong with an image; its appearance tells lesions from other pictures."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from dermfuse.data.isic2016 import Label
from dermfuse.data.synthetic import draw_lesion
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.quality import FEATURES, LIMITS, appearance, assess_quality


def lesion(seed: int, size_px: tuple[int, int]) -> np.ndarray:
    """A sharp, drawn lesion without interference."""
    rng = np.random.default_rng(seed)
    return draw_lesion(rng, label=Label.BENIGN, size_px=size_px, interferences=frozenset()).image


def darkened(image: Image.Image, *, lens: bool) -> Image.Image:
    """The image with a dark edge of the lens, or a dark lesion in its middle."""
    rows, columns = np.mgrid[:240, :320]
    ellipse = ((columns - 160) / 160) ** 2 + ((rows - 120) / 120) ** 2
    return Image.fromarray(np.where((ellipse > 1 if lens else ellipse < 0.3)[..., None], 5, image))


GRAIN = np.random.default_rng(0).normal(0, 4, (240, 320, 1))  # as skin has it
GOOD = np.clip(lesion(5, (320, 240)) + GRAIN, 0, 255).astype(np.uint8)


def raised(image: np.ndarray, **choices: float) -> set[str]:
    return {flag.name for flag in assess_quality(image, **choices) if flag.raised}


def test_a_good_image_raises_none() -> None:
    assert raised(GOOD, frame_contact=0.3) == raised(GOOD) == set()
    assert raised(GOOD, frame_contact=0.31) == {"lesion_cut"}
    flags = assess_quality(GOOD, frame_contact=0.0)
    assert [flag.name for flag in flags] == list(LIMITS)
    assert flags[1].sentence == "The image is in focus."


@pytest.mark.parametrize(
    ("change", "name", "fails"),
    [
        (lambda image: image.crop((0, 0, 320, 223)), "too_small", True),
        (lambda image: image.crop((0, 0, 320, 224)), "too_small", False),
        (lambda image: image.resize((800, 600)), "too_small", False),
        (lambda image: image.filter(ImageFilter.GaussianBlur(2)), "blurred", True),
        (lambda image: image.resize((64, 48)).resize((640, 480)), "blurred", True),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.1), "low_contrast", True),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.4), "too_dark", True),
        (lambda image: ImageEnhance.Brightness(image).enhance(3), "too_bright", True),
        (lambda image: darkened(image, lens=True), "dark_corners", True),
        (lambda image: darkened(image, lens=False), "dark_corners", False),
    ],
)
def test_each_fault_raises_its_flag(
    change: Callable[[Image.Image], Image.Image], name: str, *, fails: bool
) -> None:
    changed = reduce_image(np.asarray(change(Image.fromarray(GOOD))))  # of the size before
    assert (name in raised(changed)) is fails


def test_sharpness_does_not_depend_on_the_camera() -> None:
    drawn = lesion(2, (600, 448))
    half = np.asarray(Image.fromarray(drawn).resize((300, 224), Image.Resampling.BOX))
    whole, halved = (assess_quality(image)[1].value for image in (drawn, half))
    assert halved == pytest.approx(whole, rel=0.15)


def features(image: np.ndarray | Image.Image) -> dict[str, float]:
    return dict(zip(FEATURES, appearance(np.asarray(image)).tolist(), strict=True))


def test_a_lesion_is_told_from_noise_a_document_and_a_view() -> None:
    skin = features(lesion(1, (160, 120)))
    assert skin["skin_hues"] > 0.75
    assert skin["smoothness"] > 0.9
    assert skin["foreign_hues"] == 0.0 < skin["centre_darkness"]
    noise = features(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    assert noise["roughness"] > 1.5 > skin["roughness"]
    assert noise["foreign_hues"] > 0.2
    page = Image.new("RGB", (160, 120), "white")
    for y in range(8, 112, 8):
        ImageDraw.Draw(page).line([(10, y), (150, y)], fill="black")
    document = features(page)
    assert document["greys"] == 1.0
    assert document["edges"] > 0.15 > skin["edges"]
    assert document["upright_edges"] > 0.95 > skin["upright_edges"]
    view = np.full((120, 160, 3), (80, 140, 230), np.uint8)
    view[60:] = (60, 150, 50)
    assert features(view)["foreign_hues"] == 1.0
    framed = np.pad(np.full((60, 60, 3), 200, np.uint8), ((20, 20), (20, 20), (0, 0)))
    found = features(framed)
    assert max(found["centre_darkness"] + 0.4, found["radial_lightness"] + 0.5) < 0
    assert found["darks"] > 0.5


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 2, 3, 40, 1639]))
def test_values_of_any_image_are_finite(seed: int, height: int, width: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for image in (noise, np.full_like(noise, noise[0, 0, 0])):
        values = appearance(image)
        assert (values.shape, values.dtype) == ((22,), np.float32)
        assert np.isfinite(values).all()
        assert all(np.isfinite(flag.value) for flag in assess_quality(image, frame_contact=0.0))
