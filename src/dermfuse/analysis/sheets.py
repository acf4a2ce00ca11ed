"""From ``results.jsonl`` to tables: ``results.csv``, ``errors.csv`` and the report's pages.

Every table is written by reading line after line; what is kept of an image meanwhile is its
probability and where its line begins, 16 bytes. Columns are whatever the records hold, flattened
in the order they appear: a field that is added to the record needs no change here.
"""

import csv
import io
import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dermfuse.analysis.journal import Journal
from dermfuse.report.folder import PAGE_ROWS, FolderPage, FolderSummary, ImageRow, render_folder
from dermfuse.runs import NOTICE, atomic_write, write_text
from dermfuse.words import UNLIKE, WITHHELD

RESULTS_CSV = "results.csv"
ERRORS_CSV = "errors.csv"
_MOST_ERRORS = 100  # on the report's first page; all stand in errors.csv
_MOST_NAMES = 100  # of what is withheld; all stand first in results.csv
_NOT_COLUMNS = ("file", "thumbnail")
_DETAILS = (
    "asymmetry",
    "colour_asymmetry",
    "compactness",
    "solidity",
    "border_step",
    "colour_count",
    "equivalent_diameter_px",
)
"""The measures that the report shows beside the uncertainty; the others stand in the tables."""
CLOSE = 0.5
"""A call is close within so many uncertainties of the threshold: about one in nine is, and half of
those change when the image is compressed, cropped, halved or lit a little (docs/library.md)."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(slots=True)
class Survey:
    """What one reading of all records tells.

    Attributes:
        columns: Of the flat table, in the order they appear.
        offsets: Where the line of each image that was analysed begins.
        withheld_names: The first of those that were withheld.
        probabilities: Of melanoma, as many; NaN where it was withheld.
        malignant: How many were called malignant.
        benign: How many were called benign.
        flagged: How many carry at least one flag.
        errors: Names and reasons of the first that failed.
        failed: How many failed.
        first: The first record, for what all have in common.
    """

    columns: dict[str, None] = field(default_factory=dict)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    probabilities: "array[float]" = field(default_factory=lambda: array("d"))
    withheld_names: list[str] = field(default_factory=list)
    malignant: int = 0
    benign: int = 0
    flagged: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    failed: int = 0
    first: dict[str, Any] | None = None

    @property
    def withheld(self) -> int:
        """How many were analysed and called neither."""
        return len(self.offsets) - self.malignant - self.benign


def survey(journal: Journal) -> Survey:
    """Returns the counts, the columns and the ranking of a journal's records."""
    found = Survey()
    for offset, record in journal.records():
        if "error" in record:
            found.failed += 1
            if len(found.errors) < _MOST_ERRORS:
                found.errors.append((record["name"], str(record["error"])))
            continue
        found.columns.update(dict.fromkeys(flatten(record)))
        found.offsets.append(offset)
        found.probabilities.append(_number(record.get("malignant_probability")))
        if _is_withheld(record) and len(found.withheld_names) < _MOST_NAMES:
            found.withheld_names.append(record["name"])
        found.malignant += record.get("predicted") == "malignant"
        found.benign += record.get("predicted") == "benign"
        found.flagged += bool(flags_of(record))
        found.first = found.first or record
    parents = {column.rpartition(".")[0] for column in found.columns}
    for column in parents & found.columns.keys():  # null here and an object there
        del found.columns[column]
    return found


def write_sheets(journal: Journal, found: Survey, out: Path) -> None:
    """Writes ``results.csv`` and, if anything failed, ``errors.csv``; an old one goes.

    What is withheld comes first: it needs eyes first.

    Raises:
        StorageError: They cannot be written.
    """
    columns = list(found.columns)
    rows = (
        [flat.get(column) for column in columns]
        for withheld in (True, False)
        for _, record in journal.records()
        if "error" not in record and _is_withheld(record) is withheld and (flat := flatten(record))
    )
    _write_csv(out / RESULTS_CSV, columns, rows)
    if found.failed:
        failures = (
            [record["name"], record["error"], NOTICE]
            for _, record in journal.records()
            if "error" in record
        )
        _write_csv(out / ERRORS_CSV, ["name", "error", "notice"], failures)
    else:
        (out / ERRORS_CSV).unlink(missing_ok=True)


def write_report(journal: Journal, found: Survey, out: Path, *, facts: Mapping[str, str]) -> int:
    """Writes ``report.html`` and, beyond 1,000 images, ``report-2.html`` and so on.

    Args:
        journal: The records.
        found: Their survey.
        out: The folder.
        facts: What the networks and settings were, in words.

    Returns:
        How many pages there are; pages of an earlier, longer report are removed.
    """
    probabilities = np.asarray(found.probabilities, dtype=np.float64)
    ranked = np.where(np.isnan(probabilities), np.inf, probabilities)  # withheld: eyes first
    order = np.argsort(-ranked, kind="stable")
    pages = max(1, math.ceil(len(order) / PAGE_ROWS))
    summary = _summary(found, facts)
    for number in range(1, pages + 1):
        shown = order[(number - 1) * PAGE_ROWS : number * PAGE_ROWS].tolist()
        rows = [image_row(journal.read(found.offsets[index])) for index in shown]
        page = FolderPage(summary, tuple(rows), number, pages, first_rank=(number - 1) * PAGE_ROWS)
        write_text(out / page_name(number), render_folder(page))
    remove_pages(out, beyond=pages)
    return pages


