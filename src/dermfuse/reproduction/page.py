"""From an outcome to the page that shows it.

A table in plain words: does what the paper says hold here? Made from the numbers alone.

What a reader looks for first: rows answered, the paper's headline numbers, its claims.

An outcome as JSON, Markdown, CSV and HTML.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from dermfuse.figures import Picture
from dermfuse.folders import NOTICE, new_folder, write_json, write_text
from dermfuse.report import FACTS_TITLE, IN_WORDS, Page, Plate, Table, render_page
from dermfuse.report.folder import markdown_table
from dermfuse.reproduction.outcome import (
    Comparison,
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

_VERDICTS = {
    "holds": "The paper's claim holds here",
    "in part": "The paper's claim holds here in part",
    "not shown": "The paper's claim is not shown here",
    "the other way round": "Here it is the other way round",
}


def say_table(table: TableResult) -> tuple[str, ...]:
    """Returns the paragraphs of one table."""
    said = [_say_noise(table), _say_best(table), *_say_tests(table.tests), _say_missing(table)]
    return tuple(paragraph for paragraph in said if paragraph)


def say_leakage(found: Sequence[Leakage]) -> tuple[str, ...]:
    """Returns what the paper's split does to the validation score, a paragraph per network."""
    paragraphs = []
    for each in found:
        name, gap = METRIC_NAMES[each.metric], each.paper_split - each.source_split
        above = each.paper_split > each.high
        paragraphs.append(
            f"{each.preset}, {name}: {each.paper_split:.3f} on {each.paper_split_images} augmented "
            f"copies whose lesions were trained on as well, {each.source_split:.3f} "
            f"({each.low:.3f} to {each.high:.3f}) on {each.source_split_images} images that were "
            f"not: a difference of {gap:+.3f}. "
            + (
                "The paper's split inflates the validation score beyond noise."
                if above
                else "Noise can explain that difference; inflation is not shown here."
            )
        )
    return tuple(paragraphs)


def _say_noise(table: TableResult) -> str:
    cells = [cell for row in table.rows for cell in row.cells if cell.within_noise is not None]
    if not cells:
        return ""
    outside = [c for c in cells if not c.within_noise and c.difference is not None]
    below = sum(c.difference < 0 for c in outside if c.difference is not None)
    said = (
        f"Within noise of ours: {len(cells) - len(outside)} of the {len(cells)} published values "
        "that were measured here, too"
    )
    if outside:
        said += f"; of the others ours is lower in {below} and higher in {len(outside) - below}"
    return said + "."


def _say_best(table: TableResult) -> str:
    """Says which row is best, in the paper and here, where two or more of its rows were run."""
    metric = TESTED[table.task][0]
    ours = [(row, row.cell(metric)) for row in table.rows if row.cell(metric).ours]
    theirs = [(row, row.cell(metric)) for row in table.rows if row.cell(metric).paper is not None]
    if len(ours) < 2:
        return ""
    best, cell = max(ours, key=lambda pair: pair[1].ours.value if pair[1].ours else 0.0)
    value = cell.ours.value if cell.ours else 0.0
    here = f"By {METRIC_NAMES[metric]}, {best.label} is highest here ({value:.3f})"
    if not theirs:
        return f"{here}."
    first, published = max(theirs, key=lambda pair: pair[1].paper or 0.0)
    if first is best:
        return f"{here}, as in the paper ({published.paper:.3f})."
    run = {row.label for row, _ in ours}
    where = "" if first.label in run else ", which has no number here"
    return f"{here}; in the paper it is {first.label} ({published.paper:.3f}){where}."


def _say_tests(tests: Sequence[ContrastResult]) -> list[str]:
    paragraphs = []
    for what, group in groupby(tests, key=lambda test: test.what):
        found = list(group)
        paragraphs.append(" ".join([_say_claim(what, found), *map(_say_test, found)]))
    return paragraphs


def _say_test(test: ContrastResult) -> str:
    published = test.paper_difference
    paper = f"; in the paper {published:+.3f}" if published is not None else ""
    return (
        f"{METRIC_NAMES[test.metric]}, {test.treated} against {test.control}: "
        f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f}), "
        f"corrected p {say_p_value(test.corrected)}{paper}."
    )


