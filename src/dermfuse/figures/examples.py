"""Images chosen by rule, with what was predicted over them: Figs. 12, 13 and 14."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.figures.curves import basis_of
from dermfuse.figures.hardness import RULES
from dermfuse.figures.sources import (
    ScoredNetwork,
    SegmentedNetwork,
    Sources,
    even_ranks,
    is_fusion,
    name_of,
    shrunk,
    shrunk_mask,
    without_members,
)
from dermfuse.figures.style import (
    BLUE,
    INK,
    PREDICTED,
    ROW_NAME,
    TRUTH,
    Basis,
    encode,
    fold,
    hide,
    house_style,
    new_figure,
)
from dermfuse.imaging.outlines import outline
from dermfuse.imaging.preprocess import read_probability, resize_probability
from dermfuse.predictions.folder import Predictions
from dermfuse.report.page import Picture

Mask = NDArray[np.bool_]
Map = NDArray[np.float32]

MEASURED_PX = 256
"""Longer side at which hardness is measured; a smaller image keeps its size."""

_HARD_PER_RULE = 4
_WORST = 8
_WORST_ACROSS = 4
_WRONG = 4
_MAPPED_IMAGES = 4
_COLOURS = "viridis"
_BINS = 32
_ROW_LETTERS = 80  # of a row of one image; more images are lower
_CONTOURS: tuple[dict[str, Any], ...] = (
    {"label": "true", "color": TRUTH, "linestyle": "-"},
    {"label": "predicted", "color": PREDICTED, "linestyle": "--"},
)
_HALO: list[AbstractPathEffect] = [withStroke(linewidth=3.2, foreground="white")]

Hardness = Mapping[str, Mapping[str, float]]
"""Rule, image id to the rule's number; images that a rule cannot measure are not there."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One image of a figure.

    Args:
        image: (H, W, 3) RGB, or a map in [0, 1], (H, W).
        lines: What stands above it.
        truth: The true mask, where contours are drawn. (H, W)
        predicted: The predicted mask, where contours are drawn. (H, W)
    """

    image: NDArray[np.uint8] | Map
    lines: Sequence[str]
    truth: Mask | None = None
    predicted: Mask | None = None


Row = tuple[str, Sequence[Panel]]
"""What panels have in common, and the panels from the left."""


def measure_hardness(sources: Sources, networks: Sequence[SegmentedNetwork]) -> Hardness:
    """Returns every rule's number of each image that a network outlines, by its true mask.

    Raises:
        ImageError: A file cannot be read.
    """
    table: dict[str, dict[str, float]] = {rule.name: {} for rule in RULES}
    for image_id in sorted({image_id for each in networks for image_id in each.agreement}):
        image = shrunk(sources.lesions[image_id], MEASURED_PX)
        mask = shrunk_mask(sources.truth.masks[image_id], image)
        for rule in RULES:
            try:
                table[rule.name][image_id] = rule.measure(image, mask)
            except DataError:  # a mask that is empty or the whole frame has no border
                continue
    return table


def draw_hard_images(sources: Sources, network: SegmentedNetwork, hardness: Hardness) -> Picture:
    """Returns Fig. 13: the contours on the images that are hardest by each rule.

    Raises:
        DermfuseError: An image cannot be read, or no rule applies to any.
    """
    rows: list[Row] = []
    for rule in RULES:
        numbers = {i: n for i, n in hardness[rule.name].items() if i in network.agreement}
        panels = [
            _contours(sources, network, image_id, f"{rule.number} {numbers[image_id]:.3g}")
            for image_id in rule.hardest(numbers, _HARD_PER_RULE)
        ]
        rows.append((rule.name, panels))
    without = [rule for rule, panels in rows if not panels]
    values = {"wanted": _HARD_PER_RULE, "pixels": MEASURED_PX, "without": without}
    return draw_panels(rows, _basis(network), "hard_images", **values)


def draw_worst_masks(sources: Sources, network: SegmentedNetwork) -> Picture:
    """Returns Fig. 14 (a): the images with the lowest Jaccard.

    Raises:
        DermfuseError: An image cannot be read, or there is none.
    """
    worst = sorted(network.agreement, key=network.agreement.__getitem__)[:_WORST]
    panels = [_contours(sources, network, image_id) for image_id in worst]
    rows = [
        ("" if first else "lowest Jaccard", panels[first : first + _WORST_ACROSS])
        for first in range(0, len(panels), _WORST_ACROSS)
    ]
    return draw_panels(rows, _basis(network), "worst_masks", images=len(panels))


def draw_wrong_classes(sources: Sources, networks: Sequence[ScoredNetwork]) -> Picture:
    """Returns Fig. 14 (b): the images that each network is surest and wrong about.

    Raises:
        DermfuseError: An image cannot be read, or no image is classified wrongly.
    """
    networks = without_members(networks)
    rows: list[Row] = []
    for network in networks:
        before = f"{network.name}: " if len(networks) > 1 else ""
        wrong = (network.scores > network.threshold) != network.malignant
        for words, of_class, sign in (
            ("melanoma missed", network.malignant, 1),
            ("false alarm", ~network.malignant, -1),
        ):
            surest = [
                (network.image_ids[index], network.scores[index])
                for index in np.argsort(sign * network.scores, kind="stable").tolist()
                if (wrong & of_class)[index] and network.image_ids[index] in sources.lesions
            ][:_WRONG]
            panels = [
                Panel(shrunk(sources.lesions[image_id]), (image_id, f"score {score:.3f}"))
                for image_id, score in surest
            ]
            rows.append((before + words, panels))
    thresholds = sorted({f"{network.threshold:.3g}" for network in networks})
    return draw_panels(rows, basis_of(networks), "wrong_classes", thresholds=thresholds)


@house_style
def draw_panels(rows: Sequence[Row], basis: Basis, words: str, **values: object) -> Picture:
    """Returns rows of images, with the true contour in red and the predicted one in blue.

    The true contour is a solid line and the predicted one is dashed, so that they can be
    distinguished without colour.

    Args:
        rows: What is shown; an empty row is left out.
        basis: Which images they were chosen from.
        words: What is said of them, as in ``encode``.
        **values: Its arguments.

    Raises:
        DataError: There is no image.

    Paper:
        Figs. 13 and 14: blue is predicted, red is true.
    """
    rows = [(row, panels) for row, panels in rows if panels]
    if not rows:
        raise DataError("no image is of this kind", expected="one or more")
    columns = max(len(panels) for _, panels in rows)
    lines = max(len(panel.lines) for _, panels in rows for panel in panels)
    figure = new_figure(0.9 + len(rows) * (7.2 / columns + 0.22 * lines))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        hide(axes)
    for cells, (row, panels) in zip(grid, rows, strict=True):
        cells[0].set_ylabel(fold(row, _ROW_LETTERS // columns), **ROW_NAME)
        for axes, panel in zip(cells, panels, strict=False):
            draw_panel(axes, panel)
    if any(panel.truth is not None for _, panels in rows for panel in panels):
        _add_legend(figure)
    return encode(figure, basis, words, **values)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draws one image, its contours and its lines."""
    hide(axes)
    axes.imshow(panel.image, cmap=_COLOURS, vmin=0, vmax=1)
    for mask, look in zip((panel.truth, panel.predicted), _CONTOURS, strict=True):
        if mask is not None:
            draw_contour(axes, mask, look)
    axes.set_title("\n".join(panel.lines), fontsize=9.5)


