import json
import logging
import sys

from dermfuse.server.log import render


def fail(causes: dict[str, int]) -> None:
    try:
        causes["patient"]
    except KeyError as error:
        raise ValueError("patient") from error


def test_a_line_is_json_with_the_trace_and_without_what_an_exception_says() -> None:
    try:
        fail({})
    except ValueError:
        record = logging.LogRecord(
            "n", logging.ERROR, "p", 1, "fault\npatient", None, sys.exc_info()
        )
    record.facts = {"request_id": "7"}
    line = render(record)
    assert "patient" not in line
    found = json.loads(line)
    assert (found["level"], found["event"], found["request_id"]) == ("error", "fault", "7")
    assert "ValueError" in found["trace"]
    assert "KeyError" in found["trace"]
    assert any("test_log.py" in step for step in found["trace"])
