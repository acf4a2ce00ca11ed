"""An example image with the true and the predicted contour over it, as inline SVG."""

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.outlines import contour_path

_JPEG_QUALITY = 85
_MAX_SIDE_PX = 320


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One image of the test set and what was predicted for it.

    Args:
        image_id: For the caption.
        image: (H, W, 3) uint8, RGB.
        truth: The true mask, (H, W).
        predicted: The predicted mask, (H, W).
        lines: What the caption says about it.
    """

    image_id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        shapes = {self.image.shape[:2], self.truth.shape, self.predicted.shape}
        if len(shapes) > 1:
            raise ValueError(f"image and masks of {self.image_id} differ in size: {shapes}")


def draw_overlay(example: Example) -> str:
    """Returns the image, embedded, and both contours as an ``<svg>`` element."""
    height, width = example.truth.shape
    contours = "".join(
        f'<path class="halo" d="{path}"/><path class="contour {name}" d="{path}"/>'
        for name, mask in (("truth", example.truth), ("predicted", example.predicted))
        if (path := contour_path(mask))
    )
    label = escape(f"{example.image_id} with its true and its predicted contour", quote=True)
    return (
        f'<svg class="overlay" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f'<image width="{width}" height="{height}" href="{_data_uri(example.image)}"/>'
        f"{contours}</svg>"
    )


def _data_uri(image: NDArray[np.uint8]) -> str:
    """Returns the image as an embedded JPEG, at most 320 px on its longer side."""
    picture = Image.fromarray(image)
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
