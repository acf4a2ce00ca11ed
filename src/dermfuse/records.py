"""Small files that somebody else wrote: read whole, of bounded size, and strictly.

Frozen records from parsed JSON, and a clear line where a value is missing or of another type.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

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


_T = TypeVar("_T")
_SHOWN_KEYS, _KEY_LETTERS = 8, 60


@dataclass(frozen=True, slots=True)
class JsonSource:
    """Where a record comes from, and how what is wrong with it is told.

    Args:
        name: The file, or the part of it, for messages.
        error: What is raised.
        open_ended: Whether keys that the record has not are passed over, and keys that have a
            default may be missing; else every key is there and no other.
    """

    name: str
    error: type[DermfuseError]
    open_ended: bool = False


def build_record(cls: type[_T], mapping: Mapping[str, Any], source: JsonSource) -> _T:
    """Returns a dataclass of parsed JSON, records, tuples and mappings of them inside it, too.

    Args:
        cls: A dataclass of annotated, JSON-like fields; a whole number is a float as well.
        mapping: The JSON object.
        source: Where it comes from.

    Raises:
        DermfuseError: ``source.error``: a key is missing or unknown, or a value of another type.

    Example:
        >>> from dermfuse.estimates import Estimate
        >>> source = JsonSource("it", DermfuseError)
        >>> build_record(Estimate, {"value": 0.5, "low": 0, "high": 1}, source)
        Estimate(value=0.5, low=0.0, high=1.0)
    """
    return _build(cls, mapping, source, "")


def _build(cls: type[_T], mapping: Mapping[str, Any], source: JsonSource, where: str) -> _T:
    hints = get_type_hints(cls)
    if not isinstance(mapping, Mapping) or (odd := _odd_keys(cls, mapping, source)):
        found = (
            f"{where or 'the record'} with {', '.join(_shown(odd))} missing or unknown"
            if (isinstance(mapping, Mapping))
            else f"{where or 'a record'} that is no object"
        )
        raise source.error(f"{source.name} has {found}", expected=f"the keys {', '.join(hints)}")
    values = {
        key: _value(mapping[key], hint, source, f"{where}.{key}".lstrip("."))
        for key, hint in hints.items()
        if key in mapping
    }
    return cls(**values)


def _shown(keys: Iterable[str]) -> list[str]:
    """Returns a few keys for a message; those that nobody would write by hand in quotes."""
    first = sorted(keys)[:_SHOWN_KEYS]
    return [
        key if key.isprintable() and len(key) <= _KEY_LETTERS else show_value(key) for key in first
    ]


def _odd_keys(cls: type, mapping: Mapping[str, Any], source: JsonSource) -> set[str]:
    if not source.open_ended:
        return mapping.keys() ^ {each.name for each in fields(cls)}
    needed = {each.name for each in fields(cls) if each.default is each.default_factory is MISSING}
    return needed - mapping.keys()


def _value(value: Any, hint: Any, source: JsonSource, where: str) -> Any:  # noqa: ANN401 — JSON
    origin = get_origin(hint)
    if origin is UnionType:  # X | None
        return None if value is None else _value(value, get_args(hint)[0], source, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, where)  # type: ignore[arg-type]
    if origin is tuple:
        _require(value, list, source, where)
        return tuple(_value(one, get_args(hint)[0], source, where) for one in value)
    if origin is Mapping:
        _require(value, dict, source, where)
        of = get_args(hint)[1]
        return {
            key: _value(one, of, source, f"{where}.{_shown([key])[0]}")
            for key, one in value.items()
        }
    if hint is float and type(value) in (int, float):
        return _finite(value, source, where)
    if hint is not Any:
        _require(value, hint, source, where)
    return value


def _finite(value: float, source: JsonSource, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise source.error(
            f"{source.name}: {where} is {show_value(value)}", expected="a finite number"
        )
    return number


def _require(value: object, wanted: Any, source: JsonSource, where: str) -> None:  # noqa: ANN401
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise source.error(
                f"{source.name}: {where} is {show_value(value)}",
                expected=f"one of {', '.join(map(str, get_args(wanted)))}",
            )
    elif type(value) is not wanted:
        raise source.error(
            f"{source.name}: {where} is a {type(value).__name__}", expected=f"a {wanted.__name__}"
        )
