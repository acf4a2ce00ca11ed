"""What is made of ``results.jsonl``: ``results.csv``, ``errors.csv``, report pages and pictures.

Columns, counts and order of tables and pages are noted while the lines pass, 8 bytes an image; then
each reads the lines it shows once. Columns are whatever the records hold, flattened in the order
they appear: a field that is added to the record needs no change here. Overlays and masks of an
image lie beside them, its thumbnail in its line.
"""

import base64
import csv
import io
import json
import math
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.inputs import name_key
from dermfuse.analysis.journal import Analyze, Journal
from dermfuse.analysis.records import Analysis
from dermfuse.errors import StorageError
from dermfuse.imaging.geometry import reduce_image, reduce_mask
from dermfuse.imaging.overlays import draw_outline, encode_png
from dermfuse.imaging.preprocess import write_mask
from dermfuse.records.folders import (
    NAME_BYTES,
    NOTICE,
    atomic_write,
    folders_below,
    remove_file,
    short_name,
    write_text,
)
from dermfuse.report import UNLIKE, WITHHELD
from dermfuse.report.folder import PAGE_ROWS, FolderSummary, ImageRow, render_folder

_MOST_NAMED = 100  # of what failed or is withheld; all stand in the tables
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
_WITHHELD_RANK, _FAILED_RANK = math.inf, -math.inf

_PICTURES = {
    "mask": ("masks", ".png"),
    "outline": ("overlays", ".outline.png"),
    "activation": ("overlays", ".activation.png"),
}
"""The folder of each kind of picture, and what its name ends in."""
_NAME_BYTES = 230  # a suffix takes 15; atomic_write shortens the unfinished file's name itself
_PATH_BYTES = 1500  # of 4,096 that a path may have, the results folder's own included
THUMBNAIL_PX = 160
"""Longer side of the pictures in a report."""

_THUMBNAIL_QUALITY = 75


@dataclass(slots=True)
class Tables:
    """What the tables of a results folder need to know of all its records.

    Attributes:
        columns: Those of the flat table, in the order they appear.
        ranks: The probability of each line; infinite where it was withheld, which needs eyes
            first, and below all others where the image failed.
        malignant: How many were called malignant.
        benign: How many were called benign.
        flagged: How many carry at least one flag.
        withheld: The names of the first that were withheld.
        errors: Names and reasons of the first that failed.
    """

    columns: dict[str, None] = field(default_factory=dict)
    ranks: "array[float]" = field(default_factory=lambda: array("d"))
    malignant: int = 0
    benign: int = 0
    flagged: int = 0
    withheld: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """Notes what the tables need of the next line."""
        if "error" in record:
            self.ranks.append(_FAILED_RANK)
            if len(self.errors) < _MOST_NAMED:
                self.errors.append((record["name"], str(record["error"])))
            return
        probability = record.get("malignant_probability")
        self.ranks.append(_WITHHELD_RANK if probability is None else probability)
        if probability is None and len(self.withheld) < _MOST_NAMED:
            self.withheld.append(record["name"])
        self.columns.update(dict.fromkeys(flatten(record)))
        self.malignant += record.get("predicted") == "malignant"
        self.benign += record.get("predicted") == "benign"
        self.flagged += bool(flags_of(record))

    def write(
        self,
        journal: Journal,
        offsets: Sequence[int],
        out: Path,
        *,
        facts: Mapping[str, str] | None,
    ) -> int:
        """Writes ``results.csv``, ``errors.csv`` if anything failed, and the report.

        Args:
            journal: Holds the lines.
            offsets: Where they begin, in the order they were added.
            out: The results folder.
            facts: What the networks and settings were, in words; without them there is no report.

        Returns:
            How many pages the report has: 1, and one more for each 1,000 images. What an earlier
            call has left and these results have not goes.

        Raises:
            StorageError: A file cannot be written.
        """
        self._write_sheets(journal, offsets, out)
        pages = 0 if facts is None else self._write_report(journal, offsets, out, facts)
        remove_pages(out, beyond=pages)
        return pages

    def _write_sheets(self, journal: Journal, offsets: Sequence[int], out: Path) -> None:
        """Writes both CSV files; what is withheld comes first: it needs eyes first."""
        parents = {column.rpartition(".")[0] for column in self.columns}
        columns = [each for each in self.columns if each not in parents]  # null here, object there
        ranks = np.asarray(self.ranks)
        order = np.argsort(ranks != _WITHHELD_RANK, kind="stable").tolist()
        records = (journal.read(offsets[i]) for i in order if ranks[i] != _FAILED_RANK)
        rows = ([flat.get(each) for each in columns] for flat in map(flatten, records))
        _write_csv(out / "results.csv", columns, rows)
        if not self.errors:
            remove_file(out / "errors.csv")
            return
        failed = (journal.read(offsets[i]) for i in order if ranks[i] == _FAILED_RANK)
        reasons = ([each["name"], each["error"], NOTICE] for each in failed)
        _write_csv(out / "errors.csv", ["name", "error", "notice"], reasons)

    def _write_report(
        self, journal: Journal, offsets: Sequence[int], out: Path, facts: Mapping[str, str]
    ) -> int:
        counts = self.counts
        ranks = np.asarray(self.ranks)
        shown = len(ranks) - counts["failed"]
        order = np.argsort(-ranks, kind="stable")[:shown].tolist()
        errors = [(name, said.removeprefix(f"{name}: ")) for name, said in self.errors]
        summary = FolderSummary(
            **counts, flagged=self.flagged, errors=tuple(errors), facts=tuple(facts.items())
        )
        starts = range(0, max(1, shown), PAGE_ROWS)
        for number, start in enumerate(starts, start=1):
            page = order[start : start + PAGE_ROWS]
            rows = [image_row(journal.read(offsets[index])) for index in page]
            text = render_folder(summary, rows, number=number, pages=len(starts))
            write_text(out / page_name(number), text)
        return len(starts)

    @property
    def counts(self) -> dict[str, int]:
        """How many were called malignant and benign, were withheld, and failed."""
        failed = self.ranks.count(_FAILED_RANK)
        withheld = len(self.ranks) - failed - self.malignant - self.benign
        called = {"malignant": self.malignant, "benign": self.benign}
        return called | {"withheld": withheld, "failed": failed}


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
        >>> flatten({"name": "a", "measures": {"asymmetry": 0.5}, "warnings": ["blur", "hair"]})
        {'name': 'a', 'measures.asymmetry': 0.5, 'warnings': 'blur; hair'}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        column = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update({} if column in _NOT_COLUMNS else flatten(value, f"{column}."))
        elif isinstance(value, list):
            words = (each if isinstance(each, str) else json.dumps(each) for each in value)
            flat[column] = "; ".join(words)
        elif column not in _NOT_COLUMNS:
            flat[column] = value
    return flat


