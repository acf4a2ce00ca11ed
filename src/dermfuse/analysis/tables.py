"""From ``results.jsonl`` to tables: ``results.csv``, ``errors.csv`` and the report's pages.

Every table is written by reading line after line; what is kept of an image meanwhile is its
probability and where its line begins, 16 bytes. Columns are whatever the records hold, flattened
in the order they appear: a field that is added to the record needs no change here.

What of an analysis goes into a results folder: its record, a thumbnail, overlays, a mask.

One image to one line of results: what a thread and a worker on another machine do alike.
"""

import base64
import csv
import errno
import hashlib
import io
import json
import logging
import math
import os
import re
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.inputs import Item
from dermfuse.analysis.journal import Journal, name_key
from dermfuse.analysis.records import Analysis
from dermfuse.errors import DecoderError, DermfuseError, StorageError
from dermfuse.folders import (
    NAME_BYTES,
    NOTICE,
    atomic_write,
    folders_below,
    remove_file,
    short_name,
    write_text,
)
from dermfuse.imaging.overlays import draw_outline, encode_png
from dermfuse.imaging.preprocess import write_mask
from dermfuse.imaging.reading import Read, read_any
from dermfuse.report.folder import PAGE_ROWS, FolderSummary, ImageRow, render_folder
from dermfuse.report.words import UNLIKE, WITHHELD

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
        page = render_folder(summary, rows, number=number, pages=pages)
        write_text(out / page_name(number), page)
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


_NAME_ERRNOS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}
_LOG = logging.getLogger(__name__)


class Record(Protocol):
    """What is known of one image."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values; ``thumbnail`` may be the bytes of a JPEG."""


Analyze = Callable[[NDArray[np.uint8], str], Record]


@dataclass(frozen=True, slots=True)
class Work:
    """An image that is to be analysed.

    Attributes:
        item: The image.
        facts: What tells whether it has changed; empty if it cannot be told.
    """

    item: Item
    facts: Mapping[str, Any]


LineSource = Callable[[Iterator[Work]], Generator[bytes, None, None]]
"""Turns images into their lines, in order; draws them as it needs them."""


def file_facts(item: Item) -> dict[str, Any]:
    """Returns what tells whether an image has changed; empty if it cannot be told."""
    if isinstance(item.source, bytes):
        digest = hashlib.sha256(item.source).hexdigest()
        return {"bytes": len(item.source), "sha256": digest}
    try:
        state = item.source.stat()
    except (OSError, ValueError):
        return {}
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def make_line(work: Work, analyze: Analyze, read: Read = read_any) -> bytes:
    """Returns an image's line; whatever is wrong with the image becomes its ``error``.

    Args:
        work: The image.
        analyze: Takes its pixels and name.
        read: Takes its source and name.

    Raises:
        StorageError: What is written for an image finds no room, or no folder.
    """
    item, start = work.item, _start(work)
    if item.fault:
        return error_line(work, item.fault)
    try:
        record = analyze(read(item.source, name=item.name), item.name).to_dict()
        return _encode({**start, **record, **start})
    except StorageError as error:
        if not _is_of_name(error):
            raise  # the disk is full, or the folder gone: so it is for every image
        return error_line(work, str(error))
    except DecoderError as error:
        return error_line(work, str(error), is_final=True)
    except DermfuseError as error:
        return error_line(work, str(error))
    except Exception as error:
        # One image must not end the work on 100,000, nor stand in the way of going on with it.
        _LOG.exception("%s: a fault of dermfuse itself", item.name)
        return error_line(work, describe_fault(error))


def _is_of_name(error: StorageError) -> bool:
    """Whether a file could not be written for its name alone: others can be."""
    cause = error.__cause__
    return isinstance(cause, ValueError) or getattr(cause, "errno", None) in _NAME_ERRNOS


def describe_fault(error: Exception) -> str:
    """Returns what is said of an image over which dermfuse itself fails.

    Example:
        >>> describe_fault(ZeroDivisionError())
        'A fault of dermfuse itself (ZeroDivisionError). Please report it.'
    """
    return f"A fault of dermfuse itself ({type(error).__name__}). Please report it."


def error_line(work: Work, error: str, *, is_final: bool = False) -> bytes:
    """Returns the line of an image that could not be analysed.

    Args:
        work: The image.
        error: Why, in one line.
        is_final: Whether it is not tried again as long as the file stays as it is.
    """
    final = {"final": True} if is_final else {}
    return _encode({**_start(work), "error": error, **final, "notice": NOTICE})


def plain(value: object) -> object:
    """Returns as JSON values what JSON has none for: bytes, NumPy's numbers, paths.

    Raises:
        TypeError: It is something else.

    Example:
        >>> plain(np.float32(0.5)), plain(b"ab")
        (0.5, 'YWI=')
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} has no JSON value")


def _start(work: Work) -> dict[str, Any]:
    return {"name": work.item.name, "file": dict(work.facts)}


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False, default=plain).encode()


_MASKS, _OVERLAYS_FOLDER, _PICTURE = "masks", "overlays", ".png"
_OVERLAYS = ("outline", "activation")
_NAME_BYTES = 230  # a suffix takes 15; atomic_write shortens the unfinished file's name itself
_PATH_BYTES = 1500  # of 4,096 that a path may have, the results folder's own included
THUMBNAIL_PX = 160
"""Longer side of the pictures in a report."""

_THUMBNAIL_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Summary:
    """An analysis as a line of results: no outline, which the overlays show, but a thumbnail.

    Attributes:
        analysis: Of one image.
        thumbnail: Whether a small picture of it is part of the record.
    """

    analysis: Analysis
    thumbnail: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the record."""
        record = self.analysis.to_dict(with_outline=False)
        if self.thumbnail:
            record["thumbnail"] = draw_thumbnail(self.analysis.image, self.analysis.mask)
        return record