def draw_contour(axes: Axes, mask: Mask, look: Mapping[str, Any]) -> None:
    """Draws the outline of a mask, closed at the frame, with a white halo."""
    for ring in outline(mask):
        x, y = np.array([*ring, ring[0]]).T - 0.5  # a pixel's centre is half a pixel from its edge
        style = {**look, "linewidth": 1.7, "path_effects": _HALO}
        axes.plot(x, y, scalex=False, scaley=False, **style)


def mapped_networks(sources: Sources) -> list[list[Predictions]]:
    """Returns the networks with probability maps, by split.

    Raises:
        DataError: There is no map.
    """
    by_split: dict[str, list[Predictions]] = {}
    for predictions in sources.predictions:
        if predictions.probabilities:
            by_split.setdefault(predictions.manifest.split, []).append(predictions)
    if not by_split:
        raise DataError(
            "no predictions folder holds probability maps",
            expected="probabilities/*.png",
            action="Predict with: dermfuse predict --probabilities",
        )
    return list(by_split.values())


@house_style
def draw_probability_maps(sources: Sources, networks: Sequence[Predictions]) -> Picture:
    """Returns Fig. 12: each network's map of each image, with the histogram of its values.

    Two networks without their fusion are shown with their mean.

    Args:
        sources: With the photographs, and the true masks where there are any.
        networks: One or more, of one split; each takes a column, fusions to the right.

    Raises:
        DermfuseError: There is no image in common, or one cannot be read.
    """
    networks = sorted(networks, key=is_fusion)
    common = set.intersection(*(set(p.probabilities) for p in networks)) & sources.lesions.keys()
    if not common:
        raise DataError("the networks predict no photograph in common", expected="one or more")
    chosen = [sorted(common)[rank] for rank in even_ranks(len(common), _MAPPED_IMAGES)]
    shown = [_mapped(sources, networks, image_id) for image_id in chosen]
    names = [name_of(network) for network in networks]
    names += ["fusion: mean of both"] * (len(shown[0][1]) - len(names))
    columns = 1 + len(names)
    figure = new_figure(1.2 + len(chosen) * (6.0 / columns + 1.1))
    heights = [3, 1] * len(chosen)
    grid = figure.subplots(2 * len(chosen), columns, squeeze=False, height_ratios=heights)
    for upper, lower, (photograph, maps) in zip(grid[::2], grid[1::2], shown, strict=True):
        draw_panel(upper[0], photograph)
        lower[0].remove()
        for axes, below, values in zip(upper[1:], lower[1:], maps, strict=True):
            draw_panel(axes, Panel(values, (), photograph.truth, values >= 0.5))
            _draw_histogram(below, values)
        lower[1].set_ylabel("pixels", fontsize=9)
    for axes, heading in zip(grid[0, 1:], names, strict=True):
        axes.set_title(fold(heading, 100 // columns))
    scale = ScalarMappable(Normalize(0, 1), _COLOURS)
    bar = figure.colorbar(scale, ax=list(grid[:, 1:].flat), fraction=0.02, pad=0.01)
    bar.set_label("probability of lesion")
    if any(photograph.truth is not None for photograph, _ in shown):
        _add_legend(figure)
    basis = Basis(networks[0].manifest.split, len(common), tuple(names))
    return encode(figure, basis, "probability_maps", images=len(chosen))


def _add_legend(figure: Figure) -> None:
    keys = [Line2D([], [], **look) for look in _CONTOURS]
    figure.legend(handles=keys, loc="outside upper right", ncols=2)


def _mapped(
    sources: Sources, networks: Sequence[Predictions], image_id: str
) -> tuple[Panel, list[Map]]:
    """Returns an image and its maps; of two networks without their fusion also the mean."""
    image = shrunk(sources.lesions[image_id])
    mask = sources.truth.masks.get(image_id)
    maps = [
        resize_probability(read_probability(p.probabilities[image_id]), *image.shape[:2])
        for p in networks
    ]
    if len(maps) == 2 and not any(map(is_fusion, networks)):
        maps.append((maps[0] + maps[1]) / np.float32(2))
    return Panel(image, (image_id,), shrunk_mask(mask, image) if mask else None), maps


def _draw_histogram(axes: Axes, values: Map) -> None:
    axes.hist(values.ravel(), bins=_BINS, range=(0, 1), color=BLUE, log=True)
    axes.axvline(0.5, color=INK, linewidth=1, linestyle=":")
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], ylim=(1, 2 * values.size))
    axes.tick_params(labelsize=8.5)


def _contours(sources: Sources, network: SegmentedNetwork, image_id: str, line: str = "") -> Panel:
    image = shrunk(sources.lesions[image_id])
    lines = [image_id, f"Jaccard {network.agreement[image_id]:.3f}", line]
    return Panel(
        image,
        tuple(filter(None, lines)),
        truth=shrunk_mask(sources.truth.masks[image_id], image),
        predicted=shrunk_mask(network.predictions.masks[image_id], image),
    )


def _basis(network: SegmentedNetwork) -> Basis:
    split = network.predictions.manifest.split
    return Basis(split, len(network.agreement), (network.name,))
