"""Small files that somebody else wrote: read whole, of bounded size, and strictly."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermfuse.errors import DermfuseError, RunError

MOST_RECORD_BYTES = 64 << 20
"""Of a record; the largest that dermfuse writes has a few megabytes."""

_DEEPEST = 64  # levels of a record; dermfuse writes fewer than ten
_SHOWN_LETTERS = 60


def show_value(value: object) -> str:
    r"""Returns a value for a message: on one line, without control characters, not too long.

    Example:
        >>> show_value("a" + chr(27) + "[2J"), len(show_value("x" * 1000))
        ("'a\\x1b[2J'", 63)
    """
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN_LETTERS else f"{shown[:_SHOWN_LETTERS]}..."


def read_plain(
    path: Path, *, most_bytes: int, error: type[DermfuseError] = RunError, action: str = ""
) -> bytes:
    """Returns the content of a plain file; pipes and devices are never opened.

    Args:
        path: The file.
        most_bytes: That it may have.
        error: What is raised.
        action: What the user can do.

    Raises:
        DermfuseError: ``error``: the file is missing, is no plain file, too large or unreadable.
    """
    expected = "a plain file"
    try:
        if path.is_file():
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size  # a read of the limit would allocate it
                if size <= most_bytes and len(content := file.read(size + 1)) <= most_bytes:
                    return content
            found = f"{path} is too large"
            expected = f"{most_bytes >> 20:,} MiB or less"
        elif path.exists():
            found = f"{path} is no file"
        else:
            found = f"{path} is missing"
            expected = f"a folder with {path.name}"
            action = action or "Check the folder's name"
    except (OSError, ValueError) as caught:  # ValueError: a NUL in the name
        reason = getattr(caught, "strerror", None) or caught
        raise error(f"{path} cannot be read ({reason})", expected=expected, action=action) from (
            caught
        )
    raise error(found, expected=expected, action=action)


def parse_object(
    content: bytes, name: str, *, error: type[DermfuseError] = RunError, action: str = ""
) -> dict[str, Any]:
    """Returns the JSON object in ``content``: each key once, numbers as JSON has them.

    Args:
        content: UTF-8.
        name: Where it is from, for messages.
        error: What is raised.
        action: What the user can do.

    Raises:
        DermfuseError: ``error``: it is no JSON object, names a key twice, or is nested too deeply.
    """
    try:
        record = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        _require_shallow(record)
    except RecursionError as caught:
        raise error(
            f"{name} is nested too deeply", expected=f"{_DEEPEST} levels or fewer", action=action
        ) from caught
    except ValueError as caught:
        raise error(
            f"{name} cannot be read ({caught})", expected="a JSON object", action=action
        ) from caught
    if not isinstance(record, dict):
        raise error(
            f"{name} holds a {type(record).__name__}", expected="a JSON object", action=action
        )
    return record


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {show_value(twice)} is there twice")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _require_shallow(record: object) -> None:
    level = [record]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise RecursionError
