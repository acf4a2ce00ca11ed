"""An outcome as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence

from dermfuse.report import Table
from dermfuse.report.markdown import markdown_table
from dermfuse.reproduction.outcome import Outcome, TableResult
from dermfuse.reproduction.page import build_page, said_of_row
from dermfuse.runs import NOTICE

_CSV_HEADER = (
    "row,source,metric,paper,ours,low,high,standard_error,deviation_between_seeds,difference,"
    "margin,within_noise,parameters,paper_parameters,file_mib,paper_file_mb,images,malignant,"
    "seeds,epochs,paper_epochs,settings,measured_on,devices"
)


def render_markdown(outcome: Outcome) -> str:
    """Returns the report as Markdown, for the documents of a repository."""
    page = build_page(outcome)
    parts = [f"# {page.title}", f"**Research only.** {NOTICE}", page.lead]
    for table in page.tables:
        parts += [f"## {table.title}", _markdown_table(table), *table.paragraphs, table.note]
    facts = [f"- {name}: {value}" for name, value in page.facts]
    return "\n\n".join([*parts, "## How these numbers were made", "\n".join(facts)]) + "\n"


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
            epochs = "-".join(dict.fromkeys(str(count) for count in made.epochs))
            malignant = "" if made.malignant_count is None else made.malignant_count
            origin = [made.image_count, malignant, made.seeds, epochs, 50, said_of_row(made)]
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


def _markdown_table(table: Table) -> str:
    rows = [["\n".join(filter(None, cell)) for cell in row] for row in table.rows]
    return markdown_table(table.columns, rows)
