"""Paths on a command line to the images they stand for, lazily and in a stable order.

    a file      itself, whatever its suffix
    a folder    the files below it with an image's suffix or ``.dcm``, and DICOM files without a
                suffix, by name; images of kinds that are not read (HEIC, say) are items, too, so
                that each is listed as a failure; links to folders are not followed; hidden files
                and what dermfuse wrote itself are left out
    a list      what its rows name: a ``.csv`` or ``.parquet`` file with a column ``path`` and
                perhaps ``name``
    ``-``       the bytes of one image on standard input

Names are those a reader would use: relative to the folder if one is given, those of the list if
one is given, else with as many parts of the paths as tell them apart. What is named twice comes
once; what a list names is not looked for elsewhere.

Relative paths in a list are relative to its folder. Without a column ``name`` an image is called
as its path is written, without what leads out of that folder: ``..`` and a leading slash.
"""

import csv
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from dermfuse.errors import DataError, DependencyError, installing
from dermfuse.imaging import preprocess
from dermfuse.imaging.preprocess import is_plain_file
from dermfuse.imaging.reading import MAX_BYTES, SNIFFED, is_dicom

SUFFIXES = preprocess.SUFFIXES | {".dcm", ".dicom"}
"""What a file in a folder must end in, in either case, to be taken for an image."""
STANDARD_INPUT = "-"
_STANDARD_INPUT_NAME = "standard input"
_NOT_READ = frozenset((".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl"))
_LISTS = (".csv", ".parquet", ".pq")
_EXPECTED = "a column path and perhaps name, one row per image"
_OUR_FOLDERS = ("analysis.json", "predictions.json")  # what a folder of our outputs holds
_WRITTEN_OUT = re.compile(r"\\x[89a-f][0-9a-f]")  # what ``file_name_text`` makes of bytes
_FOREIGN = "__MACOSX"  # a Mac's archives keep previews there under the images' names


@dataclass(frozen=True, slots=True)
class Item:
    """One image to be analysed.

    Attributes:
        name: Unique among the items of one call; UTF-8, whatever the file system holds.
        source: Where it lies, or its bytes.
        fault: Why it cannot even be read, in one line; empty where nothing is known against it.
    """

    name: str
    source: Path | bytes
    fault: str = ""


def expand(paths: Sequence[str | Path], *, skip: Path | None = None) -> Iterator[Item]:
    """Returns the images behind some paths, one by one.

    The arguments, lists among them, are checked at once; folders are read while the items are
    drawn, one folder's names in memory at a time.

    Args:
        paths: Files, folders, lists, or ``-``, which is read when its turn comes.
        skip: A folder that is left out wherever it lies: the one that is written to.

    Raises:
        DataError: Nothing is given, a path does not exist, a list cannot be used, or (while
            drawing) a folder holds no image.
        DependencyError: A list is Parquet and pyarrow is not installed.
    """
    if not paths:
        raise DataError("no image is named", expected="files, folders, lists, or - for stdin")
    given = _labelled(_without_repeats([_given(Path(path)) for path in paths]))
    for each in given:
        if each.is_list:
            for _ in _rows(each.path):
                pass
    return _draw(given, skip.resolve() if skip is not None else None)


def is_list(path: Path) -> bool:
    """Returns whether a file is a list, by its suffix.

    Example:
        >>> is_list(Path("archive.CSV")), is_list(Path("lesion.png"))
        (True, False)
    """
    return path.suffix.lower() in _LISTS


def name_key(name: str) -> int:
    """Returns a number for a name: a third of the memory of 100,000 long names."""
    written = name.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest())


