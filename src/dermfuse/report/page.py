"""The page itself: numbers first, then tables, curves and example images."""

import base64
import re
from dataclasses import dataclass
from importlib import resources

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from dermfuse.report.chart import Chart, draw_chart
from dermfuse.report.overlay import Example, draw_overlay
from dermfuse.runs import NOTICE

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