def flags_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a reader should be careful about, in words.

    Example:
        >>> flags_of({"quality": {"blur": {"raised": True, "sentence": "It is blurred."}}})
        ('It is blurred.',)
        >>> flags_of({"malignant_probability": 0.4, "threshold": 0.5, "uncertainty": 0.2})
        ('close call',)
    """
    checks = record.get("quality", {}).values()
    flags = [check["sentence"] for check in checks if check["raised"]]
    if (uncertainty := record.get("uncertainty")) is not None:
        apart = abs(record["malignant_probability"] - record["threshold"])
        flags += ["close call"] * (apart <= CLOSE * uncertainty)
    return (*flags, *[UNLIKE] * (record.get("dermoscopy") is False))


def image_row(record: Mapping[str, Any]) -> ImageRow:
    """Returns what the report shows of a record."""
    measures = record.get("measures") or {}
    shown = [("uncertainty", record.get("uncertainty"))]
    shown += [(key, measures.get(key)) for key in _DETAILS]
    return ImageRow(
        name=record["name"],
        probability=record.get("malignant_probability"),
        predicted=record.get("predicted") or WITHHELD,
        area_fraction=record.get("lesion_area_fraction"),
        flags=flags_of(record),
        details=tuple(
            (key.replace("_", " "), f"{value:.3g}") for key, value in shown if value is not None
        ),
        thumbnail=record.get("thumbnail", ""),
    )


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
        drawn: dict[str, NDArray[Any] | None] = {}
        if self.overlays:
            drawn["outline"] = analysis.contour_overlay()
            drawn["activation"] = analysis.activation_overlay()
        if self.masks:
            drawn["mask"] = analysis.mask
        for kind, pixels in drawn.items():
            path = picture_file(self.results, analysis.name, kind)
            if pixels is None:
                remove_file(path)
                continue
            self._require_results()
            if kind == "mask":
                write_mask(path, pixels)
                continue
            with atomic_write(path) as file:
                file.write(encode_png(pixels))

    def keep(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Removes the pictures of all but some images: of those that are no longer given, say.

        Args:
            records: The lines of results that stay; those that failed or are withheld have none.

        Raises:
            StorageError: One cannot be removed.
        """
        if not self.overlays and not self.masks:
            return
        kept = {
            name_key(str(picture_file(self.results, record["name"], kind)))
            for record in records
            if record.get("malignant_probability") is not None
            for kind in _PICTURES
        }
        for folder in {folder for folder, _ in _PICTURES.values()}:
            _keep_of(self.results / folder, kept)

    def _require_results(self) -> None:
        """Refuses to make the results folder again: someone removed it."""
        if not self.results.is_dir():
            raise StorageError(
                f"{self.results} was removed while results were written into it",
                expected="a results folder that stays",
                action="Call again",
            )


