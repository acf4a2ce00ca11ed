"""From an outcome to the page that shows it."""

from collections.abc import Collection, Sequence

from dermfuse.figures import Picture
from dermfuse.report import Finding, Page, Plate, Table
from dermfuse.reproduction.outcome import Comparison, Outcome, Provenance, RowResult, TableResult
from dermfuse.reproduction.paper import METRIC_NAMES, PAPER_EPOCHS, TEST_IMAGES, TEST_MALIGNANT
from dermfuse.reproduction.summary import claim_table, count_rows, headline_table, headlines
from dermfuse.reproduction.words import metric_names, say_leakage, say_table

_STATES = {"failed": "failed", "waiting": "stopped"}


def build_page(outcome: Outcome, pictures: Sequence[Picture] = ()) -> Page:
    """Returns the page of a reproduction.

    Args:
        outcome: What was found.
        pictures: Figures drawn from its runs, in order.
    """
    tables = [each for each in (headline_table(outcome), claim_table(outcome)) if each.rows]
    tables += [_table(outcome, table) for table in outcome.tables]
    tables += [_leakage_table(outcome)] if outcome.leakage else []
    tables += [_runs_table(outcome)]
    return Page(
        title="The paper, reproduced",
        lead=_lead(outcome),
        findings=_findings(outcome),
        tables=tuple(tables),
        charts=(),
        examples=(),
        examples_note="",
        facts=_facts(outcome),
        plates=tuple(Plate(each.title, each.caption, each.png) for each in pictures),
    )


def said_of_row(provenance: Provenance, common: Collection[str] = ()) -> str:
    """Returns what a row's numbers come from, in words.

    Args:
        provenance: Of the row.
        common: Settings that are said elsewhere.
    """
    count = provenance.image_count
    malignant = provenance.malignant_count
    parts = [
        provenance.epochs_in_words(),
        f"{provenance.seeds} seeds" if provenance.seeds > 1 else "seed 0",
        f"n = {count}" + (f", {malignant} malignant" if malignant is not None else ""),
    ]
    if "random" in provenance.init:
        parts.append(f"{provenance.init} weights to start from")
    said = ("train.epochs", "model.init")
    settings = [
        text for text in provenance.settings if text not in common and not text.startswith(said)
    ]
    return "; ".join([*parts, *settings])


def _lead(outcome: Outcome) -> str:
    done, rows = count_rows(outcome)
    where = sorted({table.measured_on for table in outcome.tables})
    return (
        f"Wei, Ding and Hu (IEEE Access 2020) trained and measured again: {done} of {rows} rows of "
        "Tables III to XI have a number of ours. The paper's numbers are of its test set "
        f"({TEST_IMAGES} images, {TEST_MALIGNANT} malignant). Ours are of {'; of '.join(where)}."
    )


def _findings(outcome: Outcome) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            f"{row.label}, {METRIC_NAMES[cell.metric]}",
            _cell(cell)[0],
            f"{cell.ours.low:.3f} to {cell.ours.high:.3f}",
            f"The paper: {cell.paper:.3f}. {row.provenance.epochs_in_words()}.",
        )
        for _, row, cell in headlines(outcome)
        if row.label == "Fusion" and cell.ours and row.provenance
    )


def _table(outcome: Outcome, table: TableResult) -> Table:
    has_parameters = any(row.paper_parameters for row in table.rows)
    has_files = any(row.paper_file_mb for row in table.rows)
    columns = ["Network", *metric_names(table.metrics)]
    columns += ["parameters"] if has_parameters else []
    columns += ["float32 file, MiB"] if has_files else []
    common, rows = _common_settings(table), []
    for row in table.rows:
        cells = [_label(outcome, row, common), *(_cell(cell) for cell in row.cells)]
        cells += [_size(row.parameters, row.paper_parameters, ",")] if has_parameters else []
        cells += [_size(row.file_mb, row.paper_file_mb, ".1f")] if has_files else []
        rows.append(tuple(cells))
    is_paper = not table.number.startswith("beyond")
    return Table(
        title=f"Table {table.number}: {table.title}" if is_paper else table.title,
        note=_note(outcome, table),
        columns=tuple(columns),
        rows=tuple(rows),
        paragraphs=say_table(table),
    )


