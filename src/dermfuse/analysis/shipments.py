"""Images that are to be analysed as an Arrow table, and back, on another machine."""

# ruff: noqa: PLC0415 — pyarrow is an extra

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermfuse.analysis.lines import Work
from dermfuse.analysis.sources import Item

if TYPE_CHECKING:
    import pyarrow as pa


def pack_works(works: Sequence[Work], *, start: int) -> "pa.Table":
    """Returns one row per image: its number, name, path or bytes, fault, and facts.

    Args:
        works: The images; paths become absolute, for another process has another folder.
        start: Number of the first.
    """
    import pyarrow as pa

    sources = [work.item.source for work in works]
    return pa.table({
        "number": pa.array(range(start, start + len(works)), pa.int64()),
        "name": pa.array([work.item.name for work in works], pa.string()),
        "path": pa.array([_path_bytes(source) for source in sources], pa.binary()),
        "data": pa.array([s if isinstance(s, bytes) else None for s in sources], pa.large_binary()),
        "fault": pa.array([work.item.fault for work in works], pa.string()),
        "facts": pa.array([json.dumps(dict(work.facts)) for work in works], pa.string()),
    })  # fmt: skip


def unpack_works(table: "pa.Table") -> Iterator[Work]:
    """Yields the images of a table."""
    for row in table.to_pylist():
        data, path = row["data"], row["path"]
        source = data if path is None else Path(os.fsdecode(path))
        yield Work(Item(row["name"], source, row["fault"]), json.loads(row["facts"]))


def _path_bytes(source: Path | bytes) -> bytes | None:
    """Returns a path as the file system has it, which need not be UTF-8."""
    return None if isinstance(source, bytes) else os.fsencode(source.absolute())
