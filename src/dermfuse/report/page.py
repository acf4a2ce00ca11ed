"""The page itself: numbers first, then tables, curves and example images.

An example image with the true and the predicted contour over it, as inline SVG.

Line charts as inline SVG: no plotting package, no script, colours from the page's style.

A chart is told apart without colour too: each line has its own dash pattern, and the
legend shows it.

ROC and precision-recall curves of scores, as lines of a chart.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from math import ceil, floor, log10

import numpy as np
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from dermfuse.folders import NOTICE
from dermfuse.imaging.outlines import contour_path

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


LINE_STYLES = 4
"""Lines the style sheet can tell apart."""

_WIDTH, _HEIGHT = 360, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 40
_LEGEND_LINE = 18


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line of a chart.

    Args:
        name: For the legend.
        x: (N,), in the order they are joined.
        y: (N,).
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """A chart of at most four lines.

    Args:
        title: What it shows.
        note: A sentence below it.
        x_label: With its unit.
        y_label: With its unit.
        series: The lines.
        unit_square: Whether both axes run from 0 to 1, as in ROC and precision-recall charts.
        reference: End points ``(x0, y0, x1, y1)`` of a grey line that means "by chance".
    """

    title: str
    note: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    unit_square: bool = False
    reference: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.series) <= LINE_STYLES:
            raise ValueError(f"{len(self.series)} lines. Expected: 1 to {LINE_STYLES}.")


@dataclass(frozen=True, slots=True)
class _Axis:
    """A scale from data to the SVG's pixels."""

    low: float
    high: float
    start_px: float
    end_px: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start_px + share * (self.end_px - self.start_px)


def draw_chart(chart: Chart) -> str:
    """Returns the chart as an ``<svg>`` element."""
    x_axis, y_axis = _axes(chart)
    height = _HEIGHT + 4 + _LEGEND_LINE * len(chart.series)
    label = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}", quote=True)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">',
        *_draw_grid(x_axis, y_axis),
        *_draw_labels(chart),
    ]
    if chart.reference:
        x0, y0, x1, y1 = chart.reference
        ends = [(x_axis.place(x), y_axis.place(y)) for x, y in ((x0, y0), (x1, y1))]
        parts.append(f'<path class="chance" d="{_path(ends)}"/>')
    for index, series in enumerate(chart.series):
        points = [
            (x_axis.place(x), y_axis.place(y))
            for x, y in zip(series.x.tolist(), series.y.tolist(), strict=True)
        ]
        parts.append(f'<path class="line line-{index}" d="{_path(points)}"/>')
        parts += _draw_legend_entry(index, series.name)
    return "".join([*parts, "</svg>"])


def _axes(chart: Chart) -> tuple[_Axis, _Axis]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    if chart.unit_square:
        ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        return _Axis(0, 1, _LEFT, right, ticks), _Axis(0, 1, bottom, _TOP, ticks)
    x_ticks = _round_ticks([value for series in chart.series for value in series.x.tolist()])
    y_ticks = _round_ticks([value for series in chart.series for value in series.y.tolist()])
    x_low = min(float(series.x.min()) for series in chart.series)
    x_high = max(float(series.x.max()) for series in chart.series)
    if x_low == x_high:  # one epoch: centre its point
        x_low, x_high = x_low - 1, x_high + 1
    shown = tuple(tick for tick in x_ticks if x_low <= tick <= x_high)
    return (
        _Axis(x_low, x_high, _LEFT, right, shown),
        _Axis(y_ticks[0], y_ticks[-1], bottom, _TOP, y_ticks),
    )


def _round_ticks(values: Sequence[float], count: int = 5) -> tuple[float, ...]:
    """Returns about ``count`` round numbers that enclose the values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return tuple(round(index * step, 10) for index in range(first, last + 1))


def _draw_grid(x_axis: _Axis, y_axis: _Axis) -> list[str]:
    left, right, bottom, top = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP
    parts = []
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        parts.append(f'<path class="grid" d="{_path([(left, y), (right, y)])}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">')
        parts.append(f"{tick:g}</text>")
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        parts.append(f'<path class="grid" d="{_path([(x, bottom), (x, top)])}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">')
        parts.append(f"{tick:g}</text>")
    parts.append(
        f'<path class="axis" d="{_path([(left, top), (left, bottom), (right, bottom)])}"/>'
    )
    return parts


def _draw_labels(chart: Chart) -> list[str]:
    middle_x = (_LEFT + _WIDTH - _RIGHT) / 2
    middle_y = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f'<text class="label" x="{middle_x}" y="{_HEIGHT - 8}" text-anchor="middle">',
        f"{escape(chart.x_label)}</text>",
        f'<text class="label" transform="translate(11 {middle_y}) rotate(-90)" '
        'text-anchor="middle">',
        f"{escape(chart.y_label)}</text>",
    ]


def _draw_legend_entry(index: int, name: str) -> list[str]:
    y = _HEIGHT + 8 + index * _LEGEND_LINE
    return [
        f'<path class="line line-{index}" d="{_path([(_LEFT, y), (_LEFT + 30, y)])}"/>',
        f'<text class="legend" x="{_LEFT + 38}" y="{y + 4}">{escape(name)}</text>',
    ]


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Returns the ``d`` of a polyline.

    A single point becomes a dot: a zero-length line with round caps.
    """
    (x, y), *rest = points
    return f"M{x:.1f} {y:.1f}" + "".join(f"L{x:.1f} {y:.1f}" for x, y in rest or points)


