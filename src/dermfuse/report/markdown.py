"""Tables in Markdown, and the places in a page where they stand."""

from collections.abc import Sequence
from pathlib import Path

from dermfuse.errors import DataError
from dermfuse.runs import write_text


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
