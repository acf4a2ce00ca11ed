"""What a reader looks for first: rows answered, the paper's headline numbers, its claims."""

from collections.abc import Iterator
from itertools import groupby

from dermfuse.report import Table
from dermfuse.report.markdown import markdown_table
from dermfuse.reproduction.outcome import (
    Comparison,
    ContrastResult,
    Leakage,
    Outcome,
    RowResult,
    TableResult,
)
from dermfuse.reproduction.paper import METRIC_NAMES, Metric
from dermfuse.reproduction.words import name_verdict, say_p_value

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


def how_to_read(outcome: Outcome) -> str:
    """Says once what holds for every table."""
    data = dict.fromkeys(
        summary for row in _rows_of(outcome) if row.provenance for summary in row.provenance.data
    )
    devices = dict.fromkeys(
        device for row in _rows_of(outcome) if row.provenance for device in row.provenance.devices
    )
    said = [f"Data: {'; '.join(data) or outcome.data}; {name_seeds(outcome)}."]
    said += [f"Trained on {'; '.join(devices)}."] if devices else []
    return " ".join(
        [
            *said,
            f"Intervals: 95 %, stratified bootstrap of {outcome.draws} draws over the images"
            + (
                ", of the mean over the seeds, whose standard deviation is given as ±."
                if outcome.seeds > 1
                else "; one seed, so the luck of a training is not in them."
            ),
            "A difference (ours less the paper's) is within noise up to 1.96 times the root of the "
            "summed squares of our standard error and of the paper's, which its test set's size "
            "gives; a cell of the tables says where it is beyond.",
        ]
    )


def name_seeds(outcome: Outcome) -> str:
    """Returns the seeds in words."""
    return "seed 0" if outcome.seeds == 1 else f"seeds 0 to {outcome.seeds - 1}"


def _rows_of(outcome: Outcome) -> Iterator[RowResult]:
    return (row for table in outcome.tables for row in table.rows)


def claim_table(outcome: Outcome) -> Table:
    """Returns each claim of the paper with what was found of it, a line each."""
    rows = [_claim_row(table, tests) for table, tests in _claims(outcome)]
    first = {each.preset: each for each in reversed(outcome.leakage)}  # by the ranking score
    rows += [_leakage_row(first[preset]) for preset in reversed(first)]
    return Table(
        title="Its claims",
        note=(
            "Comparisons are paired, by AP and AUC or by Jaccard and Dice; a gain is beyond noise "
            "if its p is below .05 after Holm's rule over the tests of the table."
        ),
        columns=("claim", "here", "comparisons"),
        rows=tuple(rows),
    )


def render_block(outcome: Outcome) -> str:
    """Returns the summary as Markdown, for a README."""
    done, rows = count_rows(outcome)
    where = "; ".join(sorted({table.measured_on for table in outcome.tables}))
    devices = dict.fromkeys(run.device for run in outcome.runs if run.device)
    made = [row.provenance for row in _rows_of(outcome) if row.provenance]
    malignant = {x.image_count: x.malignant_count for x in made if x.malignant_count is not None}
    counts = dict.fromkeys(
        f"{x.image_count}, {malignant[x.image_count]} malignant"
        if x.image_count in malignant
        else f"{x.image_count}"
        for x in made
    )
    return "\n\n".join(
        [
            f"**{done} of {rows} rows of Tables III to XI have a number of ours.**",
            _markdown(headline_table(outcome)),
            _markdown(claim_table(outcome)),
            f"Data: {outcome.data}, {where} (n = {'; '.join(counts)}), {name_seeds(outcome)}. "
            f"Intervals: 95 %, bootstrap, {outcome.draws} draws. Trained on: "
            f"{'; '.join(devices)}. Written by `dermfuse reproduce`.",
        ]
    )


def _of_paper(outcome: Outcome) -> list[TableResult]:
    return [table for table in outcome.tables if not table.number.startswith("beyond")]


def _claims(outcome: Outcome) -> Iterator[tuple[TableResult, list[ContrastResult]]]:
    for table in _of_paper(outcome):
        for _, tests in groupby(table.tests, key=lambda test: test.what):
            yield table, list(tests)


def _claim_row(table: TableResult, tests: list[ContrastResult]) -> tuple[tuple[str, str], ...]:
    gains = [test.corrected for test in tests if test.is_shown and test.difference > 0]
    losses = sum(test.is_shown and test.difference < 0 for test in tests)
    found = f"{len(gains)} of {len(tests)} gain"
    found += f", p {say_p_value(max(gains))}" if gains else ""
    return (
        (f"{tests[0].what} helps {_TASKS[table.task]}", f"Table {table.number}"),
        (name_verdict(tests), ""),
        (found + (f", {losses} lose" if losses else ""), ""),
    )


def _leakage_row(found: Leakage) -> tuple[tuple[str, str], ...]:
    return (
        ("splitting after augmentation inflates validation", found.preset),
        ("yes" if found.paper_split > found.high else "not shown", ""),
        (
            f"{METRIC_NAMES[found.metric]} {found.paper_split:.2f} against "
            f"{found.source_split:.2f}",
            f"{found.low:.2f} to {found.high:.2f}",
        ),
    )


def _markdown(table: Table) -> str:
    rows = [[", ".join(filter(None, cell)) for cell in row] for row in table.rows]
    return markdown_table(table.columns, rows)
