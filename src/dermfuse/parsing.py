"""Frozen records from parsed JSON, and a clear line where a value is missing or of another type."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from dermfuse.errors import DermfuseError
from dermfuse.records import show_value

_T = TypeVar("_T")
_SHOWN_KEYS, _SHOWN_LETTERS = 8, 60


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
        >>> from dermfuse.release.operating import Rate
        >>> build_record(Rate, {"value": 0.5, "low": 0, "high": 1}, JsonSource("it", DermfuseError))
        Rate(value=0.5, low=0.0, high=1.0)
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
        key if key.isprintable() and len(key) <= _SHOWN_LETTERS else show_value(key)
        for key in first
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