def _say_claim(what: str, tests: Sequence[ContrastResult]) -> str:
    """Says how many of the paper's differences are found here, beyond noise."""
    subject = what[0].upper() + what[1:]
    gains = sum(test.is_shown and test.difference > 0 for test in tests)
    losses = sum(test.is_shown and test.difference < 0 for test in tests)
    open_ = len(tests) - gains - losses
    claimed = _claimed(tests)
    found = (
        f"{subject} helps beyond noise in {gains} of {len(tests)} comparisons, harms in {losses}, "
        f"and makes no difference that can be told from noise in {open_}."
    )
    if not claimed:
        return found
    held = sum(test.is_shown and test.difference > 0 for test in claimed)
    verdict = _VERDICTS[name_verdict(tests)]
    return f"{found} {verdict}: of its {len(claimed)} gains {held} are found beyond noise."


def name_verdict(tests: Sequence[ContrastResult]) -> str:
    """Returns what became of a claim: a key of ``_VERDICTS``.

    It is about those of its tests in which the paper has a gain; of no claim it is ``not shown``.
    """
    claimed = _claimed(tests)
    held = sum(test.is_shown and test.difference > 0 for test in claimed)
    against = sum(test.is_shown and test.difference < 0 for test in claimed)
    if not held:
        return "the other way round" if claimed and against == len(claimed) else "not shown"
    return "holds" if held == len(claimed) else "in part"


def _claimed(tests: Sequence[ContrastResult]) -> list[ContrastResult]:
    return [test for test in tests if (test.paper_difference or 0) > 0]


def _say_missing(table: TableResult) -> str:
    missing = [row.label for row in table.rows if _is_missing(row)]
    return f"Without a number of ours: {', '.join(missing)}." if missing else ""


def _is_missing(row: RowResult) -> bool:
    return bool(row.source) and row.provenance is None


