"""An outcome as a page, as Markdown, CSV and JSON; its sentences stand in ``templates/words.txt``.

First what a reader looks for: rows answered, the paper's headline numbers, its claims. Then each
table, with what it says in plain words, made from the numbers alone.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from dermfuse.records.folders import new_folder, write_json, write_text
from dermfuse.report.page import (
    Page,
    Picture,
    Table,
    markdown_table,
    render_markdown,
    render_page,
    say,
    template,
)
from dermfuse.reproduction.outcome import (
    ContrastResult,
    Leakage,
    Outcome,
    Provenance,
    RowResult,
    TableResult,
    read_outcome,
)
from dermfuse.reproduction.paper import (
    METRIC_NAMES,
    PAPER_EPOCHS,
    TEST_IMAGES,
    TEST_MALIGNANT,
    TESTED,
    Metric,
)

JSON_NAME = "reproduction.json"
PAGE_NAME = "report.html"
MARKDOWN_NAME = "reproduction.md"

_HEADLINES: tuple[tuple[str, str, Metric], ...] = (
    ("VII", "Fusion", "average_precision"),
    ("VII", "Fusion", "auc"),
    ("XI", "Fusion", "jaccard"),
    ("VIII", "U-DenseNet121", "jaccard"),
    ("VIII", "U-MobileNetV1", "jaccard"),
)
_CSV_COLUMNS = (
    "row,source,metric,paper,ours,low,high,standard_error,deviation_between_seeds,difference,"
    "margin,within_noise,parameters,paper_parameters,file_mib,paper_file_mb,images,malignant,"
    "seeds,epochs,paper_epochs,settings,measured_on,devices"
)
WORDS = template("reproduction", "words.txt")
"""What a reproduction says, a macro for each sentence."""
WORDS.globals.update(metrics=METRIC_NAMES, paper_epochs=PAPER_EPOCHS)
WORDS.globals.update(test_images=TEST_IMAGES, test_malignant=TEST_MALIGNANT)
_say = partial(say, WORDS)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, and what became of it.

    Args:
        what: What is claimed to help.
        tests: All tests of it in one table.
        gains: Those in which it helps beyond noise.
        losses: Those in which it harms beyond noise.
        claimed: Those in which the paper has a gain.
    """

    what: str
    tests: list[ContrastResult]
    gains: list[ContrastResult]
    losses: list[ContrastResult]
    claimed: list[ContrastResult]

    @property
    def held(self) -> list[ContrastResult]:
        """Those of the paper's gains that are found here beyond noise."""
        return [test for test in self.claimed if test in self.gains]

    @property
    def verdict(self) -> str:
        """What became of the paper's gains; of none it is ``not shown``."""
        if self.held:
            return "holds" if self.held == self.claimed else "in part"
        is_reversed = self.claimed and all(test in self.losses for test in self.claimed)
        return "the other way round" if is_reversed else "not shown"


def claims_of(table: TableResult) -> Iterator[Claim]:
    """Yields the claims that a table's tests are about."""
    for what, group in groupby(table.tests, key=lambda test: test.what):
        tests = list(group)
        shown = [test for test in tests if test.is_shown]
        yield Claim(
            what=what,
            tests=tests,
            gains=[test for test in shown if test.difference > 0],
            losses=[test for test in shown if test.difference < 0],
            claimed=[test for test in tests if (test.paper_difference or 0) > 0],
        )


def say_table(table: TableResult) -> tuple[str, ...]:
    """Returns the paragraphs of one table."""
    said = [
        _say("noise", rows=table.rows),
        _say_best(table),
        *(_say("claim", found=claim) for claim in claims_of(table)),
        _say("missing", rows=table.rows),
    ]
    return tuple(filter(None, said))


def say_leakage(found: Sequence[Leakage]) -> tuple[str, ...]:
    """Returns what the paper's split does to the validation score, a paragraph per network."""
    return tuple(_say("leakage", each=each) for each in found)


def say_facts(sentence: str, **values: object) -> tuple[tuple[str, str], ...]:
    """Returns the lines ``name: value`` of a macro as names and values."""
    lines = (line.partition(":") for line in _say_lines(sentence, **values))
    return tuple((name, said.strip()) for name, _, said in lines)


