"""Line charts as inline SVG: no plotting package, no script, colours from the page's style.

A chart is told apart without colour too: each line has its own dash pattern, and the
legend shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

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
