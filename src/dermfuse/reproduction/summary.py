"""What a reader looks for first: rows answered, the paper's headline numbers, its claims."""

from collections.abc import Iterator
from itertools import groupby

from dermfuse.report import Table
from dermfuse.report.markdown import markdown_table
from dermfuse.reproduction.outcome import (
    Comparison,
    ContrastResult,
    Outcome,
    RowResult,
    TableResult,
)
from dermfuse.reproduction.paper import METRIC_NAMES, Metric
from dermfuse.reproduction.words import name_verdict

_HEADLINES: tuple[tuple[str, str, Metric], ...] = (
    ("VII", "Fusion", "average_precision"),
    ("VII", "Fusion", "auc"),
    ("XI", "Fusion", "jaccard"),
    ("VIII", "U-DenseNet121", "jaccard"),
    ("VIII", "U-MobileNetV1", "jaccard"),
)
_TASKS = {"classification": "classes", "segmentation": "masks"}


def count_rows(outcome: Outcome) -> tuple[int, int]:
    """Returns how many rows of the paper's tables have a number of ours, of how many.

    Rows that the paper quotes from others are not counted, nor variations beyond it.
    """
    rows = [row for table in _of_paper(outcome) for row in table.rows if row.source]
    return sum(row.provenance is not None for row in rows), len(rows)


def headlines(outcome: Outcome) -> Iterator[tuple[TableResult, RowResult, Comparison]]:
    """Yields the cells of the paper's headline numbers, with their tables and rows."""
    by_number = {table.number: table for table in outcome.tables}
    for number, label, metric in _HEADLINES:
        if (table := by_number.get(number)) is None:
            continue
        for row in table.rows:
            if row.label == label and metric in table.metrics:
                yield table, row, row.cell(metric)


def headline_table(outcome: Outcome) -> Table:
    """Returns the paper's headline numbers beside ours."""
    rows = tuple(
        (
            (f"{row.label}, {METRIC_NAMES[cell.metric]}", f"Table {table.number}"),
            (f"{cell.paper:.3f}", ""),
            (f"{cell.ours.value:.3f}", f"{cell.ours.low:.3f} to {cell.ours.high:.3f}"),
            (f"{cell.difference:+.3f}", "within noise" if cell.within_noise else "beyond noise"),
        )
        for table, row, cell in headlines(outcome)
        if cell.ours and cell.paper is not None and cell.difference is not None
    )
    return Table(
        title="The paper's headline numbers",
        note="",
        columns=("", "paper", "ours", "difference"),
        rows=rows,
    )


def claim_table(outcome: Outcome) -> Table:
    """Returns each claim of the paper with what was found of it, a line each."""
    rows = [_claim_row(table, tests) for table, tests in _claims(outcome)]
    rows += [
        (
            (f"splitting after augmentation inflates {each.preset}", "leakage"),
            ("yes" if each.paper_split > each.high else "not shown", ""),
            (
                f"{METRIC_NAMES[each.metric]} {each.paper_split:.2f} against "
                f"{each.source_split:.2f}",
                f"{each.low:.2f} to {each.high:.2f}",
            ),
        )
        for each in outcome.leakage
    ]
    return Table(
        title="Its claims",
        note="Beyond noise: corrected p below .05, Holm's rule over the tests of a table.",
        columns=("claim", "here", "beyond noise"),
        rows=tuple(rows),
    )


def render_block(outcome: Outcome) -> str:
    """Returns the summary as Markdown, for a README."""
    done, rows = count_rows(outcome)
    where = "; ".join(sorted({table.measured_on for table in outcome.tables}))
    devices = dict.fromkeys(run.device for run in outcome.runs if run.device)
    seeds = "seed 0" if outcome.seeds == 1 else f"seeds 0 to {outcome.seeds - 1}"
    counts = dict.fromkeys(
        f"{made.image_count}"
        + (f", {made.malignant_count} malignant" if made.malignant_count is not None else "")
        for table in outcome.tables
        for row in table.rows
        if (made := row.provenance)
    )
    return "\n\n".join(
        [
            f"**{done} of {rows} rows of Tables III to XI have a number of ours.**",
            _markdown(headline_table(outcome)),
            _markdown(claim_table(outcome)),
            f"Data: {outcome.data}, {where} (n = {'; '.join(counts)}), {seeds}. Intervals: 95 %, "
            f"bootstrap, {outcome.draws} draws. Trained on: {'; '.join(devices)}. Written by "
            "`dermfuse reproduce`.",
        ]
    )


def _of_paper(outcome: Outcome) -> list[TableResult]:
    return [table for table in outcome.tables if not table.number.startswith("beyond")]


def _claims(outcome: Outcome) -> Iterator[tuple[TableResult, list[ContrastResult]]]:
    for table in _of_paper(outcome):
        for _, tests in groupby(table.tests, key=lambda test: test.what):
            yield table, list(tests)


def _claim_row(table: TableResult, tests: list[ContrastResult]) -> tuple[tuple[str, str], ...]:
    gains = sum(test.is_shown and test.difference > 0 for test in tests)
    losses = sum(test.is_shown and test.difference < 0 for test in tests)
    return (
        (f"{tests[0].what} helps {_TASKS[table.task]}", f"Table {table.number}"),
        (name_verdict(tests), ""),
        (f"gains {gains}, losses {losses}, of {len(tests)}", ""),
    )


def _markdown(table: Table) -> str:
    rows = [[", ".join(filter(None, cell)) for cell in row] for row in table.rows]
    return markdown_table(table.columns, rows)