def count_rows(outcome: Outcome) -> tuple[int, int]:
    """Returns how many rows of the paper's tables have a number of ours, of how many.

    Rows that the paper quotes from others are not counted, nor variations beyond it.
    """
    rows = [row for table in _of_paper(outcome) for row in table.rows if row.source]
    return sum(row.provenance is not None for row in rows), len(rows)


def headline_table(outcome: Outcome) -> Table:
    """Returns the paper's headline numbers beside ours."""
    cells = {
        (table.number, row.label, cell.metric): cell
        for table in outcome.tables
        for row in table.rows
        for cell in row.cells
    }
    rows = (
        _row("headline_row", number=number, label=label, found=found)
        for number, label, metric in _HEADLINES
        for found in [cells.get((number, label, metric))]
        if found and found.ours and found.paper is not None and found.difference is not None
    )
    columns = ("", "paper", "ours", "difference")
    return Table("The paper's headline numbers", "", columns, tuple(rows))


def claim_table(outcome: Outcome) -> Table:
    """Returns each claim of the paper with what was found of it, a line each."""
    tables = _of_paper(outcome)
    claims = [(table, claim) for table in tables for claim in claims_of(table)]
    first = {each.preset: each for each in reversed(outcome.leakage)}  # by the ranking score
    rows = [_row("claim_row", table=table, claim=claim) for table, claim in claims]
    rows += [_row("inflation_row", found=found) for found in reversed(first.values())]
    columns = ("claim", "here", "comparisons")
    return Table("Its claims", _say("claims_note"), columns, tuple(rows))


def render_block(outcome: Outcome) -> str:
    """Returns the summary as Markdown, for a README."""
    done, rows = count_rows(outcome)
    made = _provenances(outcome)
    malignant = {x.image_count: x.malignant_count for x in made if x.malignant_count is not None}
    images = {x.image_count: malignant.get(x.image_count) for x in made}
    parts = [f"**{done} of {rows} rows of Tables III to XI have a number of ours.**"]
    for table in (headline_table(outcome), claim_table(outcome)):
        cells = [[cell.replace("\n", ", ") for cell in row] for row in table.rows]
        parts.append(markdown_table(table.columns, cells))
    return "\n\n".join([*parts, _say("block_end", outcome=outcome, images=images)])


def build_page(outcome: Outcome, pictures: Sequence[Picture] = ()) -> Page:
    """Returns the page of a reproduction.

    Args:
        outcome: What was found.
        pictures: Figures drawn from its runs, in order.
    """
    tables = [_table(outcome, table) for table in outcome.tables]
    tables += [_leakage_table(outcome)] if outcome.leakage else []
    tables += [_runs_table(outcome)]
    summary = [each for each in (headline_table(outcome), claim_table(outcome)) if each.rows]
    first = summary or tables
    guide = _say("how_to_read", outcome=outcome, made=_provenances(outcome))
    first[0] = replace(first[0], note=f"{first[0].note} {guide}".strip())
    done, rows = count_rows(outcome)
    return Page(
        title="The paper, reproduced",
        lead=_say("lead", outcome=outcome, done=done, rows=rows),
        summary=tuple(summary),
        tables=tuple(tables),
        facts=say_facts("facts", outcome=outcome),
        pictures=tuple(pictures),
    )


