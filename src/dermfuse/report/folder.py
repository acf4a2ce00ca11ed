"""The pages of a folder's results: counts, then one row per image: withheld, then by suspicion.

A page loads nothing, links nowhere and runs no script; thumbnails are embedded.

Tables in Markdown, and the places in a page where they stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from dermfuse.errors import DataError
from dermfuse.folders import NOTICE, write_text
from dermfuse.report import words

PAGE_ROWS = 1000
"""Images on a page: with thumbnails a few megabytes, which every browser opens."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of the table.

    Args:
        name: Of the image.
        probability: Of melanoma, 0 to 1; None where it was withheld.
        predicted: ``malignant``, ``benign`` or ``withheld``.
        area_fraction: The lesion share of the frame, 0 to 1; None where it is not known.
        flags: What to be careful about, in words.
        details: Names and values of further measures.
        thumbnail: A JPEG in base64, with or without ``data:image/jpeg;base64,``; or empty.
    """

    name: str
    probability: float | None
    predicted: str
    area_fraction: float | None
    flags: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    thumbnail: str = ""

    @property
    def uri(self) -> str:
        """The thumbnail as a ``data:`` address, or empty."""
        start = "data:image/jpeg;base64,"
        return self.thumbnail and start + self.thumbnail.removeprefix(start)


@dataclass(frozen=True, slots=True)
class FolderSummary:
    """What stands at the head of every page.

    Args:
        malignant: Images called malignant.
        benign: Images called benign.
        withheld: Images on which no call was made.
        flagged: Images with at least one flag.
        failed: Images that could not be analysed.
        errors: Names and reasons of the first of them, for the first page.
        facts: Names and values that a number must state.
    """

    malignant: int
    benign: int
    withheld: int
    flagged: int
    failed: int
    errors: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def analysed(self) -> int:
        """Images that were analysed."""
        return self.malignant + self.benign + self.withheld

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Names and numbers at the head; zeros of rare things are left out."""
        counts = (
            ("images analysed", self.analysed),
            ("withheld", self.withheld),
            ("called malignant", self.malignant),
            ("called benign", self.benign),
            ("with a flag", self.flagged),
            ("not analysed", self.failed),
        )
        rare = ("withheld", "with a flag", "not analysed")
        return tuple((name, count) for name, count in counts if count or name not in rare)


@dataclass(frozen=True, slots=True)
class FolderPage:
    """One page.

    Args:
        summary: Of the whole folder.
        rows: The images of this page.
        number: Of the page, from 1.
        pages: How many there are.
        first_rank: How many images stand on the pages before.
    """

    summary: FolderSummary
    rows: tuple[ImageRow, ...]
    number: int = 1
    pages: int = 1
    first_rank: int = 0


def render_folder(page: FolderPage) -> str:
    """Returns the page as one HTML document that loads nothing from anywhere."""
    folder = resources.files("dermfuse.report")
    texts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("folder.html", "page.css", "folder.css")
    }
    environment = Environment(
        loader=DictLoader(texts),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("folder.html").render(
        page=page,
        words=words,
        summary=page.summary,
        notice=NOTICE,
        style=Markup(texts["page.css"] + texts["folder.css"]),  # noqa: S704 — our own files
    )


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
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
