"""One look for every figure: colours, line styles, sizes, the notice below, and the PNG.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; whatever a colour says is
said by a line style, a marker or a word as well. Figures are drawn on Matplotlib's ``Figure``
alone: no window, no state shared between figures.
"""

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dermfuse.records.folders import NOTICE
from dermfuse.report.page import Picture, template

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Okabe and Ito's colours without yellow and black, which a white or a dark page swallows."""
TRUTH, PREDICTED = "red", "#2F6BFF"
"""Contours, red and blue as in the paper's Figs. 13 and 14."""
INK = "#7B7B7B"
"""Colour of text and axes, as in ``house.mplstyle``."""
DOTS = (0, (1, 2))
"""Dashes of what a curve is held against: chance, no treatment, perfect calibration."""

ROW_NAME: dict[str, Any] = {"fontweight": "bold", "fontsize": 9.5}
"""How the name of a row of images is written beside it."""

WIDTH_IN = 10.0
"""Width of every figure."""
DPI = 120

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SHORT_NOTICE = NOTICE.partition(":")[0] + "."

house_style = rc_context(fname=Path(__file__).parent / "templates/house.mplstyle")
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


def panel_grid(count: int) -> tuple[int, int]:
    """Returns in how many rows and columns panels stand: at most three columns, two for four.

    Example:
        >>> [panel_grid(count) for count in (1, 2, 3, 4, 5)]
        [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)]
    """
    across = 2 if count == 4 else min(count, 3)
    return -(-count // across), across


def panel_pairs(
    figure: Figure, count: int, *, heights: tuple[float, float]
) -> list[tuple[Axes, Axes]]:
    """Returns an upper and a lower panel for each of ``count`` networks, row by row.

    Args:
        figure: An empty one.
        count: How many pairs, 1 or more.
        heights: Heights of the upper and the lower panels, relative to each other.
    """
    down, across = panel_grid(count)
    grid = figure.subplots(2 * down, across, squeeze=False, height_ratios=[*heights] * down)
    pairs = list(zip(grid[::2].flat, grid[1::2].flat, strict=True))
    for pair in pairs[count:]:
        for axes in pair:
            axes.remove()
    return pairs[:count]


def hide(axes: Axes) -> None:
    """Takes ticks, grid and frame away, so that axes hold an image or nothing; text stays."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def fold(text: str, letters: int) -> str:
    r"""Returns text broken into lines of at most so many letters.

    Example:
        >>> fold("fusion of a and b", 10)
        'fusion of\na and b'
    """
    return "\n".join(textwrap.wrap(text, letters, break_on_hyphens=False)) or text


def encode(figure: Figure, basis: Basis, words: str, **values: object) -> Picture:
    """Returns a drawn figure with the notice below it, as a PNG.

    Title and caption are words, for whoever shows the picture; the PNG's metadata hold them too.

    Args:
        figure: As ``new_figure`` made it.
        basis: What it stands on; the caption ends with it.
        words: The macro of ``templates/captions.txt`` that says what is seen.
        **values: Its arguments.
    """
    figure.supxlabel(_SHORT_NOTICE, x=0.01, ha="left", fontsize=8.5)
    said = getattr(template("figures", "captions.txt").module, words)(**values)
    name, title, *lines = said.strip().splitlines()
    caption = " ".join([*" ".join(lines).split(), basis.sentence()])
    file = io.BytesIO()
    metadata = {"Software": None, "Title": title, "Description": f"{caption} {NOTICE}"}
    figure.savefig(file, format="png", dpi=DPI, metadata=metadata)
    return Picture(name, title, caption, file.getvalue())
