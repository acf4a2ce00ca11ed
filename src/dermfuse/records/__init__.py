"""Small files that somebody else wrote, read whole, of bounded size and strictly: JSON and TOML.

Parsed values become frozen records; a key that is unknown or missing, or a value of another type,
is reported in one line. The record of a number with its interval is here, too.
"""

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from dermfuse.errors import ConfigError, DermfuseError, RunError

MOST_RECORD_BYTES = 64 << 20
"""Of a record; the largest that dermfuse writes has a few megabytes."""
_MOST_TOML_BYTES = 1 << 20  # the presets have a few hundred

_DEEPEST = 64  # levels of a record; dermfuse writes fewer than ten
_SHOWN_LETTERS = 60
_ALWAYS_FINITE = frozenset((int, str, bool, type(None)))
_T = TypeVar("_T")
_MOST_SHOWN = 40  # keys of a record, for a message; the largest table has fewer
_KINDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "a table of keys and values",
    "str": "a text",
}
"""What msgspec calls a type, and how a message calls it."""
_TOO_LARGE = ("Number out of range", "a finite number")


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
        most_bytes: The largest size that is read.
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
            expected = "a file of that name"
            action = action or "Check its name and its folder's"
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
        DermfuseError: ``error``: it is no JSON object, names a key twice, holds NaN or an infinite
            number, or is nested too deeply.
    """
    try:
        record = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
        odd = not_finite(record) if isinstance(record, dict) else None
    except RecursionError as caught:
        raise error(
            f"{name} is nested too deeply", expected=f"{_DEEPEST} levels or fewer", action=action
        ) from caught
    except ValueError as caught:
        raise error(
            f"{name} cannot be read ({caught})", expected="a JSON object", action=action
        ) from caught
    if odd:
        raise error(f"{name}: {odd[0]} is {odd[1]}", expected="a finite number", action=action)
    if not isinstance(record, dict):
        raise error(
            f"{name} holds a {type(record).__name__}", expected="a JSON object", action=action
        )
    return record


def require_format(
    record: Mapping[str, Any], version: int, source: str, *, error: type[DermfuseError], action: str
) -> dict[str, Any]:
    """Returns an object without its format and notice, or refuses one of another format.

    Args:
        record: The JSON object.
        version: The format that is read.
        source: The file, for messages.
        error: What is raised.
        action: What the user can do.

    Raises:
        DermfuseError: ``error``: it is of another format.
    """
    if record.get("format") != version:
        raise error(
            f"{source} has format {show_value(record.get('format'))}",
            expected=f"format {version}",
            action=action,
        )
    return {key: value for key, value in record.items() if key not in ("format", "notice")}


def not_finite(
    value: Mapping[str, Any] | Sequence[Any],
    where: Sequence[object] = (),
    *,
    deepest: int = _DEEPEST,
) -> tuple[str, float] | None:
    """Returns the first number in plain values that JSON cannot hold, after where it stands.

    Args:
        value: Records, lists and numbers within each other.
        where: The keys that lead to it.
        deepest: How many levels it may have.

    Raises:
        RecursionError: It has more.

    Example:
        >>> not_finite({"rows": [{"loss": 1.0}, {"loss": math.nan}]})
        ('rows.1.loss', nan)
    """
    if deepest == 0:
        raise RecursionError
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, part in parts:
        if type(part) in _ALWAYS_FINITE:
            continue
        if isinstance(part, float):
            if not math.isfinite(part):
                return _path((*where, key)), part
        elif isinstance(part, dict | list | tuple):
            found = not_finite(part, (*where, key), deepest=deepest - 1)
            if found:
                return found
    return None


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the tables of a TOML file.

    Raises:
        ConfigError: The file is missing, too large, or no TOML.
    """
    content = read_plain(path, most_bytes=_MOST_TOML_BYTES, error=ConfigError)
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error})", expected="a TOML file") from error