@dataclass(frozen=True, slots=True)
class Pictures:
    """Which pictures of an analysis are written, beside its line of results.

    Attributes:
        results: The results folder.
        overlays: Whether outline and activation map over the image are.
        masks: Whether the lesion's mask is.
    """

    results: Path
    overlays: bool = False
    masks: bool = False

    def write(self, analysis: Analysis) -> None:
        """Writes them; of what is withheld none, and what an earlier analysis left is removed.

        Raises:
            StorageError: They cannot be written.
        """
        if self.overlays:
            for what, drawn in (
                ("outline", analysis.contour_overlay()),
                ("activation", analysis.activation_overlay()),
            ):
                path = overlay_file(self.results, analysis.name, what)
                if drawn is None:
                    remove_file(path)
                    continue
                self._make_room(path)
                with atomic_write(path) as file:
                    file.write(encode_png(drawn))
        if self.masks:
            path = mask_file(self.results, analysis.name)
            if analysis.mask is None:
                remove_file(path)
                return
            self._make_room(path)
            write_mask(path, analysis.mask)

    def keep(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Removes the pictures of all but some images: of those that are no longer given, say.

        Args:
            records: The lines of results that stay; those that failed or are withheld have none.

        Returns:
            How many pictures were removed.

        Raises:
            StorageError: One cannot be removed.
        """
        if not self.overlays and not self.masks:
            return 0
        kept: set[int] = set()
        for record in records:
            if "error" in record or record.get("malignant_probability") is None:
                continue
            name = record["name"]
            paths = [overlay_file(self.results, name, what) for what in _OVERLAYS]
            kept.update(name_key(str(path)) for path in (*paths, mask_file(self.results, name)))
        return sum(_keep_of(self.results / folder, kept) for folder in (_MASKS, _OVERLAYS_FOLDER))

    def _make_room(self, path: Path) -> None:
        """Makes the folders of a picture, but never the results folder: someone removed it.

        Raises:
            StorageError: They cannot be made.
        """
        below = path.parent.relative_to(self.results)
        try:
            for parent in (*reversed(below.parents[:-1]), below):
                (self.results / parent).mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path.parent} cannot be made ({error.strerror or error})",
                expected="a results folder that stays, with free space",
                action="Call again to go on with what is done",
            ) from error


def overlay_file(results: Path, name: str, what: str) -> Path:
    """Returns where an overlay of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.
        what: ``outline`` or ``activation``.
    """
    return results / _OVERLAYS_FOLDER / f"{_short(name)}.{what}{_PICTURE}"


def mask_file(results: Path, name: str) -> Path:
    """Returns where the mask of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.

    Example:
        >>> mask_file(Path("results"), "ISIC_0000003.jpg").as_posix()
        'results/masks/ISIC_0000003.jpg.png'
    """
    return results / _MASKS / f"{_short(name)}{_PICTURE}"


def _keep_of(folder: Path, kept: set[int]) -> int:
    """Removes the pictures below a folder that are not kept, and folders that are empty then."""
    removed = 0
    for where in reversed(folders_below(folder)):
        paths = list(where.iterdir())
        gone = [
            path
            for path in paths
            if path.suffix == _PICTURE and name_key(str(path)) not in kept and not path.is_dir()
        ]
        for path in gone:
            remove_file(path)
        removed += len(gone)
        if len(gone) == len(paths):
            where.rmdir()
    return removed


def _short(name: str) -> str:
    """Returns a name to which a suffix can be added.

    A last part of many bytes is shortened; where the folders before it are long in all, they are
    left out, for a path has its limit as a name has. A folder called like a picture gets a stroke
    more, for the picture of an image beside it may be called so: ``a.jpg`` and ``a.jpg.png/``.
    """
    *folders, last = name.split("/")
    name = "/".join([*map(_folder_name, folders), last])
    folder, stroke, last = name.rpartition("/")
    if len(name.encode(errors="surrogatepass")) > _PATH_BYTES:
        return short_name(f"{last}/{name}", most_bytes=_NAME_BYTES).replace("/", "-")
    return f"{folder}{stroke}{short_name(last, most_bytes=_NAME_BYTES)}"


def _folder_name(name: str) -> str:
    r"""Returns a folder's name, which never ends like a picture's.

    Example:
        >>> [_folder_name(name) for name in ("nevi", "a.jpg.png", "a.jpg.png_")]
        ['nevi', 'a.jpg.png_', 'a.jpg.png__']
    """
    if not name.rstrip("_").lower().endswith(_PICTURE):
        return name
    return short_name(f"{name}_", most_bytes=NAME_BYTES)


def summarize_with(
    analyzer: Analyzer, *, thumbnail: bool, pictures: Pictures | None = None
) -> Analyze:
    """Returns a function from pixels and a name to a summary.

    Args:
        analyzer: Asked about every image.
        thumbnail: Whether the summaries have one.
        pictures: What else is written; None writes nothing.
    """

    def summarize(image: NDArray[np.uint8], name: str) -> Summary:
        analysis = analyzer.analyze(image, name=name)
        if pictures is not None:
            pictures.write(analysis)
        return Summary(analysis, thumbnail=thumbnail)

    return summarize


def draw_thumbnail(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> bytes:
    """Returns a small JPEG of an image with the lesion outlined.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W); None draws no outline.
    """
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    if mask is not None:
        grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
        small = draw_outline(small, np.asarray(grey.resize(size, Image.Resampling.BOX)) >= 128)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()