def render_csv(table: TableResult) -> str:
    """Returns one table as CSV: a line per row and metric."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows(_csv_rows(table))
    return f"{_CSV_COLUMNS}\n{text.getvalue()}"


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
    page = build_page(outcome, pictures)
    files = {MARKDOWN_NAME: render_markdown(page), PAGE_NAME: render_page(page)}
    for table in outcome.tables:
        name = re.sub(r"[^\w-]+", "-", table.number)  # it may come from a file
        files[f"tables/{name}.csv"] = render_csv(table)
    write_json(out / JSON_NAME, outcome.to_dict())
    for name, text in files.items():
        write_text(out / name, text)
    return out / PAGE_NAME


def _say_best(table: TableResult) -> str:
    """Says which row is best, in the paper and here, where two or more of its rows were run."""
    metric = TESTED[table.task][0]
    cells = {row.label: row.cell(metric) for row in table.rows}
    ours = {label: cell.ours.value for label, cell in cells.items() if cell.ours}
    theirs = {label: cell.paper for label, cell in cells.items() if cell.paper is not None}
    if len(ours) < 2:
        return ""
    best, first = (max(of, key=of.__getitem__, default="") for of in (ours, theirs))
    return _say("best", metric=metric, best=best, ours=ours, first=first, theirs=theirs)


def _of_paper(outcome: Outcome) -> list[TableResult]:
    return [table for table in outcome.tables if _is_paper(table)]


def _is_paper(table: TableResult) -> bool:
    return not table.number.startswith("beyond")


def _provenances(outcome: Outcome) -> list[Provenance]:
    return [row.provenance for table in outcome.tables for row in table.rows if row.provenance]


def _table(outcome: Outcome, table: TableResult) -> Table:
    said = [_said_of_row(row) for row in table.rows]
    made = [lines for lines in said if lines]
    common = [text for text in made[0] if all(text in each for each in made)] if made else []
    sizes = {
        "parameters": any(row.paper_parameters for row in table.rows),
        "float32 file, MiB": any(row.paper_file_mb for row in table.rows),
    }
    shown = [name for name, is_shown in sizes.items() if is_shown]
    rows = (
        _row("network_row", outcome=outcome, row=row, said=lines, common=common, sizes=shown)
        for row, lines in zip(table.rows, said, strict=True)
    )
    return Table(
        title=f"Table {table.number}: {table.title}" if _is_paper(table) else table.title,
        note=f"All rows: {'; '.join(common)}." if common else "",
        columns=("Network", *(METRIC_NAMES[metric] for metric in table.metrics), *shown),
        rows=tuple(rows),
        paragraphs=say_table(table),
    )


def _leakage_table(outcome: Outcome) -> Table:
    return Table(
        title="What splitting after augmentation does",
        note=_say("leakage_note", data=outcome.data),
        columns=("Network", "split after augmenting", "split by source image", "difference"),
        rows=tuple(_row("leakage_row", found=found) for found in outcome.leakage),
    )


def _runs_table(outcome: Outcome) -> Table:
    said = [f"{what}: {why}" for what, why in outcome.failures.items()]
    said += filter(None, [_say("waiting", runs=outcome.runs)])
    several = len({run.device for run in outcome.runs if run.device}) > 1
    shown = [run for run in outcome.runs if run.state != "waiting" or run.epochs]
    return Table(
        title="Runs",
        note=_say("runs_note", outcome=outcome),
        columns=("Run", "state", "epochs", "seconds", "seconds per epoch"),
        rows=tuple(_row("run_row", run=run, several=several) for run in shown),
        paragraphs=tuple(said),
        is_folded=not said,
    )


def _said_of_row(row: RowResult) -> list[str]:
    """Returns what a row's numbers come from, in words; nothing where there are none."""
    return _say_lines("made_of", made=row.provenance) if row.provenance else []


def _say_lines(sentence: str, **values: object) -> list[str]:
    return _lines(getattr(WORDS.module, sentence)(**values))


def _row(sentence: str, **values: object) -> tuple[str, ...]:
    """Returns the cells of a row: what its macro says in each call of ``cell``."""
    cells: list[str] = []

    def cell(caller: Callable[[], str]) -> str:
        cells.append("\n".join(_lines(caller())))
        return ""

    getattr(WORDS.module, sentence)(cell, **values)
    return tuple(cells)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _csv_rows(table: TableResult) -> Iterator[list[object]]:
    for row in table.rows:
        made: list[object] = [None] * 6
        devices = ""
        if origin := row.provenance:
            epochs = "-".join(dict.fromkeys(map(str, origin.epochs)))
            said = "; ".join(_said_of_row(row))
            count = origin.image_count, origin.malignant_count, origin.seeds
            made, devices = [*count, epochs, PAPER_EPOCHS, said], "; ".join(origin.devices)
        sizes = row.parameters, row.paper_parameters, row.file_mb, row.paper_file_mb
        for cell in row.cells:
            found = "value", "low", "high", "standard_error", "deviation"
            ours = (getattr(cell.ours, name, None) for name in found)
            noise = cell.difference, cell.margin, cell.within_noise
            line = [row.label, row.source, cell.metric, cell.paper, *ours, *noise]
            yield [*line, *sizes, *made, table.measured_on, devices]
