"""Maps over images: class activation maps (Fig. 9) and probability maps (Fig. 12).

True and predicted contours over images: Figs. 13 and 14.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dermfuse.figures.style import (
    BLUE,
    INK,
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
from dermfuse.imaging.preprocess import resize_map
from dermfuse.report import Picture

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

ROW_NAME: dict[str, Any] = {"fontweight": "bold", "fontsize": 9.5}
"""How the name of a row of images is written beside it."""

_OUTLINE_ROW_LETTERS = 80  # of a row of one image; more images are lower
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
        cells[0].set_ylabel(fold(row.name, _OUTLINE_ROW_LETTERS // columns), **ROW_NAME)
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


Map = NDArray[np.float32]

_COLOURS = "viridis"
_OPACITY = 0.5
_BINS = 32
_ROW_LETTERS = 90  # of a row of one image; more images are lower


@dataclass(frozen=True, slots=True, eq=False)
class ActivationRow:
    """One network's class activation maps.

    Args:
        name: The network.
        maps: Of each image, in log-odds of malignancy, as the network gives it. (N, h, w)
        scores: Of malignancy. (N,)
    """

    name: str
    maps: NDArray[np.float32]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ShownImage:
    """An image that maps are laid on.

    Args:
        image_id: For the heading.
        image: (H, W, 3) RGB.
        label: Its class in words, or empty where it is not known.
        truth: Its true mask, where there is one. (H, W)
    """

    image_id: str
    image: Image
    label: str = ""
    truth: Mask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityRow:
    """One network's probability maps.

    Args:
        name: The network.
        maps: One per image, of the image's size, in [0, 1]. (H, W) each
    """

    name: str
    maps: tuple[Map, ...]


@house_style
def draw_activation_maps(
    images: Sequence[ShownImage],
    rows: Sequence[ActivationRow],
    *,
    basis: Basis,
    chosen: str,
    name: str = "fig-09-activation-maps",
) -> Picture:
    """Returns each network's class activation map over each image.

    Args:
        images: One or more.
        rows: One or more networks, with a map and a score for each image.
        basis: Which images they were chosen from.
        chosen: By which rule, a sentence.
        name: Of the file.

    Raises:
        DataError: There is no image or no network, or a map is missing.

    Paper:
        Fig. 9.
    """
    require(images, "images")
    require(rows, "networks")
    for row in rows:
        require_equal([len(images), len(row.maps), len(row.scores)], f"images and maps {row.name}")
    columns = len(images)
    figure = new_figure(0.9 + (1 + len(rows)) * (6.4 / columns + 0.4))
    grid = grid_of(figure, 1 + len(rows), columns)
    for axes in (axes for cells in grid for axes in cells):
        hide(axes)
    grid[0][0].set_ylabel("image", **ROW_NAME)
    for axes, shown in zip(grid[0], images, strict=True):
        axes.imshow(shown.image)
        axes.set_title(f"{shown.image_id}\n{shown.label or 'class not known'}", fontsize=9)
    for cells, row in zip(grid[1:], rows, strict=True):
        scale = Normalize(float(row.maps.min()), float(row.maps.max()))
        cells[0].set_ylabel(fold(row.name, _ROW_LETTERS // columns), **ROW_NAME)
        for axes, shown, small, score in zip(cells, images, row.maps, row.scores, strict=True):
            axes.imshow(PillowImage.fromarray(shown.image).convert("L"), cmap="gray")
            over = resize_map(small, *shown.image.shape[:2])
            axes.imshow(over, cmap=_COLOURS, norm=scale, alpha=_OPACITY)
            axes.set_title(f"score {score:.2f}", fontsize=9)
        bar = figure.colorbar(ScalarMappable(scale, _COLOURS), ax=cells, fraction=0.03, pad=0.01)
        bar.set_label("log-odds of\nmalignancy", fontsize=9)
        bar.ax.tick_params(labelsize=8.5)
    return encode(
        figure,
        name=name,
        title="Class activation maps",
        caption=(
            "The last feature maps weighted by the malignant row of the class head less the benign "
            "one, brought to the image's size; a map's mean plus a constant is the log-odds of "
            f"malignancy. One colour scale per network. {chosen}"
        ),
        basis=basis,
    )


@house_style
def draw_probability_maps(
    images: Sequence[ShownImage],
    rows: Sequence[ProbabilityRow],
    *,
    basis: Basis,
    chosen: str,
    name: str = "fig-12-probability-maps",
) -> Picture:
    """Returns each network's probability map of each image, with the histogram of its values.

    Args:
        images: One or more; each takes a row.
        rows: One or more networks, the fusion last; each takes a column.
        basis: Which images they were chosen from.
        chosen: By which rule, a sentence.
        name: Of the file.

    Raises:
        DataError: There is no image or no network, or a map is missing.

    Paper:
        Fig. 12.
    """
    require(images, "images")
    require(rows, "networks")
    for row in rows:
        require_equal([len(images), len(row.maps)], f"images and maps of {row.name}")
    columns = 1 + len(rows)
    figure = new_figure(1.2 + len(images) * (6.0 / columns + 1.1))
    grid = grid_of(figure, 2 * len(images), columns, height_ratios=[3, 1] * len(images))
    for index, shown in enumerate(images):
        upper, lower = grid[2 * index], grid[2 * index + 1]
        _draw_image(upper[0], shown)
        lower[0].remove()
        for axes, below, row in zip(upper[1:], lower[1:], rows, strict=True):
            heading = fold(row.name, 100 // columns) if index == 0 else ""
            _draw_probability(axes, below, row.maps[index], shown.truth, heading)
        lower[1].set_ylabel("pixels", fontsize=9)
    scale = ScalarMappable(Normalize(0, 1), _COLOURS)
    bar = figure.colorbar(
        scale, ax=[axes for cells in grid for axes in cells[1:]], fraction=0.02, pad=0.01
    )
    bar.set_label("probability of lesion")
    if any(shown.truth is not None for shown in images):
        figure.legend(handles=contour_keys(), loc="outside upper right", ncols=2)
    return encode(
        figure,
        name=name,
        title="Probability maps",
        caption=(
            "The predicted contour is drawn at 0.5. Below each map the pixels by probability, on "
            f"a logarithmic axis. {chosen}"
        ),
        basis=basis,
    )


def _draw_image(axes: Axes, shown: ShownImage) -> None:
    hide(axes)
    axes.imshow(shown.image)
    draw_contour(axes, shown.truth, colour=TRUTH, dashes="-")
    axes.set_title("\n".join(filter(None, (shown.image_id, shown.label))), fontsize=9.5)


def _draw_probability(
    axes: Axes, below: Axes, values: Map, truth: Mask | None, heading: str
) -> None:
    hide(axes)
    axes.imshow(values, cmap=_COLOURS, vmin=0, vmax=1)
    draw_contour(axes, truth, colour=TRUTH, dashes="-")
    draw_contour(axes, values >= 0.5, colour=PREDICTED, dashes="--")
    axes.set_title(heading)
    below.hist(values.ravel(), bins=_BINS, range=(0, 1), color=BLUE, log=True)
    below.axvline(0.5, color=INK, linewidth=1, linestyle=":")
    below.set(xlim=(0, 1), xticks=[0, 0.5, 1], ylim=(1, 2 * values.size))
    below.tick_params(labelsize=8.5)
