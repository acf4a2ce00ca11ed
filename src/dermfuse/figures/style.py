"""One look for every figure: colours, line styles, sizes, the notice below, and the PNG.

Figures have no ground of their own, and ink that reads on a white page and on a dark one.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; whatever a colour says is
said by a line style, a marker or a word as well. Figures are drawn on Matplotlib's ``Figure``
alone: no window, no state shared between figures.
"""

import io
import textwrap
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dermfuse.errors import DataError
from dermfuse.folders import NOTICE
from dermfuse.report.page import Picture

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Okabe and Ito's colours without yellow and black, which a white or a dark page swallows."""
TRUTH, PREDICTED = "red", "#2F6BFF"
"""Contours, red and blue as in the paper's Figs. 13 and 14."""
INK = "#7B7B7B"
"""Of text and axes: contrast 4.2 on white and on the dark page alike."""

WIDTH_IN = 10.0
"""Of every figure."""
DPI = 120
TEXT_PT = 11

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SHORT_NOTICE = NOTICE.partition(":")[0] + "."

house_style = rc_context(
    {
        "font.family": ["DejaVu Sans"],
        "font.size": TEXT_PT,
        "axes.titlesize": TEXT_PT,
        "axes.labelsize": TEXT_PT,
        "xtick.labelsize": TEXT_PT - 1.5,
        "ytick.labelsize": TEXT_PT - 1.5,
        "legend.fontsize": TEXT_PT - 1.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": INK,
        "grid.alpha": 0.3,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.facecolor": "none",
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.axisbelow": True,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
    }
)
"""Decorates every function that draws."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a figure stands on; its caption ends with it.

    Args:
        split: The images' split, or a few words in its place.
        images: How many.
        networks: Who predicted, or was trained.
        malignant: How many of the images are malignant, where that is known.
    """

    split: str
    images: int
    networks: tuple[str, ...]
    malignant: int | None = None

    def sentence(self) -> str:
        """Returns the basis in words.

        Example:
            >>> Basis("validation", 178, ("a", "b"), malignant=34).sentence()
            'validation: n = 178 images (34 malignant); a; b.'
        """
        malignant = "" if self.malignant is None else f" ({self.malignant} malignant)"
        split = self.split or "split not stated"
        return f"{split}: n = {self.images} images{malignant}; {'; '.join(self.networks)}."


def line_style(index: int) -> dict[str, Any]:
    """Returns colour, dashes and marker of line number ``index``; none of 30 looks like another.

    Example:
        >>> line_style(0)["color"], line_style(6)["color"], line_style(6)["linestyle"]
        ('#0072B2', '#0072B2', '-.')
    """
    turn = index // len(PALETTE)
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": _DASHES[(index + turn) % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)],
    }


def new_figure(height_in: float) -> Figure:
    """Returns an empty figure of the house's width."""
    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")


def grid_of(figure: Figure, rows: int, columns: int, **options: Any) -> list[list[Axes]]:  # noqa: ANN401 — Matplotlib's own
    """Returns rows of axes; ``options`` as for ``Figure.subplots``."""
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return [[axes[row, column] for column in range(columns)] for row in range(rows)]


def columns_for(count: int, *, most: int = 3) -> int:
    """Returns how many panels stand beside each other: at most three, and two for four.

    Example:
        >>> [columns_for(count) for count in (1, 2, 3, 4, 5)]
        [1, 2, 3, 2, 3]
    """
    return 2 if count == 4 and most == 3 else min(count, most)


def panel_pairs(
    figure: Figure, count: int, *, heights: tuple[float, float]
) -> list[tuple[Axes, Axes]]:
    """Returns an upper and a lower panel for each of ``count`` networks, row by row.

    Args:
        figure: An empty one.
        count: How many pairs, 1 or more.
        heights: Of the upper and the lower panels, to each other.
    """
    across = columns_for(count)
    down = -(-count // across)
    grid = grid_of(figure, 2 * down, across, height_ratios=[*heights] * down)
    pairs = [
        (grid[2 * row][column], grid[2 * row + 1][column])
        for row in range(down)
        for column in range(across)
    ]
    for upper, lower in pairs[count:]:
        upper.remove()
        lower.remove()
    return pairs[:count]


def hide(axes: Axes) -> None:
    """Takes ticks, grid and frame away, so that axes hold an image or nothing; text stays."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def fold(text: str, letters: int) -> str:
    r"""Returns text broken into lines of at most so many letters.

    Example:
        >>> fold("fusion of a and b", 10)
        'fusion of\na and b'
    """
    return "\n".join(textwrap.wrap(text, letters, break_on_hyphens=False)) or text


def require(items: Sized, what: str) -> None:
    """Refuses to draw nothing.

    Args:
        items: What would be drawn.
        what: The same in words, in the plural.

    Raises:
        DataError: If there are none.
    """
    if not len(items):
        raise DataError(f"there are no {what} to draw", expected="one or more")


def require_equal(lengths: Sequence[int], what: str) -> None:
    """Refuses columns of different lengths.

    Raises:
        DataError: If they differ.
    """
    if len(set(lengths)) > 1:
        raise DataError(
            f"{what} of lengths {', '.join(map(str, lengths))}", expected="equal lengths"
        )


def encode(figure: Figure, *, name: str, title: str, caption: str, basis: Basis) -> Picture:
    """Returns a drawn figure with the notice below it, as a PNG.

    Title and caption are words, for whoever shows the picture; the PNG's metadata hold them too.

    Args:
        figure: As ``new_figure`` made it.
        name: The file's name without its ending.
        title: One line.
        caption: What is seen; the basis is added to it.
        basis: What it stands on.
    """
    figure.supxlabel(_SHORT_NOTICE, x=0.01, ha="left", fontsize=TEXT_PT - 2.5)
    said = f"{caption} {basis.sentence()}"
    file = io.BytesIO()
    metadata = {"Software": None, "Title": title, "Description": f"{said} {NOTICE}"}
    figure.savefig(file, format="png", dpi=DPI, metadata=metadata)
    return Picture(name, title, said, file.getvalue())
