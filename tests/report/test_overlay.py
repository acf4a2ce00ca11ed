from xml.etree import ElementTree

import numpy as np
import pytest

from dermfuse.report.page import Example, draw_overlay


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def example(truth: np.ndarray, predicted: np.ndarray) -> Example:
    image = np.full((*truth.shape, 3), 120, np.uint8)
    return Example("ISIC_0000000", image, truth, predicted, ("Jaccard 1.000",))


def test_an_overlay_holds_the_image_and_both_contours() -> None:
    root = ElementTree.fromstring(draw_overlay(example(mask("#."), mask(".#"))))
    assert root.get("viewBox") == "0 0 2 1"
    (image,) = root.iter("image")
    assert image.get("href", "").startswith("data:image/jpeg;base64,")
    kinds = [path.get("class") for path in root.iter("path")]
    assert kinds == ["halo", "contour truth", "halo", "contour predicted"]


def test_an_empty_prediction_draws_the_true_contour_alone() -> None:
    root = ElementTree.fromstring(draw_overlay(example(mask("#."), mask(".."))))
    assert [path.get("class") for path in root.iter("path")] == ["halo", "contour truth"]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="ISIC_0000000 differ in size"):
        example(mask("#."), mask("#"))
