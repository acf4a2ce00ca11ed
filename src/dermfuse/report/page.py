"""One page: numbers first, then tables and figures, as HTML that loads nothing or as Markdown.

Words and layout stand in templates, each room's in its folder ``templates``; what a room hands to
them are numbers. A room's page may extend ``base.html``, which brings style, head and notice.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import (
    ChoiceLoader,
    Environment,
    PackageLoader,
    StrictUndefined,
    Template,
    select_autoescape,
)

from dermfuse.errors import DataError
from dermfuse.records.folders import NOTICE, write_text

FACTS_TITLE = "How these numbers were made"


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure, ready for a page or a file.

    Args:
        name: The file's name without its ending, such as ``fig-09-activation-maps``.
        title: One line above it.
        caption: What is seen, from which runs, on which images, how many.
        png: The encoded picture.
    """

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; the first column names the row.

    Args:
        title: What it shows.
        note: A sentence below it.
        columns: Heads, the first column's included.
        rows: As many cells each as there are heads; what stands below a cell's first line, such
            as an interval, is written small.
        strong_row: Index of the row that matters most, or None.
        paragraphs: What it means, in words; folded, below it.
        is_folded: Whether the rows are secondary, and shown on request.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong_row: int | None = None
    paragraphs: tuple[str, ...] = ()
    is_folded: bool = False

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")


@dataclass(frozen=True, slots=True)
class Page:
    """Everything a page shows.

    Args:
        title: Its heading.
        lead: One or two sentences: what was done, on what.
        tables: The metrics.
        facts: Names and values that a number must state: versions, seed, commit, seconds.
        findings: What stands at its head: name, value and a few words on what was measured.
        summary: Tables that a reader looks for first; the contents stand below them.
        pictures: Drawn figures; in Markdown they are left out.
    """

    title: str
    lead: str
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, str], ...]
    findings: tuple[tuple[str, str, str], ...] = ()
    summary: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def contents(self) -> tuple[str, ...]:
        """Titles of what stands below the summary."""
        figures = ["Figures"] if self.pictures else []
        return (*(table.title for table in self.tables), *figures, FACTS_TITLE)


def render_page(page: Page) -> str:
    """Returns the page as one HTML document that loads nothing from anywhere."""
    return template("report", "page.html").render(page=page)


def render_markdown(page: Page) -> str:
    """Returns the page as Markdown, for the documents of a repository."""
    return template("report", "page.md").render(page=page)


@cache
def template(room: str, name: str) -> Template:
    """Returns a template of a room; what ends in ``.html`` escapes what it is given.

    Args:
        room: A package of dermfuse with a folder ``templates``.
        name: A file of it.
    """
    rooms = dict.fromkeys((room, "report"))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(f"dermfuse.{each}", "templates") for each in rooms]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"anchor": anchor_of, "to": _format}
    environment.globals |= {
        "notice": NOTICE,
        "facts_title": FACTS_TITLE,
        "markdown_table": markdown_table,
    }
    return environment.get_template(name)


def say(words: Template, sentence: str, **values: object) -> str:
    """Returns what a macro of a template says, on one line.

    Args:
        words: The template, such as ``template("reproduction", "words.txt")``.
        sentence: Name of the macro.
        **values: Its arguments.
    """
    return " ".join(getattr(words.module, sentence)(**values).split())


def anchor_of(title: str) -> str:
    """Returns the anchor of a heading, as renderers of Markdown make it.

    Example:
        >>> anchor_of("Table III: Classification baselines")
        'table-iii-classification-baselines'
    """
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Returns a table; a bar in a cell is escaped, a new line becomes ``<br>``.

    Args:
        columns: Heads.
        rows: As many cells each as there are heads.

    Example:
        >>> print(markdown_table(("name", "value"), [("a|b", "1")]))
        | name | value |
        | --- | --- |
        | a\|b | 1 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def replace_block(page: Path, name: str, text: str) -> None:
    """Replaces what stands in a page between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    Raises:
        DataError: The page is missing or has no such place.
        StorageError: It cannot be written.
    """
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        whole = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{page} cannot be read ({error})", expected="a page in Markdown"
        ) from error
    before, begin, rest = whole.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise DataError(
            f"{page} has no place for this table",
            expected=f"the lines {first} and {last}",
            action="Add them",
        )
    write_text(page, f"{before}{first}\n{text}\n{last}{after}")


def _format(value: object, spec: str) -> str:
    if isinstance(value, StrictUndefined):
        str(value)  # raises UndefinedError, which names it; Python's format would not
    return format(value, spec)
