import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.errors import RunError
from dermfuse.folders import NOTICE
from dermfuse.publishing.stress import (
    COLUMNS,
    StressReport,
    StressRow,
    read_stress,
    say_orientations,
    table_row,
    write_stress,
)

ROWS = (
    StressRow("hair", "hair", 10, 0.1, 0.02, 0.1, 0.01, 0.2, 0.9, 1.1),
    StressRow("blur", "blur", 10, 0.0, 0.03, 0.2, -0.02, 0.1, 0.8, 1.0),
    StressRow("orientations", "orientation", 10, 0.1, 0.05, 0.3, 0.01, 0.3, 0.95, 1.0),
    StressRow("lesion removed", "control", 10, 1.0, None, None, None, None, None, 0.25),
)
REPORT = StressReport("small", 12, 2, 0.5, 0, 8, ROWS)


def test_the_report_is_written_three_times_over(tmp_path: Path) -> None:
    page = write_stress(REPORT, tmp_path / "out").read_text()
    assert NOTICE in page
    assert "hair" in page
    assert "2 more were withheld" in page
    assert "Jaccard 0.80 with the outline before" in page
    record = json.loads((tmp_path / "out" / "stress.json").read_text())
    assert record["rows"][1]["mask_agreement"] == 0.8
    with (tmp_path / "out" / "stress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["hair", "blur", "orientations", "lesion removed"]
    assert rows[3]["median_shift"] == ""


def test_the_orientations_have_a_sentence_of_their_own(tmp_path: Path) -> None:
    page = write_stress(REPORT, tmp_path / "out").read_text()
    said = "The call changes between the eight orientations in 30.0 % of scored images."
    assert say_orientations(REPORT) == said
    assert said in page
    assert "Each network looks at 8 orientations of an image" in page
    assert "20.0 % of calls" in page, "the most calls that one disturbance changes"
    without = replace(REPORT, rows=ROWS[:2])
    assert say_orientations(without) == ""
    assert "eight orientations" not in write_stress(without, tmp_path / "without").read_text()


def test_a_report_from_before_there_were_looks_is_of_one(tmp_path: Path) -> None:
    write_stress(REPORT, tmp_path / "out")
    path = tmp_path / "out" / "stress.json"
    assert read_stress(path) == REPORT
    record = json.loads(path.read_text())
    del record["looks"]
    path.write_text(json.dumps(record))
    assert read_stress(path).looks == 1


def test_what_was_not_measured_is_a_dash() -> None:
    assert len(COLUMNS) == len(table_row(ROWS[0]))
    assert table_row(ROWS[0])[3:] == ("+0.010", "20.0 %", "0.900", "10.0 %")
    assert table_row(ROWS[-1]) == ("lesion removed", "-", "-", "-", "-", "area x 0.25", "100.0 %")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RunError, match="not empty"):
        write_stress(REPORT, tmp_path)
