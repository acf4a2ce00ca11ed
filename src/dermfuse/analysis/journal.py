"""``results.jsonl``: one line per image, appended as they are finished, and found again.

A line is a JSON object: ``name``; ``file`` with what tells whether the image has changed (its
size, and its time or, without a path, its sha256); then either the record or ``error``, and
``final`` where the image ended its decoder, and would do so again. The process may be killed at
any time: a line is whole or, at the very end, torn, and a torn line is cut off when the file is
opened again.
"""

import hashlib
import json
import os
import sys
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

from dermfuse.errors import RunError, StorageError
from dermfuse.folders import atomic_write


class Journal:
    """The results of a folder, open for reading and appending.

    Args:
        path: The file; it is made if it is missing.

    Raises:
        RunError: Another process has it open.
        StorageError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch()
            self._file: BinaryIO = path.open("r+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._offsets: dict[int, int] = {}
            self._lines = 0
            self._end = 0
            self._index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a line that found no room has been told of; it is torn at most
            self._file.close()

    def find(self, name: str, facts: Mapping[str, Any]) -> int | None:
        """Returns where the record of an unchanged image lies, or None; most failures are none.

        Args:
            name: Of the image.
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
        self._lines += 1
        return offset

    def require_place(self) -> None:
        """Refuses to go on once the file is gone: what is written into it would be lost.

        Raises:
            StorageError: The file has been removed, or another is in its place.
        """
        try:
            here = self._path.stat()
        except OSError as error:
            raise self._removed() from error
        if not os.path.samestat(here, os.fstat(self._file.fileno())):
            raise self._removed()

    def _removed(self) -> StorageError:
        return StorageError(
            f"{self._path} was removed while results were written into it",
            expected="a results folder that stays",
            action="Call again",
        )

    def arrange(self, offsets: "array[int]") -> int:
        """Leaves exactly the lines at these offsets, in their order.

        Nothing is written if that is how they lie already.

        Returns:
            How many lines were dropped: superseded, or of images that are no longer given.
        """
        dropped = self._lines - len(offsets)
        ordered = all(a < b for a, b in pairwise(offsets))
        if dropped == 0 and ordered:
            return 0
        self.require_place()
        with atomic_write(self._path) as target:
            for offset in offsets:
                self._file.seek(offset)
                target.write(self._file.readline())
        self._file.close()
        self._file = self._path.open("r+b")
        self._lock()
        self._offsets.clear()
        self._lines, self._end = len(offsets), self._path.stat().st_size
        return dropped

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields every line with its offset, in order, one in memory at a time."""
        offset = 0
        while offset < self._end:
            self._file.seek(offset)
            line = self._file.readline()
            if (record := parse_line(line)) is not None:  # a damaged one is as good as none
                yield offset, record
            offset += len(line)

    def _index(self) -> None:
        """Finds every name's last line, and cuts off what a kill has torn."""
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self._end += len(line)
            self._lines += 1
        self._file.truncate(self._end)
        for offset, record in self.records():
            self._offsets[name_key(record["name"])] = offset

    def _lock(self) -> None:
        """Keeps other processes out until the file is closed; Windows has no such lock."""
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 — POSIX alone has it

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
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


def name_key(name: str) -> int:
    """Returns a number for a name: a third of the memory of 100,000 long names."""
    written = name.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest())