def picture_file(results: Path, name: str, kind: str) -> Path:
    """Returns where a picture of an image lies in a results folder.

    Args:
        results: The folder.
        name: The image's, as its line of results has it.
        kind: ``mask``, ``outline`` or ``activation``.

    Example:
        >>> picture_file(Path("results"), "ISIC_0000003.jpg", "mask").as_posix()
        'results/masks/ISIC_0000003.jpg.png'
    """
    folder, ending = _PICTURES[kind]
    return results / folder / f"{_short(name)}{ending}"


def summarize_with(
    analyzer: Analyzer, *, thumbnail: bool, pictures: Pictures | None = None
) -> Analyze:
    """Returns a function from pixels and a name to a record: no outline, perhaps a thumbnail.

    Args:
        analyzer: Asked about every image.
        thumbnail: Whether the records have one.
        pictures: What else is written; None writes nothing.
    """

    def summarize(image: NDArray[np.uint8], name: str) -> dict[str, Any]:
        analysis = analyzer.analyze_pixels(image, name)
        if pictures is not None:
            pictures.write(analysis)
        record = analysis.to_dict(with_outline=False)
        if thumbnail:
            small = draw_thumbnail(analysis.image, analysis.mask)
            record["thumbnail"] = base64.b64encode(small).decode()
        return record

    return summarize


def draw_thumbnail(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> bytes:
    """Returns a small JPEG of an image with the lesion outlined.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W); None draws no outline.
    """
    small = reduce_image(image, long_side_px=THUMBNAIL_PX).image
    if mask is not None:
        small = draw_outline(small, reduce_mask(mask, long_side_px=THUMBNAIL_PX))
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_write(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
        # A name may hold anything: what is not quoted can end a cell or a row, and begin a formula.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(map(_cell, columns))
        writer.writerows(map(_cell, row) for row in rows)
        text.detach()


def _cell(value: object) -> object:
    """Returns a cell; text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _keep_of(folder: Path, kept: set[int]) -> None:
    """Removes the pictures below a folder that are not kept, and folders that are empty then."""
    for where in reversed(folders_below(folder)):
        left = 0
        for path in where.iterdir():
            if path.suffix == ".png" and name_key(str(path)) not in kept and not path.is_dir():
                remove_file(path)
            else:
                left += 1
        if not left:
            where.rmdir()


def _short(name: str) -> str:
    """Returns a name to which a suffix can be added.

    A last part of many bytes is shortened; where the folders before it are long in all, they are
    left out, for a path has its limit as a name has. A folder called like a picture gets one more
    ``_``, for the picture of an image beside it may be called so: ``a.jpg`` and ``a.jpg.png/``.
    """
    *folders, last = name.split("/")
    name = "/".join([*map(_folder_name, folders), last])
    folder, slash, last = name.rpartition("/")
    if len(name.encode(errors="surrogatepass")) > _PATH_BYTES:
        return short_name(f"{last}/{name}", most_bytes=_NAME_BYTES).replace("/", "-")
    return f"{folder}{slash}{short_name(last, most_bytes=_NAME_BYTES)}"


def _folder_name(name: str) -> str:
    r"""Returns a folder's name, which never ends like a picture's.

    Example:
        >>> [_folder_name(name) for name in ("nevi", "a.jpg.png", "a.jpg.png_")]
        ['nevi', 'a.jpg.png_', 'a.jpg.png__']
    """
    if not name.rstrip("_").lower().endswith(".png"):
        return name
    return short_name(f"{name}_", most_bytes=NAME_BYTES)
