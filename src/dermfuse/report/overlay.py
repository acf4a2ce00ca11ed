"""An example image with the true and the predicted contour over it, as inline SVG."""

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_JPEG_QUALITY = 85
_MAX_SIDE_PX = 320

Point = tuple[int, int]


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


def contour_path(mask: NDArray[np.bool_]) -> str:
    """Returns the outline of a mask as the ``d`` of an SVG path; empty for an empty mask.

    Example:
        >>> contour_path(np.array([[True, True]]))
        'M0 0L2 0L2 1L0 1Z'
    """
    loops = trace_contours(mask)
    return "".join("M" + "L".join(f"{x} {y}" for x, y in loop) + "Z" for loop in loops)


def trace_contours(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """Returns the closed outlines of a mask, as corners ``(x, y)`` on the lattice of pixel edges.

    The lesion lies to the right of the direction of travel; holes have outlines of their own.

    Args:
        mask: (H, W).
    """
    nexts = _edges(mask)
    loops = []
    while nexts:
        start = min(nexts)
        loop, point, heading = [start], start, (1, 0)
        while True:
            ends = nexts[point]
            # Where two pixels touch at a corner, turn right: they stay two outlines.
            right = (point[0] - heading[1], point[1] + heading[0])
            end = right if right in ends else next(iter(ends))
            ends.remove(end)
            if not ends:
                del nexts[point]
            heading, point = (end[0] - point[0], end[1] - point[1]), end
            if point == start:
                break
            loop.append(point)
        loops.append(_corners(loop))
    return loops


def _edges(mask: NDArray[np.bool_]) -> dict[Point, set[Point]]:
    """Returns the directed unit edges between lesion and skin, start to ends."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (  # which neighbour is skin, and the edge on that side, clockwise
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    nexts: dict[Point, set[Point]] = {}
    for neighbour, start, end in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            nexts.setdefault((x + start[0], y + start[1]), set()).add((x + end[0], y + end[1]))
    return nexts


def _corners(loop: list[Point]) -> list[Point]:
    """Returns the points at which a closed outline turns."""
    before, after = loop[-1:] + loop[:-1], loop[1:] + loop[:1]
    return [
        point
        for a, point, b in zip(before, loop, after, strict=True)
        if (point[0] - a[0], point[1] - a[1]) != (b[0] - point[0], b[1] - point[1])
    ]


def _data_uri(image: NDArray[np.uint8]) -> str:
    """Returns the image as an embedded JPEG, at most 320 px on its longer side."""
    picture = Image.fromarray(image)
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
