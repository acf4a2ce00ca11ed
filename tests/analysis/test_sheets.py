"""Tables hold what the records hold, whatever that is, and are written by streaming."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from dermfuse.analysis.journal import Journal
from dermfuse.analysis.tables import (
    _csv_lines,
    flags_of,
    flatten,
    image_row,
    page_name,
    remove_pages,
    survey,
    write_report,
    write_sheets,
)


def _journal(folder: Path, records: list[dict[str, Any]]) -> Journal:
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "results.jsonl").write_text(text)
    return Journal(folder / "results.jsonl")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestTables:
    def test_columns_are_the_union_of_all_records(self, tmp_path: Path) -> None:
        with _journal(
            tmp_path, [{"name": "a", "x": 1}, {"name": "b", "y": {"z": True}}]
        ) as journal:
            write_sheets(journal, survey(journal), tmp_path)
        assert _rows(tmp_path / "results.csv") == [
            {"name": "a", "x": "1", "y.z": ""},
            {"name": "b", "x": "", "y.z": "true"},
        ]

    def test_what_is_withheld_comes_first_and_null_is_no_column_of_its_own(
        self, tmp_path: Path
    ) -> None:
        known = {"malignant_probability": 0.5, "measures": {"pieces": 1}}
        withheld = {"malignant_probability": None, "measures": None}
        records = [{"name": "a"} | known, {"name": "b"} | withheld, {"name": "c"} | known]
        with _journal(tmp_path, records) as journal:
            write_sheets(journal, survey(journal), tmp_path)
        rows = _rows(tmp_path / "results.csv")
        assert [row["name"] for row in rows] == ["b", "a", "c"]
        assert [row["measures.pieces"] for row in rows] == ["", "1", "1"]
        assert "measures" not in rows[0]

    @pytest.mark.parametrize("name", ["=1+1", "@x", "-x", "+x"])
    def test_a_name_is_no_formula(self, tmp_path: Path, name: str) -> None:
        with _journal(tmp_path, [{"name": name, "x": -0.5}]) as journal:
            write_sheets(journal, survey(journal), tmp_path)
        assert _rows(tmp_path / "results.csv") == [{"name": f"'{name}", "x": "-0.5"}]

    def test_many_rows_are_all_written(self, tmp_path: Path) -> None:
        with _journal(tmp_path, [{"name": "n" * 200 + str(n)} for n in range(1000)]) as journal:
            write_sheets(journal, survey(journal), tmp_path)
        assert [row["name"][200:] for row in _rows(tmp_path / "results.csv")] == [
            str(n) for n in range(1000)
        ]

    def test_flattening_keeps_lists_of_objects_readable(self) -> None:
        assert flatten({"a": [{"b": 1}, "c", 2]}) == {"a": '{"b": 1}; c; 2'}


class TestSurvey:
    def test_counts_and_ranking(self, tmp_path: Path) -> None:
        records = [
            {"name": "a", "malignant_probability": 0.9, "predicted": "malignant"},
            {"name": "b", "malignant_probability": 0.1, "predicted": "benign", "quality": ["blur"]},
            {"name": "c", "malignant_probability": None, "predicted": None},
            {"name": "d", "error": "no image"},
        ]
        with _journal(tmp_path, records) as journal:
            found = survey(journal)
        assert (found.malignant, found.benign, found.withheld, found.failed) == (1, 1, 1, 1)
        assert found.flagged == 1
        assert found.errors == [("d", "no image")]
        assert math.isnan(found.probabilities[2])
        assert found.withheld_names == ["c"]

    @pytest.mark.parametrize(
        ("record", "flags"),
        [
            ({}, ()),
            ({"quality": None, "uncertainty": None}, ()),
            ({"malignant_probability": 0.4, "threshold": 0.5, "uncertainty": 0.19}, ()),
            (
                {"malignant_probability": 0.4, "threshold": 0.5, "uncertainty": 0.21},
                ("close call",),
            ),
            (
                {"malignant_probability": 0.6, "threshold": 0.5, "uncertainty": 0.21},
                ("close call",),
            ),
            ({"dermoscopy": False}, ("unlike the images learnt from",)),
            ({"malignant_probability": None, "threshold": 0.5, "uncertainty": None}, ()),
            ({"quality": ["too_dark"]}, ("too dark",)),
            ({"quality": {"blur": True, "hair": False}}, ("blur",)),
            ({"quality": {"b": {"raised": True, "sentence": "Blurred."}}}, ("Blurred.",)),
            ({"quality": {"b": {"raised": False, "sentence": "Sharp."}}}, ()),
            ({"quality": [{"flag": 1}]}, ('{"flag": 1}',)),
        ],
    )
    def test_flags_are_words(self, record: dict[str, Any], flags: tuple[str, ...]) -> None:
        assert flags_of(record) == flags

    def test_a_row_of_a_bare_record(self) -> None:
        row = image_row({"name": "a"})
        assert (row.probability, row.predicted, row.area_fraction) == (None, "withheld", None)

    def test_the_measures_that_a_reader_can_use_are_shown(self) -> None:
        record = {
            "name": "a",
            "uncertainty": 0.03456,
            "measures": {"pieces": 2, "solidity": 0.98765, "asymmetry": 0.123456, "n": None},
        }
        assert image_row(record).details == (
            ("uncertainty", "0.0346"),
            ("asymmetry", "0.123"),
            ("solidity", "0.988"),
        )


class TestReport:
    def test_a_thousand_images_to_a_page_and_old_pages_go(self, tmp_path: Path) -> None:
        records = [{"name": f"n{n}.", "malignant_probability": n / 3000} for n in range(2001)]
        (tmp_path / "report-4.html").write_text("old")
        (tmp_path / "report-5.html").write_text("old")
        with _journal(tmp_path, records) as journal:
            assert write_report(journal, survey(journal), tmp_path, facts={}) == 3
        pages = [(tmp_path / page_name(number)).read_text() for number in (1, 2, 3)]
        assert [page.count('<th scope="row">') for page in pages] == [1000, 1000, 1]
        assert "n2000." in pages[0]
        assert "n0." in pages[2]
        assert not list(tmp_path.glob("report-[45].html"))


def test_a_return_in_a_name_ends_no_row(tmp_path: Path) -> None:
    rows = [["a\rb.jpg", 0.5], ["c.jpg", 0.25]]
    text = b"".join(_csv_lines(["name", "score"], rows)).decode()
    with io.StringIO(text, newline="") as file:
        assert list(csv.reader(file)) == [["name", "score"], ["a\rb.jpg", "0.5"], ["c.jpg", "0.25"]]


def test_a_name_that_carries_rows_and_formulas_stays_one_quoted_cell(tmp_path: Path) -> None:
    names = ["a\r=1+1,b.jpg", 'a"\r\n=cmd.jpg', "a\n@x\t,;.jpg", "\x1b[31m.jpg", "\r=1.jpg"]
    records = [{"name": name, "error": name} for name in names]
    with _journal(tmp_path, [*records, {"name": names[0], "=1": 0.5}]) as journal:
        write_sheets(journal, survey(journal), tmp_path)
    errors = _rows(tmp_path / "errors.csv")
    assert [row["name"] for row in errors] == [*names[:4], "'\r=1.jpg"]
    assert _rows(tmp_path / "results.csv") == [{"name": names[0], "'=1": "0.5"}]
    for name in ("errors.csv", "results.csv"):
        text = (tmp_path / name).read_bytes().decode()
        outside = "".join(text.split('"')[::2])  # doubled quotes leave nothing between them
        assert set(outside) <= set(",\n")


def test_pages_of_an_earlier_report_go_even_where_some_are_missing(tmp_path: Path) -> None:
    for name in (
        "report.html",
        "report-2.html",
        "report-5.html",
        "report-x.html",
        "report-02.html",
    ):
        (tmp_path / name).touch()
    remove_pages(tmp_path, beyond=1)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.html", "report-x.html", "report-02.html"}
    remove_pages(tmp_path, beyond=0)
    assert not (tmp_path / "report.html").exists()