def file_name_text(name: str) -> str:
    r"""Returns a file name as UTF-8, another one for each name.

    Bytes that are no UTF-8 are written out, as in ``\xff``. A name that reads like that already
    has its backslashes doubled, so that two files never share a name.

    Example:
        >>> file_name_text("a\udcff.jpg"), file_name_text("a\\xff.jpg"), file_name_text("a\\b.jpg")
        ('a\\xff.jpg', 'a\\\\xff.jpg', 'a\\b.jpg')
    """
    written = os.fsencode(name)
    text = written.decode("utf-8", "backslashreplace")
    if _WRITTEN_OUT.search(text) is None:
        return text
    return written.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class _Given:
    """One argument.

    Attributes:
        path: The path that was given.
        real: Its absolute path, links resolved.
        is_folder: Whether it is one.
        is_list: Whether it is one.
        prefix: What its items' names begin with; empty for the only folder or list.
    """

    path: Path
    real: Path
    is_folder: bool = False
    is_list: bool = False
    prefix: str = ""


def _given(path: Path) -> _Given:
    if str(path) == STANDARD_INPUT:
        return _Given(path, path)
    try:
        path.stat()
        real = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in it; links in a circle
        missing = isinstance(error, FileNotFoundError | ValueError)
        found = "is missing" if missing else f"cannot be read ({getattr(error, 'strerror', error)})"
        raise DataError(
            f"{path} {found}",
            expected="an image, a folder of images, or - for standard input",
            action="Check the path",
        ) from error
    is_folder = path.is_dir()
    return _Given(path, real, is_folder, is_list=not is_folder and is_list(path))


def _without_repeats(given: Sequence[_Given]) -> list[_Given]:
    """Drops arguments that were given before, and what lies in a folder that is given, too."""
    first = {each.real: each for each in reversed(given)}
    folders = {each.real for each in given if each.is_folder}
    return [each for each in given if first[each.real] is each and not _is_found(each, folders)]


def _is_found(each: _Given, folders: set[Path]) -> bool:
    """Whether an argument will be met in a folder that is given: there, it needs none."""
    parent = next((parent for parent in each.real.parents if parent in folders), None)
    if parent is None or each.is_folder:
        return parent is not None
    below = each.real.relative_to(parent).parts
    return _is_image(below[-1]) and not any(map(_is_hidden, below))


def _labelled(given: list[_Given]) -> list[_Given]:
    """Gives each argument as many parts of its path as tell it from the others."""
    if len(given) == 1 and (given[0].is_folder or given[0].is_list):
        return given
    for depth in range(1, 1 + max(len(each.real.parts) for each in given)):
        labels = [PurePath(*each.real.parts[-depth:]) for each in given]
        parents = {parent for label in labels for parent in label.parents}
        if len(set(labels)) == len(labels) and parents.isdisjoint(labels):
            break
    texts = (file_name_text(label.as_posix().lstrip("/")) for label in labels)
    return [
        replace(each, prefix=f"{text}/" if each.is_folder or each.is_list else text)
        for each, text in zip(given, texts, strict=True)
    ]


def _draw(given: Sequence[_Given], skip: Path | None) -> Iterator[Item]:
    alone = {each.real for each in given if not each.is_folder}
    for each in given:
        if str(each.path) == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
            fault = f"{_STANDARD_INPUT_NAME}: more than {MAX_BYTES:,} bytes. Shrink the image."
            yield Item(_STANDARD_INPUT_NAME, data, fault if len(data) > MAX_BYTES else "")
        elif each.is_list:
            for number, name, where in _rows(each.path):
                image = each.path.parent / where
                fault = f"{name}: no file {image} (row {number} of {each.path.name})."
                fault = "" if is_plain_file(image) else fault.encode(errors="replace").decode()
                yield Item(f"{each.prefix}{name}", image, fault)
        elif not each.is_folder:
            yield Item(each.prefix, each.path)
        else:
            found = False
            for item, real in _walk(each.path, each.real, each.prefix, skip):
                found = True
                if real not in alone:
                    yield item
            if not found:
                raise DataError(
                    f"the folder {each.path} holds no image",
                    expected="files that end in " + ", ".join(sorted(SUFFIXES)),
                    action="Name another folder, or the files themselves",
                )