def say_p_value(value: float) -> str:
    """Returns a p-value in words.

    Example:
        >>> say_p_value(0.0399), say_p_value(0.0)
        ('0.040', 'below 0.001')
    """
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def metric_names(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Returns the heads of columns."""
    return tuple(METRIC_NAMES[metric] for metric in metrics)


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


_STATES = {"failed": "failed", "waiting": "stopped"}


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
    first[0] = replace(first[0], note=" ".join(filter(None, [first[0].note, how_to_read(outcome)])))
    return Page(
        title="The paper, reproduced",
        lead=_lead(outcome),
        findings=(),
        summary=tuple(summary),
        tables=tuple(tables),
        charts=(),
        examples=(),
        examples_note="",
        facts=_facts(outcome),
        plates=tuple(Plate(each.title, each.caption, each.png) for each in pictures),
    )


def said_of_row(provenance: Provenance) -> tuple[str, ...]:
    """Returns what a row's numbers come from, in words."""
    count, malignant = provenance.image_count, provenance.malignant_count
    parts = [
        provenance.epochs_in_words(),
        f"{provenance.seeds} seeds" if provenance.seeds > 1 else "seed 0",
        f"n = {count}" + (f", {malignant} malignant" if malignant is not None else ""),
    ]
    if "random" in provenance.init:
        parts.append(f"{provenance.init} weights to start from")
    said = ("train.epochs", "model.init")
    return (*parts, *(text for text in provenance.settings if not text.startswith(said)))


def _lead(outcome: Outcome) -> str:
    done, rows = count_rows(outcome)
    where = sorted({table.measured_on for table in outcome.tables})
    return (
        f"{done} of {rows} rows of Tables III to XI of Wei, Ding and Hu (IEEE Access 2020) have a "
        f"number of ours, measured on {'; on '.join(where)}. The paper's are of its test set "
        f"({TEST_IMAGES} images, {TEST_MALIGNANT} malignant)."
    )


def _table(outcome: Outcome, table: TableResult) -> Table:
    has_parameters = any(row.paper_parameters for row in table.rows)
    has_files = any(row.paper_file_mb for row in table.rows)
    columns = ["Network", *metric_names(table.metrics)]
    columns += ["parameters"] if has_parameters else []
    columns += ["float32 file, MiB"] if has_files else []
    common, rows = _common(table), []
    for row in table.rows:
        cells = [_label(outcome, row, common), *(_cell(cell) for cell in row.cells)]
        cells += [_size(row.parameters, row.paper_parameters, ",")] if has_parameters else []
        cells += [_size(row.file_mb, row.paper_file_mb, ".1f")] if has_files else []
        rows.append(tuple(cells))
    is_paper = not table.number.startswith("beyond")
    return Table(
        title=f"Table {table.number}: {table.title}" if is_paper else table.title,
        note=f"All rows: {'; '.join(common)}." if common else "",
        columns=tuple(columns),
        rows=tuple(rows),
        paragraphs=say_table(table),
    )


def _common(table: TableResult) -> list[str]:
    """Returns what is said of every row that has a number of ours, so that it is said once."""
    said = [said_of_row(row.provenance) for row in table.rows if row.provenance]
    return [text for text in said[0] if all(text in of_row for of_row in said)] if said else []


def _label(outcome: Outcome, row: RowResult, common: Collection[str]) -> tuple[str, str]:
    if row.provenance:
        own = (text for text in said_of_row(row.provenance) if text not in common)
        return row.label, "\n".join(own)
    return row.label, outcome.why_empty(row) if row.source else "quoted by the paper"


def _cell(cell: Comparison) -> tuple[str, str]:
    """Returns our value, and below it the interval, the paper's value and the difference."""
    paper = f"paper {cell.paper:.3f}" if cell.paper is not None else ""
    if cell.ours is None:
        return "-", paper
    ours = cell.ours
    value = f"{ours.value:.3f}"
    lines = [f"{ours.low:.3f} to {ours.high:.3f}"]
    if ours.deviation is not None:
        lines[0] += f", ±{ours.deviation:.3f}"
    if cell.difference is not None:
        lines.append(f"{paper}, {cell.difference:+.3f}")
        lines += [] if cell.within_noise else ["beyond noise"]
    return value, "\n".join(lines)


def _size(ours: float | None, paper: int | None, form: str) -> tuple[str, str]:
    value = "-" if ours is None else f"{ours:{form}}"
    return value, "" if paper is None else f"paper {paper:,}"


def _leakage_table(outcome: Outcome) -> Table:
    return Table(
        title="What splitting after augmentation does",
        note=(
            "Both runs are equal but for the split, and for what the paper's protocol does not "
            "leave out; both chose their epoch on what they were validated on. The paper's "
            "validates on augmented copies whose lesions were trained on as well; these are not "
            f"independent images, so it has no interval. {outcome.data}, seed 0."
        ),
        columns=("Network", "split after augmenting", "split by source image", "difference"),
        rows=tuple(
            (
                (
                    f"{each.preset}, {METRIC_NAMES[each.metric]}",
                    f"{each.epochs} epochs"
                    + ("" if each.epochs == PAPER_EPOCHS else f"; the paper trains {PAPER_EPOCHS}"),
                ),
                (f"{each.paper_split:.3f}", f"n = {each.paper_split_images} copies"),
                (
                    f"{each.source_split:.3f}",
                    f"{each.low:.3f} to {each.high:.3f}\nn = {each.source_split_images}",
                ),
                (f"{each.paper_split - each.source_split:+.3f}", ""),
            )
            for each in outcome.leakage
        ),
    )


def _runs_table(outcome: Outcome) -> Table:
    said = [f"{what}: {why}" for what, why in outcome.failures.items()]
    waiting = dict.fromkeys(run.preset for run in outcome.runs if run.state == "waiting")
    said += [f"Planned and not finished: runs of {', '.join(waiting)}."] if waiting else []
    several = len({run.device for run in outcome.runs if run.device}) > 1
    blind = f" Test predictions for scoring elsewhere: {len(outcome.blind)} folders under blind/."
    return Table(
        title="Runs",
        note="Seconds are those of the training itself." + (blind if outcome.blind else ""),
        columns=("Run", "state", "epochs", "seconds", "seconds per epoch"),
        rows=tuple(
            (
                (run.name, run.error or (run.device if several else "")),
                (_STATES.get(run.state, "finished"), ""),
                (str(run.epochs), ""),
                (f"{run.seconds:.0f}", ""),
                (f"{run.seconds / run.epochs:.1f}" if run.epochs else "-", ""),
            )
            for run in outcome.runs
            if run.state != "waiting" or run.epochs
        ),
        paragraphs=tuple(said),
        is_folded=not said,
    )


def _facts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    environment = outcome.environment
    versions = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items())
    seconds = sum(run.seconds for run in outcome.runs)
    return (
        ("Split", _split(outcome)),
        ("Changed settings", ", ".join(outcome.overrides) or "none"),
        ("Training", f"{seconds:.0f} s over all runs"),
        ("Measured on", str(environment.get("machine", ""))),
        ("Versions", versions),
        ("Commit", str(environment.get("commit") or "unknown")),
    )


def _split(outcome: Outcome) -> str:
    classes, masks = (
        f"{count} folds" if count else "hold-out" for count in (outcome.folds, outcome.mask_folds)
    )
    return classes if classes == masks else f"{classes}; of the networks that only outline, {masks}"


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