def remove_pages(out: Path, *, beyond: int) -> None:
    """Removes the pages of an earlier report that the results no longer have.

    Args:
        out: The results folder.
        beyond: The number of the last page that stays.
    """
    for path in out.glob("report*.html"):
        found = re.fullmatch(r"report(?:-([1-9][0-9]*))?\.html", path.name, re.ASCII)
        if found and int(found[1] or 1) > beyond:
            path.unlink(missing_ok=True)


def page_name(number: int) -> str:
    """Returns a page's file name: ``report.html``, ``report-2.html`` and so on."""
    return "report.html" if number == 1 else f"report-{number}.html"


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values as one row.

    Lists are joined; what only makes sense to a program (the thumbnail, the file's facts) is left
    out.

    Example:
        >>> flatten({"name": "a", "measures": {"asymmetry": 0.5}, "quality": ["blur", "hair"]})
        {'name': 'a', 'measures.asymmetry': 0.5, 'quality': 'blur; hair'}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if not prefix and key in _NOT_COLUMNS:
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, list):
            flat[f"{prefix}{key}"] = "; ".join(_word(each) for each in value)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def flags_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a reader should be careful about, in words.

    Example:
        >>> flags_of({"quality": ["blur"], "dermoscopy": False})
        ('blur', 'unlike the images learnt from')
        >>> flags_of({"malignant_probability": 0.4, "threshold": 0.5, "uncertainty": 0.2})
        ('close call',)
    """
    quality = record.get("quality") or []
    if isinstance(quality, Mapping):
        quality = [_raised(key, value) for key, value in quality.items()]
    flags = [_word(each).replace("_", " ") for each in quality if each]
    flags += ["close call"] * _is_close(record)
    flags += [UNLIKE] * (record.get("dermoscopy") is False)
    return tuple(flags)


def _is_close(record: Mapping[str, Any]) -> bool:
    """Whether the threshold lies within ``CLOSE`` uncertainties of the probability."""
    probability, threshold, uncertainty = (
        _number(record.get(key)) for key in ("malignant_probability", "threshold", "uncertainty")
    )
    return abs(probability - threshold) <= CLOSE * uncertainty


def _is_withheld(record: Mapping[str, Any]) -> bool:
    return record.get("malignant_probability") is None


def _raised(name: str, check: object) -> str:
    """Returns what a check says against an image; empty where it says nothing."""
    if isinstance(check, Mapping):
        return str(check.get("sentence") or name) if check.get("raised") is True else ""
    return name if check is True else ""


def image_row(record: Mapping[str, Any]) -> ImageRow:
    """Returns what the report shows of a record."""
    probability = _number(record.get("malignant_probability"))
    area = _number(record.get("lesion_area_fraction"))
    thumbnail, measures = record.get("thumbnail"), record.get("measures") or {}
    shown = {"uncertainty": record.get("uncertainty")} | {
        key: measures.get(key) for key in _DETAILS
    }
    return ImageRow(
        name=record["name"],
        probability=None if math.isnan(probability) else probability,
        predicted=str(record.get("predicted") or WITHHELD),
        area_fraction=None if math.isnan(area) else area,
        flags=flags_of(record),
        details=tuple(
            (key.replace("_", " "), f"{value:.3g}")
            for key, value in shown.items()
            if isinstance(value, int | float)
        ),
        thumbnail=thumbnail if isinstance(thumbnail, str) else "",
    )


def _summary(found: Survey, facts: Mapping[str, str]) -> FolderSummary:
    first = found.first or {}
    common = {
        "operating point": _shown(first.get("operating_point")),
        "threshold": _shown(first.get("threshold")),
    }
    known = {key: value for key, value in common.items() if value}
    return FolderSummary(
        malignant=found.malignant,
        benign=found.benign,
        withheld=found.withheld,
        flagged=found.flagged,
        failed=found.failed,
        errors=tuple((name, said.removeprefix(f"{name}: ")) for name, said in found.errors),
        facts=tuple({**known, **facts}.items()),
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_write(path) as handle:
        for line in _csv_lines(columns, rows):
            handle.write(line)


def _csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    buffer = io.StringIO()
    # A name may hold anything: what is not quoted can end a cell or a row, and begin a formula.
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([_cell(column) for column in columns])
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if buffer.tell() > 2**16:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: object) -> object:
    """Returns a cell; text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else _word(value)
    return f"{value:.4g}"
