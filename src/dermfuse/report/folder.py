"""The pages of a folder's results: counts, then one row per image: withheld, then by suspicion.

A page loads nothing, links nowhere and runs no script; thumbnails are embedded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dermfuse import report as words
from dermfuse.report.page import template

PAGE_ROWS = 1000
"""Images on a page: with thumbnails a few megabytes, which every browser opens."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of the table.

    Args:
        name: The file's name.
        probability: The probability of melanoma, 0 to 1; None where it was withheld.
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


def render_folder(
    summary: FolderSummary, rows: Sequence[ImageRow], *, number: int = 1, pages: int = 1
) -> str:
    """Returns one page as an HTML document that loads nothing from anywhere.

    Args:
        summary: Counts of the whole folder.
        rows: The images of this page; each page before it holds ``PAGE_ROWS``.
        number: The page's, from 1.
        pages: How many there are.
    """
    return template("report", "folder.html").render(
        summary=summary,
        rows=rows,
        number=number,
        pages=pages,
        before=(number - 1) * PAGE_ROWS,
        words=words,
    )
