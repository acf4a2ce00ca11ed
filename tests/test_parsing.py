from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dermfuse.errors import DataError
from dermfuse.records import JsonSource, build_record

STRICT, OPEN = (JsonSource("it.json", DataError, open_ended=each) for each in (False, True))


@dataclass(frozen=True)
class Inner:
    share: float


@dataclass(frozen=True)
class Outer:
    names: tuple[str, ...]
    parts: Mapping[str, Inner]
    anything: Any = None
    inner: Inner | None = None


RECORD = {"names": ["a"], "parts": {"b": {"share": 1}}, "anything": [1], "inner": None}


def test_records_within_records_are_built() -> None:
    assert build_record(Outer, RECORD, STRICT) == Outer(("a",), {"b": Inner(1.0)}, [1])


def test_an_open_record_passes_over_what_it_does_not_know_and_has_defaults() -> None:
    record = {"names": [], "parts": {}, "other": 1}
    assert build_record(Outer, record, OPEN) == Outer((), {})
    with pytest.raises(DataError, match=r"anything, inner, other missing or unknown"):
        build_record(Outer, record, STRICT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": "a"}, r"it\.json: names is a str\. Expected: a list"),
        ({"names": [1]}, r"names is a int\. Expected: a str"),
        ({"parts": []}, r"parts is a list\. Expected: a dict"),
        ({"parts": {"b": 1}}, r"parts\.b that is no object"),
        ({"parts": {"b": {"share": True}}}, r"parts\.b\.share is a bool\. Expected: a float"),
    ],
)
def test_a_value_of_another_type_is_named(change: dict[str, Any], message: str) -> None:
    for source in (STRICT, OPEN):
        with pytest.raises(DataError, match=message):
            build_record(Outer, RECORD | change, source)
