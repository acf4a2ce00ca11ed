"""A stress report as JSON, CSV and a page."""

import csv
import io
from dataclasses import fields
from pathlib import Path

from dermfuse.errors import RunError
from dermfuse.looks import describe_looks
from dermfuse.parsing import JsonSource, build_record
from dermfuse.report import Finding, Page, Table, render_page
from dermfuse.runs import new_folder, read_json, write_json, write_text
from dermfuse.stress.measure import ORIENTATIONS, StressReport, StressRow

JSON_NAME, CSV_NAME, PAGE_NAME = "stress.json", "stress.csv", "report.html"

COLUMNS = (
    "disturbance",
    "median shift",
    "95 % below",
    "mean change",
    "calls changed",
    "mask agreement",
    "refused",
)
"""Heads of the table."""


def write_stress(report: StressReport, out: Path) -> Path:
    """Writes the report into a new folder and returns its page.

    Raises:
        RunError: The folder holds something.
        StorageError: It cannot be written.
    """
    new_folder(out, what="stress report")
    write_json(out / JSON_NAME, report.to_dict())
    write_text(out / CSV_NAME, _render_csv(report))
    page = out / PAGE_NAME
    write_text(page, render_page(build_page(report)))
    return page


def read_stress(path: Path) -> StressReport:
    """Returns the report in a ``stress.json``.

    Raises:
        RunError: The file is missing, damaged, or holds no such report.
    """
    kept = {key: value for key, value in read_json(path).items() if key != "notice"}
    kept = {"looks": 1, **kept}  # a report from before there were looks is of one
    return build_record(StressReport, kept, JsonSource(str(path), RunError))


def build_page(report: StressReport) -> Page:
    """Returns the page of a report."""
    scored = [
        row for row in report.rows if row.mask_agreement is not None and row.name != ORIENTATIONS
    ]
    worst_call = max(scored, key=lambda row: row.calls_changed or 0.0)
    worst_mask = min(scored, key=lambda row: row.mask_agreement or 0.0)
    return Page(
        title="What disturbances do",
        lead=(
            f"{report.images} images were analysed with {report.release}, disturbed and analysed "
            "again. The lesions stayed what they are, so whatever moved is error; where the "
            "lesion was removed, the probability should fall and the outline should vanish."
        ),
        findings=(
            Finding(
                "Most calls changed by",
                worst_call.name,
                note=f"{_share(worst_call.calls_changed)} of calls; an image is called malignant "
                f"from a probability of {report.threshold:.3f} on.",
            ),
            Finding(
                "Outlines moved most by",
                worst_mask.name,
                note=f"Jaccard {worst_mask.mask_agreement:.2f} with the outline before; 1 where "
                "both are the same.",
            ),
            *_orientation_findings(report),
        ),
        tables=(
            Table(
                title="Each disturbance",
                note=(
                    f"{report.images - report.refused} images"
                    + (
                        f"; {report.refused} more were withheld to begin with"
                        if report.refused
                        else ""
                    )
                    + ". Shift: absolute change of the probability; of the orientations together, "
                    f"the largest less the smallest. Seed {report.seed}."
                ),
                columns=COLUMNS,
                rows=tuple(tuple((cell, "") for cell in table_row(row)) for row in report.rows),
                paragraphs=(),
            ),
        ),
        charts=(),
        examples=(),
        examples_note="",
        facts=(
            ("Networks", report.release),
            ("Threshold", f"{report.threshold:.3f}"),
            ("Looks", f"Each network looks at {describe_looks(report.looks)} of an image"),
        ),
    )


def say_orientations(report: StressReport) -> str:
    """Returns how often the orientation of an image decides its call; empty if not measured."""
    row = report.orientations
    if row is None:
        return ""
    return (
        "The call changes between the eight orientations in "
        f"{_share(row.calls_changed)} of scored images."
    )


def _orientation_findings(report: StressReport) -> tuple[Finding, ...]:
    row = report.orientations
    if row is None:
        return ()
    return (
        Finding(
            "Calls that depend on the orientation",
            _share(row.calls_changed),
            note=f"{say_orientations(report)} Half of them move by {_number(row.median_shift)} "
            "or more from the least to the most suspicious orientation.",
        ),
    )


def table_row(row: StressRow) -> tuple[str, ...]:
    """Returns a row of the table as text, as ``COLUMNS``."""
    return (
        row.name,
        _number(row.median_shift),
        _number(row.largest_shift),
        "-" if row.mean_change is None else f"{row.mean_change:+.3f}",
        _share(row.calls_changed),
        f"area x {row.still_outlined:.2f}"
        if row.mask_agreement is None
        else f"{row.mask_agreement:.3f}",
        _share(row.refused),
    )


def _render_csv(report: StressReport) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names = [field.name for field in fields(StressRow)]
    writer.writerow(names)
    for row in report.rows:
        values = [getattr(row, name) for name in names]
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
