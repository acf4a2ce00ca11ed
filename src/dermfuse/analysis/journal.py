"""``results.jsonl``: a line for each image, made once, appended when it is done, found again.

A line is a JSON object: ``name``; ``file`` with what shows whether the image has changed (its
size, and its time or, without a path, its sha256); then either the record or ``error``, and
``final`` where the image ended its decoder, and would do so again. The process may be killed at
any time: a line is whole or, at the very end, torn, and a torn line is cut off when the file is
opened again.
"""

import errno
import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.inputs import Item, name_key
from dermfuse.errors import DecoderError, DermfuseError, RunError, StorageError
from dermfuse.imaging.reading import Read, read_any
from dermfuse.records.folders import NOTICE, atomic_write, lock

_NAME_ERRNOS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}
_LOG = logging.getLogger(__name__)

Analyze = Callable[[NDArray[np.uint8], str], Mapping[str, Any]]
"""From pixels and a name to a record of JSON values."""


@dataclass(frozen=True, slots=True)
class Work:
    """An image whose line is needed.

    Attributes:
        item: The image.
        facts: What shows whether it has changed; empty if nothing does.
        place: Where its line lies already; None if it has to be analysed.
    """

    item: Item
    facts: Mapping[str, Any]
    place: int | None = None


LineSource = Callable[[Iterator[Work]], Generator[bytes | int, None, None]]
"""Turns images into their lines, or the places where these lie, in order; draws them as needed."""


class Journal:
    """The results of a folder, open for reading and appending.

    Args:
        path: The file; it is made if it is missing.

    Attributes:
        count: How many lines there are.

    Raises:
        RunError: Another process has it open.
        StorageError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[int, int] = {}
        self.count = self._end = 0
        try:
            path.touch()
            self._file: BinaryIO = path.open("r+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a line that found no room has been reported; it is torn at most
            self._file.close()

    def find(self, name: str, facts: Mapping[str, Any]) -> int | None:
        """Returns where the record of an unchanged image lies, or None; most failures are none.

        Args:
            name: The image's name.
            facts: What ``file`` must say.
        """
        offset = self._offsets.get(name_key(name))
        if offset is None or not facts:
            return None
        record = self.read(offset)
        is_same = record["name"] == name and record.get("file") == facts
        return offset if is_same and ("error" not in record or record.get("final")) else None

    def read(self, offset: int) -> dict[str, Any]:
        """Returns the line that begins at an offset."""
        self._file.seek(offset)
        record: dict[str, Any] = json.loads(self._file.readline())
        return record

    def append(self, line: bytes) -> int:
        """Appends a line (without its end) and returns where it begins; it outlives a kill.

        Raises:
            StorageError: The disk is full, or the file has been removed.
        """
        offset = self._end
        try:
            self._file.seek(offset)
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self.require_place()
        self._end += len(line) + 1
        self.count += 1
        return offset

    def require_place(self) -> None:
        """Refuses to continue once the file is gone: what is written into it would be lost.

        Raises:
            StorageError: The file has been removed, or another is in its place.
        """
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return
        raise StorageError(
            f"{self._path} was removed while results were written into it",
            expected="a results folder that stays",
            action="Call again",
        )

    def arrange(self, offsets: "array[int]") -> "array[int]":
        """Leaves exactly the lines at these offsets, in their order, and returns where they begin.

        Nothing is written if that is how they lie already.
        """
        if self.count == len(offsets) and all(a < b for a, b in pairwise(offsets)):
            return offsets
        self.require_place()
        arranged, self._end = array("q"), 0
        with atomic_write(self._path) as target:
            for offset in offsets:
                self._file.seek(offset)
                arranged.append(self._end)
                self._end += target.write(self._file.readline())
        self._file.close()
        self._file = self._path.open("r+b")
        self._lock()
        self._offsets.clear()
        self.count = len(offsets)
        return arranged

    def _index(self) -> None:
        """Finds every name's last line, and cuts off what a kill has torn."""
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if (record := parse_line(line)) is not None:  # a damaged one is as good as none
                self._offsets[name_key(record["name"])] = self._end
            self._end += len(line)
            self.count += 1
        self._file.truncate(self._end)

    def _lock(self) -> None:
        """Keeps other processes out until the file is closed."""
        try:
            lock(self._file.fileno())
        except BlockingIOError as error:
            raise RunError(
                f"{self._path} is being written by another process",
                expected="one analysis at a time in a folder",
                action="Wait for it, or choose another folder",
            ) from error

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path} cannot be written ({error.strerror or error})",
            expected="a writable folder with free space",
            action="Choose another folder or free some space; what is done is kept",
        )


def parse_line(line: bytes) -> dict[str, Any] | None:
    r"""Returns a line's object; None if it is damaged, or cut off before its end.

    Example:
        >>> parse_line(b'{"name": "a.jpg"}\n'), parse_line(b'{"name": "a.j'), parse_line(b"[]\n")
        ({'name': 'a.jpg'}, None, None)
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    named = isinstance(record, dict) and isinstance(record.get("name"), str)
    return record if named and line.endswith(b"\n") else None


def file_facts(item: Item) -> dict[str, Any]:
    """Returns what shows whether an image has changed; empty if nothing does."""
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
        record = analyze(read(item.source, name=item.name), item.name)
        return _encode({**start, **record, **start})
    except DermfuseError as error:
        if isinstance(error, StorageError) and not _is_of_name(error):
            raise  # the disk is full, or the folder gone: so it is for every image
        return error_line(work, str(error), is_final=isinstance(error, DecoderError))
    except Exception as error:
        # One image must not end the work on 100,000, nor prevent continuing with it.
        _LOG.exception("%s: a fault of dermfuse itself", item.name)
        return error_line(work, describe_fault(error))


def error_line(work: Work, error: str, *, is_final: bool = False) -> bytes:
    """Returns the line of an image that could not be analysed.

    Args:
        work: The image.
        error: Why, in one line.
        is_final: Whether it is not tried again as long as the file stays as it is.
    """
    final = {"final": True} if is_final else {}
    return _encode({**_start(work), "error": error, **final, "notice": NOTICE})


def describe_fault(error: Exception) -> str:
    """Returns what is reported of an image over which dermfuse itself fails.

    Example:
        >>> describe_fault(ZeroDivisionError())
        'A fault of dermfuse itself (ZeroDivisionError). Please report it.'
    """
    return f"A fault of dermfuse itself ({type(error).__name__}). Please report it."


def _is_of_name(error: StorageError) -> bool:
    """Whether a file could not be written for its name alone: others can be."""
    cause = error.__cause__
    return isinstance(cause, ValueError) or getattr(cause, "errno", None) in _NAME_ERRNOS


def _start(work: Work) -> dict[str, Any]:
    return {"name": work.item.name, "file": dict(work.facts)}


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode()