def _note(outcome: Outcome, table: TableResult) -> str:
    rows = [row.provenance for row in table.rows if row.provenance]
    devices = dict.fromkeys(device for row in rows for device in row.devices)
    said = [f"Ours: {outcome.data}, {table.measured_on}; {_seeds(outcome)}."]
    said += [f"Trained on {'; '.join(devices)}."] if devices else []
    common = _common_settings(table)
    said += [f"Other than in the presets: {', '.join(common)}."] if common else []
    said += [
        f"Intervals: 95 %, stratified bootstrap of {outcome.draws} draws over the images"
        + (
            ", of the mean over the seeds, whose standard deviation is given as ±"
            if outcome.seeds > 1
            else "; one seed, so the luck of a training is not in them"
        )
        + ".",
        "Within noise: the difference is at most 1.96 times the root of the summed squares of our "
        "standard error and of the paper's, which its test set's size gives.",
    ]
    return " ".join(said)


def _common_settings(table: TableResult) -> list[str]:
    """Returns the settings that all rows that were run have changed alike."""
    rows = [row.provenance.settings for row in table.rows if row.provenance]
    first: Sequence[str] = rows[0] if rows else ()
    return [text for text in first if all(text in settings for settings in rows)]


def _label(outcome: Outcome, row: RowResult, common: Collection[str]) -> tuple[str, str]:
    if row.provenance:
        return row.label, said_of_row(row.provenance, common)
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
        noise = "within noise" if cell.within_noise else "beyond noise"
        lines += [paper, f"{cell.difference:+.3f}, {noise}"]
    return value, "\n".join(lines)


def _size(ours: float | None, paper: int | None, form: str) -> tuple[str, str]:
    value = "-" if ours is None else f"{ours:{form}}"
    return value, "" if paper is None else f"paper {paper:,}"


def _leakage_table(outcome: Outcome) -> Table:
    return Table(
        title="What splitting after augmentation does",
        note=(
            "Both runs are equal but for the split, and for the training images that show a lesion "
            "of the test set, which the paper keeps; both chose their epoch on what they were "
            "validated on. The copies are not independent images, so the paper's split has no "
            f"interval. {outcome.data}, seed 0; 95 % bootstrap, {outcome.draws} draws."
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
        paragraphs=say_leakage(outcome.leakage),
    )


def _runs_table(outcome: Outcome) -> Table:
    said = [f"{what}: {why}" for what, why in outcome.failures.items()]
    waiting = dict.fromkeys(run.preset for run in outcome.runs if run.state == "waiting")
    said += [f"Planned and not finished: runs of {', '.join(waiting)}."] if waiting else []
    blind = f" Test predictions for scoring elsewhere: {len(outcome.blind)} folders under blind/."
    return Table(
        title="Runs",
        note="Seconds are those of the training itself." + (blind if outcome.blind else ""),
        columns=("Run", "state", "epochs", "seconds", "seconds per epoch"),
        rows=tuple(
            (
                (run.name, run.error or run.device),
                (_STATES.get(run.state, "finished"), ""),
                (str(run.epochs), ""),
                (f"{run.seconds:.0f}", ""),
                (f"{run.seconds / run.epochs:.1f}" if run.epochs else "-", ""),
            )
            for run in outcome.runs
            if run.state != "waiting" or run.epochs
        ),
        paragraphs=tuple(said),
    )


def _facts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    environment = outcome.environment
    versions = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items())
    devices = dict.fromkeys(run.device for run in outcome.runs if run.device)
    seconds = sum(run.seconds for run in outcome.runs)
    data = dict.fromkeys(
        summary
        for table in outcome.tables
        for row in table.rows
        if row.provenance
        for summary in row.provenance.data
    )
    return (
        ("Data", "; ".join(data) or outcome.data),
        ("Split", _split(outcome)),
        ("Seeds", ", ".join(map(str, range(outcome.seeds)))),
        ("Changed settings", ", ".join(outcome.overrides) or "none"),
        ("Trained on", "; ".join(devices) or "nothing yet"),
        ("Training", f"{seconds:.0f} s over all runs"),
        ("Bootstrap", f"{outcome.draws} draws"),
        ("Measured on", str(environment.get("machine", ""))),
        ("Versions", versions),
        ("Commit", str(environment.get("commit") or "unknown")),
    )


def _split(outcome: Outcome) -> str:
    classes, masks = (
        f"{count} folds" if count else "hold-out" for count in (outcome.folds, outcome.mask_folds)
    )
    return classes if classes == masks else f"{classes}; of the networks that only outline, {masks}"


def _seeds(outcome: Outcome) -> str:
    return "seed 0" if outcome.seeds == 1 else f"seeds 0 to {outcome.seeds - 1}"
