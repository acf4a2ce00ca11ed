"""Training curves: Figs. 8 and 11."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.figures.style import (
    INK,
    Basis,
    columns_for,
    encode,
    fold,
    house_style,
    line_style,
    new_figure,
    panel_pairs,
    require,
)
from dermfuse.report import Picture

Values = NDArray[np.float64]

_FEW_EPOCHS = 15  # up to here each epoch is marked
_LOSSES = {"train_loss": "training", "validation_loss": "validation"}
_NAMES = {"average_precision": "AP", "auc": "AUC", "jaccard": "Jaccard", "dice": "Dice"}


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """How one training went.

    Args:
        name: The network.
        epochs: From 1. (E,)
        columns: What was measured after each epoch, by its name in ``metrics.csv``; NaN where
            it was not. (E,) each
        metrics: The columns that tell how well it does, the one the epoch is chosen by first;
            ``train_`` and the name is the same on training images, where it was measured.
    """

    name: str
    epochs: Values
    columns: Mapping[str, Values]
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        needed = [*_LOSSES, self.metrics[0]]
        if missing := [name for name in needed if name not in self.columns]:
            raise DataError(
                f"the history of {self.name} has no column {', '.join(missing)}",
                expected=f"the columns {', '.join(needed)}",
            )
        if np.isnan(self.columns[self.metrics[0]]).all():
            raise DataError(
                f"{self.metrics[0]} of {self.name} was measured after no epoch",
                expected="a number for one epoch or more",
            )

    @property
    def best_epoch(self) -> float:
        """The epoch with the highest metric; the earliest of equals."""
        return float(self.epochs[np.nanargmax(self.columns[self.metrics[0]])])


@house_style
def draw_training_curves(
    histories: Sequence[History], *, name: str, title: str, basis: Basis
) -> Picture:
    """Returns loss and metrics over the epochs, a pair of panels per network.

    Args:
        histories: One or more, of one task.
        name: Of the file.
        title: Of the figure.
        basis: How many images each was validated on.

    Raises:
        DataError: There is no history.

    Paper:
        Figs. 8 and 11 show the losses alone.
    """
    require(histories, "training histories")
    across = columns_for(len(histories))
    down = -(-len(histories) // across)
    figure = new_figure(5.6 * down + 0.6)
    pairs = panel_pairs(figure, len(histories), heights=(1, 1))
    lowest = _lowest_metric(histories)
    for (upper, lower), history in zip(pairs, histories, strict=True):
        upper.set_title(fold(history.name, 100 // across))
        _draw_lines(upper, history, _LOSSES)
        upper.set_ylabel("loss")
        upper.set_ylim(0, 1.08 * _highest_loss(histories))
        _draw_lines(lower, history, _metric_lines(history))
        lower.set_ylabel("metric")
        lower.set_ylim(lowest, 1.02)
        lower.set_xlabel("epoch")
    has_training = any(f"train_{h.metrics[0]}" in h.columns for h in histories)
    caption = (
        "Loss and metrics after each epoch; the vertical line marks the epoch that is kept, the "
        f"best by validation {_NAMES.get(histories[0].metrics[0], histories[0].metrics[0])}."
    )
    if not has_training:
        caption += " These runs did not measure metrics on their training images."
    return encode(figure, name=name, title=title, caption=caption, basis=basis)


def _draw_lines(axes: Axes, history: History, lines: Mapping[str, str]) -> None:
    is_short = len(history.epochs) <= _FEW_EPOCHS
    for index, (column, label) in enumerate(lines.items()):
        style = line_style(index)
        if not is_short:
            style["marker"] = ""
        axes.plot(history.epochs, history.columns[column], label=label, markersize=5, **style)
    best = history.best_epoch
    axes.axvline(best, color=INK, linewidth=1, linestyle=":", zorder=0)
    first, last = history.epochs[0], history.epochs[-1]
    room = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best", handlelength=2.6)


def _metric_lines(history: History) -> dict[str, str]:
    """Returns the columns to draw and their names in the legend."""
    lines = {}
    for metric in history.metrics:
        for prefix, where in (("train_", "training"), ("", "validation")):
            if f"{prefix}{metric}" in history.columns:
                lines[f"{prefix}{metric}"] = f"{_NAMES.get(metric, metric)}, {where}"
    return lines


def _highest_loss(histories: Sequence[History]) -> float:
    losses = np.concatenate([h.columns[column] for h in histories for column in _LOSSES])
    return float(np.nanmax(losses))


def _lowest_metric(histories: Sequence[History]) -> float:
    """Returns where all panels' metric axes begin: a tenth at or below the lowest value."""
    values = np.concatenate([h.columns[name] for h in histories for name in _metric_lines(h)])
    return float(np.floor(np.nanmin(values) * 10 - 0.2) / 10)
