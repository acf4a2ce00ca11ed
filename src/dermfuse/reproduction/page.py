"""From an outcome to the page that shows it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from dermfuse.figures import Picture
from dermfuse.report import Page, Plate, Table
from dermfuse.reproduction.outcome import Comparison, Outcome, Provenance, RowResult, TableResult
from dermfuse.reproduction.paper import METRIC_NAMES, PAPER_EPOCHS, TEST_IMAGES, TEST_MALIGNANT
from dermfuse.reproduction.summary import claim_table, count_rows, headline_table, how_to_read
from dermfuse.reproduction.words import metric_names, say_table

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