def packaged_names(folder: str) -> tuple[str, ...]:
    """Returns the names of the TOML files in a folder of the package."""
    names = (entry.name for entry in (resources.files("dermfuse") / folder).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_packaged(folder: str, name: str) -> dict[str, Any]:
    """Returns the tables of a TOML file of the package.

    Args:
        folder: ``presets`` or ``plans``.
        name: The file's, without its suffix.

    Raises:
        ConfigError: There is none of that name, with the nearest one.
    """
    known = packaged_names(folder)
    if name not in known:
        raise ConfigError(
            f'no {folder.removesuffix("s")} is called "{name}"',
            expected=f"one of {', '.join(known)}, or a file that ends in .toml",
            action=did_you_mean(name, known),
        )
    text = (resources.files("dermfuse") / folder / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def build_record(
    cls: type[_T],
    mapping: Any,  # noqa: ANN401 — JSON or TOML
    source: str = "",
    *,
    within: str = "",
    error: type[DermfuseError] = ConfigError,
    open_ended: bool = False,
    action: str = "",
) -> _T:
    """Returns a dataclass of parsed JSON or TOML; what has a default may be left out.

    Args:
        cls: A dataclass, or a ``TypedDict``, of plain values and of records, tuples and mappings
            of them. A limit (``msgspec.Meta``) says in its description what is expected.
        mapping: The object or table.
        source: The file, for messages.
        within: The keys that lead to the object in its file, for messages.
        error: What is raised.
        open_ended: Whether unknown keys are passed over, not refused.
        action: What the user can do.

    Raises:
        DermfuseError: ``error``: a key is missing, or unknown (with the nearest one); or a value
            is of another type or out of range.

    Example:
        >>> from dermfuse.records import Estimate
        >>> build_record(Estimate, {"value": 0.5, "low": 0, "high": 1})
        Estimate(value=0.5, low=0.0, high=1.0)
    """
    start = f"{source}: " if source else ""
    outer = [within] if within else []
    try:
        record: Any = msgspec.convert(mapping, cls)
    except msgspec.ValidationError as caught:
        where, found, expected, nearest = _explain(cls, mapping, str(caught))
        place = _path([*outer, *where]) or "the record"
        raise error(
            f"{start}{place} {found}", expected=expected, action=nearest or action
        ) from caught
    if not open_ended and (unknown := _unknown_key(mapping, asdict(record))):
        where, known = unknown
        raise error(
            f'{start}there is no key "{_path([*outer, *where])}"',
            expected=f"one of {', '.join(_path([*outer, *where[:-1], key]) for key in known)}",
            action=did_you_mean(str(where[-1]), known) or action,
        )
    return cast("_T", record)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns an error's action that names the nearest of the known words; empty if none is near.

    Example:
        >>> did_you_mean("epoch", ["epochs", "seed"])
        'Did you mean "epochs"?'
    """
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f'Did you mean "{nearest[0]}"?' if nearest else ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; a number that is not defined is None, not an estimate.

    Args:
        value: As measured.
        low: The interval's lower end.
        high: The interval's upper end.

    Example:
        >>> found = Estimate(0.8123, 0.7723, 0.8423)
        >>> f"{found:.3f}", found.interval(".2f")
        ('0.812 (0.772 to 0.842)', '0.77 to 0.84')
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ({self.interval(spec)})"

    def interval(self, spec: str) -> str:
        """Returns the interval in words, each end in the format ``spec``."""
        return f"{self.low:{spec}} to {self.high:{spec}}"


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A number of A and of B, on the same images.

    Args:
        a: The number of A.
        b: The number of B.
        difference: A less B.
        p_value: Two-sided, of "no difference"; None where the test has no answer.
    """

    a: float
    b: float
    difference: Estimate
    p_value: float | None


def estimate_cells(estimate: Estimate | None, spec: str = ".3f") -> tuple[str, str]:
    """Returns a number and its interval as two cells of a table.

    Args:
        estimate: None where it is not defined.
        spec: The format of each number; ``+.3f`` writes the sign always.
    """
    if estimate is None:
        return "undefined", ""
    return f"{estimate.value:{spec}}", estimate.interval(spec)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {show_value(twice)} is there twice")
    return record


def _path(keys: Sequence[object]) -> str:
    """Returns the keys that lead to a value; those that nobody would write by hand in quotes."""
    texts = [str(key) for key in keys]
    is_plain = [text.isprintable() and len(text) <= _SHOWN_LETTERS for text in texts]
    return ".".join(t if plain else show_value(t) for t, plain in zip(texts, is_plain, strict=True))


def _unknown_key(
    given: object, kept: object, where: Sequence[object] = ()
) -> tuple[list[object], list[str]] | None:
    """Returns the first key that a record has not kept, after those on its way, and those kept."""
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        if odd := [key for key in given if key not in kept]:
            return [*where, odd[0]], list(kept)[:_MOST_SHOWN]
        pairs = [(key, value, kept[key]) for key, value in given.items()]
    elif isinstance(given, list | tuple) and isinstance(kept, list | tuple):
        pairs = [(key, *both) for key, both in enumerate(zip(given, kept, strict=True))]
    else:
        return None
    found = (_unknown_key(value, left, (*where, key)) for key, value, left in pairs)
    return next(filter(None, found), None)


def _explain(cls: type, mapping: object, said: str) -> tuple[list[object], str, str, str]:
    """Returns where a value does not fit, what is found there, what is expected, the nearest."""
    message, _, path = said.partition(" - at `$")
    keys: list[object] = []
    limits: list[msgspec.Meta] = []
    value: Any = mapping
    hint: Any = cls
    for part in re.findall(r"\.{3}|\w+", path):
        is_entry = part == "..."  # msgspec leaves out which
        hint = _hints(hint)[part] if isinstance(hint, type) else get_args(hint)[is_entry]
        key = next(k for k, entry in value.items() if not _fits(entry, hint)) if is_entry else part
        hint = get_args(hint)[0] if get_origin(hint) in (UnionType, Union) else hint
        hint, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        value = value[int(key) if isinstance(value, list | tuple) else key]
        keys.append(key)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", message):
        return [*keys, missing[1]], "is missing", f"the keys {', '.join(_hints(hint))}", ""
    found, choices = f"is {show_value(value)}", [str(choice) for choice in get_args(hint)]
    if get_origin(hint) is Literal:
        nearest = did_you_mean(str(value), choices)
        return keys, found, f"one of {', '.join(choices)}", nearest
    if limits and limits[0].description and ", got " not in message:
        return keys, found, limits[0].description, ""
    expected = re.sub(r"^Expected |, got .*", "", message).replace(*_TOO_LARGE)
    expected = re.sub(r"\w+", lambda kind: _KINDS.get(kind[0], kind[0]), expected)
    return keys, found, expected.replace("`", "").replace(" | ", " or "), ""


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 — a type, or one with limits
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True