FACTS_TITLE = "How these numbers were made"
FIGURES_TITLE = "Figures"
IN_WORDS = "In words"
"""What a folded text is opened by."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A number at the head of the page.

    Args:
        name: What it is.
        value: As it is read, e.g. ``0.832``.
        interval: Its 95 % interval, e.g. ``0.776 to 0.881``, or empty.
        note: A few words on what was measured.
    """

    name: str
    value: str
    interval: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; the first column names the row.

    Args:
        title: What it shows.
        note: A sentence below it.
        columns: Heads, the first column's included.
        rows: As many cells each as there are heads; a cell is a value and its interval.
        strong_row: Index of the row that matters most, or None.
        paragraphs: What it means, in words; folded, below it.
        is_folded: Whether the rows are secondary, and shown on request.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]
    strong_row: int | None = None
    paragraphs: tuple[str, ...] = ()
    is_folded: bool = False

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")

    @property
    def anchor(self) -> str:
        """Where a link to it leads."""
        return anchor_of(self.title)


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """A drawn figure that is embedded.

    Args:
        title: One line above it.
        caption: What is seen.
        png: The encoded picture.
    """

    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, slots=True)
class Page:
    """Everything a page shows.

    Args:
        title: Its heading.
        lead: One or two sentences: what was done, on what.
        findings: The numbers at its head.
        tables: The metrics.
        charts: The curves.
        examples: Images with contours.
        examples_note: How they were chosen.
        facts: Names and values that a number must state: versions, seed, commit, seconds.
        plates: Drawn figures.
        summary: Tables that a reader looks for first; the contents stand below them.
    """

    title: str
    lead: str
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    examples: tuple[Example, ...]
    examples_note: str
    facts: tuple[tuple[str, str], ...]
    plates: tuple[Plate, ...] = ()
    summary: tuple[Table, ...] = ()

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """Titles of what stands below the summary, each with its anchor."""
        titles = [table.title for table in self.tables]
        titles += [FIGURES_TITLE] if self.plates else []
        return tuple((title, anchor_of(title)) for title in (*titles, FACTS_TITLE))


def anchor_of(title: str) -> str:
    """Returns the anchor of a heading, as renderers of Markdown make it.

    Example:
        >>> anchor_of("Table III: Classification baselines")
        'table-iii-classification-baselines'
    """
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def render_page(page: Page) -> str:
    """Returns the page as one HTML document that loads nothing from anywhere."""
    folder = resources.files("dermfuse.report")
    environment = Environment(
        loader=DictLoader({"page.html": (folder / "page.html").read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        page=page,
        anchor_of=anchor_of,
        in_words=IN_WORDS,
        facts_title=FACTS_TITLE,
        figures_title=FIGURES_TITLE,
        notice=NOTICE,
        # Our own files and drawings, which escape what they are given, not the user's text.
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        charts=[(chart, Markup(draw_chart(chart))) for chart in page.charts],  # noqa: S704
        examples=[(example, Markup(draw_overlay(example))) for example in page.examples],  # noqa: S704
    )


def roc_series(name: str, malignant: NDArray[np.bool_], scores: NDArray[np.float64]) -> Series:
    """Returns sensitivity over 1 - specificity, from the highest threshold to the lowest.

    The area under the line is the AUC: images of equal score are joined by a straight line.

    Args:
        name: For the legend.
        malignant: Labels, both classes among them. (N,)
        scores: Higher means more likely malignant. (N,)
    """
    found, called = _found_and_called(malignant, scores)
    false = called - found
    return Series(name, _from_zero(false / false[-1]), _from_zero(found / found[-1]))


def precision_recall_series(
    name: str, malignant: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Series:
    """Returns precision over sensitivity; the area under its steps is the average precision.

    Args:
        name: For the legend.
        malignant: Labels, at least one malignant. (N,)
        scores: Higher means more likely malignant. (N,)
    """
    found, called = _found_and_called(malignant, scores)
    precision, recall = found / called, found / found[-1]
    # Average precision weighs a gain of recall by the precision at its end: the step to a recall
    # is drawn at that height, so each precision stands from the recall before.
    start = np.concatenate([[0.0], recall[:-1]])
    return Series(
        name,
        np.stack([start, recall], axis=1).ravel(),
        np.repeat(precision, 2),
    )


def _found_and_called(
    malignant: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns how many malignant images are found and how many called, at each threshold."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(malignant[order])[last_of_tie]
    return found.astype(np.float64), (last_of_tie + 1).astype(np.float64)


def _from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], values])
