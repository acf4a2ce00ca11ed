from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from dermfuse.errors import DataError
from dermfuse.records import Estimate, build_record, estimate_cells, parse_object


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
    kind: Literal["red", "green"] = "red"


@dataclass(frozen=True)
class Outer:
    names: tuple[str, ...]
    parts: Mapping[str, Inner]
    anything: Any = None
    inner: Inner | None = None


RECORD = {"names": ["a"], "parts": {"b": {"share": 1}}, "anything": [1]}


def test_records_within_records_are_built_and_unknown_keys_passed_over_if_asked_for() -> None:
    assert build_record(Outer, RECORD) == Outer(("a",), {"b": Inner(1.0)}, [1])
    more = RECORD | {"other": 1, "inner": {"share": 0, "blue": 1}}
    assert build_record(Outer, more, error=DataError, open_ended=True).inner == Inner(0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": "a"}, r"^it\.json: all\.names is 'a'\. Expected: a list\. Copy it\.$"),
        ({"names": ["a", 1]}, r"all\.names\.1 is 1\. Expected: a text"),
        ({"parts": {"a": {"share": 1}, "b": 1}}, r"parts\.b is 1\. Expected: a table"),
        ({"parts": {"b": {}}}, r"parts\.b\.share is missing\. Expected: the keys share, kind"),
        ({"parts": {"b": {"share": True}}}, r"parts\.b\.share is True\. Expected: a number"),
        ({"parts": {"b": {"share": 2}}}, r"b\.share is 2\. Expected: a number from 0 to 1"),
        ({"inner": {"share": 10**400}}, r"inner\.share is 1000.*\. Expected: a number from 0"),
        ({"inner": {"share": 1, "kind": "gren"}}, 'of red, green. Did you mean "green"'),
        ({"inner": {"share": 1, "knd": 1}}, r"no key .all\.inner\.knd.*Did you mean .kind."),
        ({"parts": {"\x1b": 1}}, r"parts\.'\\x1b' is 1"),
        ({"other": 1}, r'no key "all\.other"\. Expected: one of all\.names, all\.parts'),
    ],
)
def test_what_does_not_fit_is_named_with_its_keys(change: dict[str, Any], message: str) -> None:
    record = RECORD | change
    before = repr(record)
    with pytest.raises(DataError, match=message):
        build_record(Outer, record, "it.json", within="all", error=DataError, action="Copy it")
    assert repr(record) == before
    with pytest.raises(DataError, match=r"^it\.json: the record is 1\. Expected: a table"):
        build_record(Outer, 1, "it.json", error=DataError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [1, {"b": NaN}]}', r"it: a\.1\.b is nan\. Expected: a finite number"),
        ('{"a": 1e999}', "it: a is inf"),
        ('{"a": 1, "a": 1}', "the key 'a' is there twice"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested too deeply"),
    ],
)
def test_json_that_no_program_of_ours_writes_is_refused(content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_object(content.encode(), "it", error=DataError)


def test_a_number_is_said_with_its_interval_in_a_sentence_and_in_two_cells() -> None:
    found = Estimate(0.8123, -0.0049, 0.8423)
    assert f"{found:.3f}" == "0.812 (-0.005 to 0.842)"
    assert estimate_cells(found, "+.1f") == ("+0.8", "-0.0 to +0.8")
    assert estimate_cells(None) == ("undefined", "")
