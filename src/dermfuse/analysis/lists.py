"""Lists of images: a CSV or Parquet file with a column ``path`` and, if it likes, ``name``.

Relative paths are relative to the list's folder. Without a column ``name`` an image is called as
its path is written, without what leads out of the list's folder: ``..`` and a stroke in front.
"""

# ruff: noqa: PLC0415 — pyarrow is an extra

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from dermfuse.analysis.journal import name_key
from dermfuse.errors import DataError, DependencyError, installing
from dermfuse.preprocess import is_plain_file

PATH_COLUMN = "path"
NAME_COLUMN = "name"

_CSV, _PARQUET = (".csv",), (".parquet", ".pq")
_EXPECTED = f"a column {PATH_COLUMN} and perhaps {NAME_COLUMN}, one row per image"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a list.

    Attributes:
        name: Of the image; unique in the list.
        path: Where it lies.
        fault: That there is no such file, in one line; empty where there is one.
    """

    name: str
    path: Path
    fault: str = ""


def is_list(path: Path) -> bool:
    """Returns whether a file is a list, by its suffix.

    Example:
        >>> is_list(Path("archive.CSV")), is_list(Path("lesion.png"))
        (True, False)
    """
    return path.suffix.lower() in (*_CSV, *_PARQUET)


def check_list(path: Path) -> None:
    """Reads a list once and refuses one that cannot be used; looks at none of its images.

    Raises:
        DataError: It cannot be read, has no column ``path`` or no rows, a path is empty, a name
            leads out of a folder or stands for two paths.
        DependencyError: It is Parquet and pyarrow is not installed.
    """
    seen: dict[int, int] = {}
    for number, name, where in _rows(path):
        if not name or name != _below(name) or "\0" in name:
            raise _refusal(path, number, f"the name {name!r}", "one that can stand below a folder")
        if seen.setdefault(name_key(name), name_key(where)) != name_key(where):
            raise _refusal(path, number, f"the name {name!r} again", "one name for each path")
    if not seen:
        raise DataError(f"{path} names no image", expected=_EXPECTED)


def read_list(path: Path) -> Iterator[Entry]:
    """Yields the images of a list that ``check_list`` has passed; what stands twice comes once."""
    seen: set[int] = set()
    for number, name, where in _rows(path):
        if (key := name_key(name)) in seen:
            continue
        seen.add(key)
        image = path.parent / where
        missing = f"{name}: no file {image} (row {number} of {path.name})."
        fault = "" if is_plain_file(image) else missing.encode(errors="replace").decode()
        yield Entry(name, image, fault)


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields the number, from 1, the name and the path of each row."""
    rows = _csv_rows(path) if path.suffix.lower() in _CSV else _parquet_rows(path)
    for number, row in enumerate(rows, start=1):
        where = row.get(PATH_COLUMN)
        if not isinstance(where, str) or not where.strip():
            raise _refusal(path, number, "no path", "the path of an image in every row")
        name = row.get(NAME_COLUMN) if NAME_COLUMN in row else _below(where)
        yield number, str(name or ""), where


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} is not a plain file", expected=f"a list: {_EXPECTED}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _require_column(path, reader.fieldnames or ())
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    if find_spec("pyarrow") is None:
        raise DependencyError(
            f"{path} is a Parquet file, and pyarrow is not installed here",
            action=f"{installing('ray')}, or use a CSV file",
        )
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require_column(path, names)
            wanted = [name for name in (PATH_COLUMN, NAME_COLUMN) if name in names]
            for batch in file.iter_batches(columns=wanted):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _require_column(path: Path, columns: Any) -> None:  # noqa: ANN401 — of either library
    if PATH_COLUMN not in columns:
        found = ", ".join(map(str, columns)) or "no columns"
        raise DataError(f"{path} has {found}", expected=_EXPECTED)


def _below(text: str) -> str:
    """Returns a path as it can stand below a folder; no file has a NUL in its name."""
    text = text.replace("\0", "\\x00")
    return "/".join(part for part in PurePath(text).parts if part not in ("/", "//", ".."))


def _refusal(path: Path, number: int, found: str, expected: str) -> DataError:
    return DataError(f"{path}, row {number}: {found}", expected=expected)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return DataError(f"{path} cannot be read ({reason})", expected=f"a list: {_EXPECTED}")
