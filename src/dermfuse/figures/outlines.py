"""True and predicted contours over images: Figs. 13 and 14."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from dermfuse.figures.picture import Picture
from dermfuse.figures.style import (
    PREDICTED,
    TRUTH,
    Basis,
    encode,
    fold,
    grid_of,
    hide,
    house_style,
    new_figure,
    require,
    require_equal,
)

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

ROW_NAME: dict[str, Any] = {"fontweight": "bold", "fontsize": 9.5}
"""How the name of a row of images is written beside it."""

_ROW_LETTERS = 80  # of a row of one image; more images are lower
_HALO: list[AbstractPathEffect] = [withStroke(linewidth=3.2, foreground="white")]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One image of a figure.

    Args:
        image: (H, W, 3) RGB.
        lines: What stands above it.
        truth: The true mask, where contours are drawn. (H, W)
        predicted: The predicted mask, where contours are drawn. (H, W)
    """

    image: Image
    lines: tuple[str, ...]
    truth: Mask | None = None
    predicted: Mask | None = None

    def __post_init__(self) -> None:
        for mask in (self.truth, self.predicted):
            if mask is not None:
                require_equal([self.image.shape[0], mask.shape[0]], "an image and a mask, in rows")
                require_equal(
                    [self.image.shape[1], mask.shape[1]], "an image and a mask, in columns"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Panels that belong together.

    Args:
        name: What they have in common.
        panels: From the left.
    """

    name: str
    panels: tuple[Panel, ...]


@house_style
def draw_panels(
    rows: Sequence[Row], *, name: str, title: str, caption: str, basis: Basis
) -> Picture:
    """Returns rows of images, with the true contour in red and the predicted one in blue.

    The true contour is a solid line and the predicted one is dashed, so that they are told
    apart without colour.

    Args:
        rows: One or more, none of them empty.
        name: Of the file.
        title: Of the figure.
        caption: How the images were chosen.
        basis: Which images they were chosen from.

    Raises:
        DataError: There is nothing to draw.

    Paper:
        Figs. 13 and 14: blue is predicted, red is true.
    """
    require(rows, "rows of images")
    for row in rows:
        require(row.panels, f"images ({row.name})")
    columns = max(len(row.panels) for row in rows)
    lines = max(len(panel.lines) for row in rows for panel in row.panels)
    figure = new_figure(0.9 + len(rows) * (7.2 / columns + 0.22 * lines))
    grid = grid_of(figure, len(rows), columns)
    for cells, row in zip(grid, rows, strict=True):
        for axes in cells:
            hide(axes)
        cells[0].set_ylabel(fold(row.name, _ROW_LETTERS // columns), **ROW_NAME)
        for axes, panel in zip(cells, row.panels, strict=False):
            draw_panel(axes, panel)
    if any(panel.truth is not None for row in rows for panel in row.panels):
        figure.legend(handles=contour_keys(), loc="outside upper right", ncols=2)
    return encode(figure, name=name, title=title, caption=caption, basis=basis)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draws one image, its contours and its lines."""
    axes.imshow(panel.image)
    draw_contour(axes, panel.truth, colour=TRUTH, dashes="-")
    draw_contour(axes, panel.predicted, colour=PREDICTED, dashes="--")
    axes.set_title("\n".join(panel.lines), fontsize=9.5)


def draw_contour(axes: Axes, mask: Mask | None, *, colour: str, dashes: str) -> None:
    """Draws the border of a mask, closed at the frame, with a white halo; nothing for None."""
    if mask is None or not mask.any():
        return
    height, width = mask.shape
    closed = np.pad(mask.astype(np.float64), 1)
    lines = axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        closed,
        levels=[0.5],
        colors=[colour],
        linestyles=[dashes],
        linewidths=1.7,
    )
    lines.set_path_effects(_HALO)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def contour_keys() -> list[Line2D]:
    """Returns what the legend says about the contours."""
    keys: tuple[tuple[str, str, Literal["-", "--"]], ...] = (
        ("true", TRUTH, "-"),
        ("predicted", PREDICTED, "--"),
    )
    return [Line2D([], [], color=c, linestyle=d, label=label) for label, c, d in keys]
