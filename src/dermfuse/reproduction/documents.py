"""An outcome as JSON, Markdown, CSV and HTML."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from dermfuse.figures import Picture
from dermfuse.report import FACTS_TITLE, IN_WORDS, Table, render_page
from dermfuse.report.markdown import markdown_table
from dermfuse.reproduction.outcome import Outcome, TableResult, read_outcome
from dermfuse.reproduction.page import build_page, said_of_row
from dermfuse.runs import NOTICE, new_folder, write_json, write_text

JSON_NAME = "reproduction.json"
PAGE_NAME = "report.html"
MARKDOWN_NAME = "reproduction.md"

_CSV_HEADER = (
    "row,source,metric,paper,ours,low,high,standard_error,deviation_between_seeds,difference,"
    "margin,within_noise,parameters,paper_parameters,file_mib,paper_file_mb,images,malignant,"
    "seeds,epochs,paper_epochs,settings,measured_on,devices"
)


def render_markdown(outcome: Outcome) -> str:
    """Returns the report as Markdown, for the documents of a repository."""
    page = build_page(outcome)
    parts = [f"# {page.title}", f"**Research only.** {NOTICE}", page.lead]
    parts += [part for table in page.summary for part in _markdown_section(table)]
    parts.append("\n".join(f"- [{title}](#{anchor})" for title, anchor in page.contents))
    parts += [part for table in page.tables for part in _markdown_section(table)]
    facts = [f"- {name}: {value}" for name, value in page.facts]
    return "\n\n".join([*parts, f"## {FACTS_TITLE}", "\n".join(facts)]) + "\n"


def render_csv(table: TableResult) -> str:
    """Returns one table as CSV: a line per row and metric."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows(_csv_rows(table))
    return f"{_CSV_HEADER}\n{text.getvalue()}"


def _csv_rows(table: TableResult) -> list[list[object]]:
    rows: list[list[object]] = []
    for row in table.rows:
        made = row.provenance
        origin: Sequence[object] = ["", "", "", "", "", "", table.measured_on, ""]
        if made:
            said = "; ".join(said_of_row(made))
            epochs = "-".join(dict.fromkeys(str(count) for count in made.epochs))
            malignant = "" if made.malignant_count is None else made.malignant_count
            origin = [made.image_count, malignant, made.seeds, epochs, 50, said]
            origin = [*origin, table.measured_on, "; ".join(made.devices)]
        sizes = [row.parameters, row.paper_parameters, row.file_mb, row.paper_file_mb]
        for cell in row.cells:
            ours = cell.ours
            numbers: list[object] = [None] * 5
            if ours:
                numbers = [ours.value, ours.low, ours.high, ours.standard_error, ours.deviation]
            values = [cell.paper, *numbers, cell.difference, cell.margin, cell.within_noise]
            rows.append(
                [row.label, row.source, cell.metric]
                + ["" if value is None else value for value in (*values, *sizes)]
                + list(origin)
            )
    return rows


def _markdown_section(table: Table) -> list[str]:
    """Returns a table under its title; what is secondary is folded, as on the page."""
    shown = _markdown_table(table)
    if table.is_folded:
        shown = _fold(f"{len(table.rows)} rows", shown)
    said = _fold(IN_WORDS, *table.paragraphs) if table.paragraphs else ""
    return [f"## {table.title}", *filter(None, [shown, table.note, said])]


def _fold(title: str, *paragraphs: str) -> str:
    head = f"<details><summary>{title}</summary>"
    return "\n\n".join([head, *paragraphs, "</details>"])


def _markdown_table(table: Table) -> str:
    rows = [["\n".join(filter(None, cell)) for cell in row] for row in table.rows]
    return markdown_table(table.columns, rows)


def render_outcome(source: Path, out: Path) -> tuple[Outcome, Path]:
    """Writes the report of an outcome's JSON alone; no run, prediction or data is needed.

    Args:
        source: The JSON, as ``reproduce`` wrote it.
        out: The folder to write; new or empty.

    Returns:
        The outcome and the page.

    Raises:
        DataError: The JSON is of another format, or not what ``reproduce`` writes.
        RunError: It cannot be read, or ``out`` is not empty.
    """
    outcome = read_outcome(source)
    return outcome, write_outcome(new_folder(out, what="report"), outcome)


def write_outcome(out: Path, outcome: Outcome, pictures: Sequence[Picture] = ()) -> Path:
    """Writes the outcome as JSON, CSV, Markdown and HTML, and returns the page."""
    write_json(out / JSON_NAME, outcome.to_dict())
    for table in outcome.tables:
        name = re.sub(r"[^\w-]+", "-", table.number)  # it may come from a file
        write_text(out / "tables" / f"{name}.csv", render_csv(table))
    write_text(out / MARKDOWN_NAME, render_markdown(outcome))
    page = out / PAGE_NAME
    write_text(page, render_page(build_page(outcome, pictures)))
    return page