def _walk(folder: Path, real: Path, prefix: str, skip: Path | None) -> Iterator[tuple[Item, Path]]:
    """Yields the images below a folder with their real paths: its own, then its folders'.

    Raises:
        DataError: The only folder that is given cannot be read.
    """
    waiting = [(folder, real, prefix)]
    while waiting:  # no recursion: it ends at 1,000 levels
        folder, real, prefix = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                kinds = sorted(_kept(entries))
        except OSError as error:
            found = f"{file_name_text(str(folder))}: the folder cannot be read ({error.strerror})"
            refused = DataError(found, action="Check its permissions")
            if not prefix:
                raise refused from error
            yield Item(prefix, folder, str(refused)), real
            continue
        below = []
        for is_folder, name in kinds:
            text = f"{prefix}{file_name_text(name)}"
            if not is_folder:
                yield Item(text, folder / name), real / name
            elif real / name != skip and not _is_ours(folder / name):
                below.append((folder / name, real / name, f"{text}/"))
        waiting += reversed(below)


def _kept(entries: Iterable["os.DirEntry[str]"]) -> Iterator[tuple[bool, str]]:
    """Yields whether an entry is a folder, and its name; files come before folders."""
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield True, entry.name
        elif _is_image(entry.name):
            if not os.path.isdir(entry.path):  # noqa: PTH112 — a link; 100,000 Paths are slow
                yield False, entry.name
        elif _is_nameless_dicom(entry.path):
            yield False, entry.name


def _is_nameless_dicom(path: str) -> bool:
    """Whether a file without a suffix, or with a number for one, is DICOM, as archives name it."""
    suffix = os.path.splitext(path)[1]  # noqa: PTH122 — 100,000 Paths are slow
    if (suffix and not suffix[1:].isdigit()) or not os.path.isfile(path):  # noqa: PTH113
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return is_dicom(file.read(SNIFFED))
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == _FOREIGN


def _is_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 — 100,000 Paths are slow
    return suffix in SUFFIXES or suffix in _NOT_READ


def _is_ours(folder: Path) -> bool:
    try:
        return any((folder / name).exists() for name in _OUR_FOLDERS)
    except OSError:  # too deep, or closed to us: reading it fails with a reason
        return False


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields the number, from 1, the name and the path of each row; what stands twice comes once.

    Raises:
        DataError: The list cannot be read, has no column ``path`` or no rows, a path is empty, a
            name leads out of a folder or stands for two paths.
        DependencyError: It is Parquet and pyarrow is not installed.
    """
    seen: dict[int, int] = {}
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _parquet_rows(path)
    for number, row in enumerate(rows, start=1):
        at, where = f"{path}, row {number}", row.get("path")
        if not isinstance(where, str) or not where.strip():
            raise DataError(f"{at}: no path", expected="the path of an image in every row")
        name = str(row["name"] or "") if "name" in row else _below(where)
        if not name or name != _below(name):
            found = f"{at}: the name {name!r}"
            raise DataError(found, expected="one that can stand below a folder")
        key, place = name_key(name), name_key(where)
        if key not in seen:
            seen[key] = place
            yield number, name, where
        elif seen[key] != place:
            raise DataError(f"{at}: the name {name!r} again", expected="one name for each path")
    if not seen:
        raise DataError(f"{path} names no image", expected=_EXPECTED)


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} is not a plain file", expected=f"a list: {_EXPECTED}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _require_path(path, reader.fieldnames or ())
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    if find_spec("pyarrow") is None:
        raise DependencyError(
            f"{path} is a Parquet file, and pyarrow is not installed here",
            action=f"{installing('ray')}, or use a CSV file",
        )
    import pyarrow as pa  # noqa: PLC0415 — an extra
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require_path(path, names)
            wanted = [name for name in ("path", "name") if name in names]
            for batch in file.iter_batches(columns=wanted):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _require_path(path: Path, columns: Sequence[str]) -> None:
    if "path" not in columns:
        found = ", ".join(columns) or "no columns"
        raise DataError(f"{path} has {found}", expected=_EXPECTED)


def _below(text: str) -> str:
    """Returns a path as it can stand below a folder; no file has a NUL in its name."""
    text = text.replace("\0", "\\x00")
    return "/".join(part for part in PurePath(text).parts if part not in ("/", "//", ".."))


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return DataError(f"{path} cannot be read ({reason})", expected=f"a list: {_EXPECTED}")
