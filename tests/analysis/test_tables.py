"""Tables hold what the records hold; pictures lie where the records' names say."""

import csv
import io
import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.journal import Journal
from dermfuse.analysis.tables import (
    Pictures,
    Tables,
    draw_thumbnail,
    flags_of,
    flatten,
    image_row,
    page_name,
    picture_file,
    remove_pages,
)
from dermfuse.errors import StorageError
from dermfuse.imaging.preprocess import write_mask

from ..small_release import skin, write_small_release


def _write(folder: Path, records: list[dict[str, Any]]) -> tuple[Tables, int]:
    """Writes all tables of some records; returns how many pages the report has."""
    tables, offsets = Tables(), array("q")
    with Journal(folder / "results.jsonl") as journal:
        for record in records:
            offsets.append(journal.append(json.dumps(record).encode()))
            tables.add(record)
        return tables, tables.write(journal, offsets, folder, facts={})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestSheets:
    def test_columns_are_the_union_of_all_records(self, tmp_path: Path) -> None:
        _write(tmp_path, [{"name": "a", "x": 1}, {"name": "b", "y": {"z": True}}])
        assert _rows(tmp_path / "results.csv") == [
            {"name": "a", "x": "1", "y.z": ""},
            {"name": "b", "x": "", "y.z": "true"},
        ]

    def test_what_is_withheld_comes_first_and_null_is_no_column_of_its_own(
        self, tmp_path: Path
    ) -> None:
        known = {"malignant_probability": 0.5, "measures": {"pieces": 1}}
        withheld = {"malignant_probability": None, "measures": None}
        _write(tmp_path, [{"name": "a"} | known, {"name": "b"} | withheld, {"name": "c"} | known])
        rows = _rows(tmp_path / "results.csv")
        assert [row["name"] for row in rows] == ["b", "a", "c"]
        assert [row["measures.pieces"] for row in rows] == ["", "1", "1"]
        assert "measures" not in rows[0]

    @pytest.mark.parametrize("name", ["=1+1", "@x", "-x", "+x"])
    def test_a_name_is_no_formula(self, tmp_path: Path, name: str) -> None:
        _write(tmp_path, [{"name": name, "x": -0.5}])
        assert _rows(tmp_path / "results.csv") == [{"name": f"'{name}", "x": "-0.5"}]

    def test_a_name_that_carries_rows_and_formulas_stays_one_quoted_cell(
        self, tmp_path: Path
    ) -> None:
        names = ["a\r=1+1,b.jpg", 'a"\r\n=cmd.jpg', "a\n@x\t,;.jpg", "\x1b[31m.jpg", "\r=1.jpg"]
        records = [{"name": name, "error": name} for name in names]
        _write(tmp_path, [*records, {"name": names[0], "=1": 0.5}])
        errors = _rows(tmp_path / "errors.csv")
        assert [row["name"] for row in errors] == [*names[:4], "'\r=1.jpg"]
        assert _rows(tmp_path / "results.csv") == [{"name": names[0], "'=1": "0.5"}]
        for name in ("errors.csv", "results.csv"):
            text = (tmp_path / name).read_bytes().decode()
            outside = "".join(text.split('"')[::2])  # doubled quotes leave nothing between them
            assert set(outside) <= set(",\n")

    def test_flattening_keeps_lists_of_objects_readable(self) -> None:
        assert flatten({"a": [{"b": 1}, "c", 2]}) == {"a": '{"b": 1}; c; 2'}


def _close(probability: float | None, uncertainty: float | None) -> dict[str, Any]:
    return {
        "malignant_probability": probability,
        "threshold": 0.5,
        "uncertainty": uncertainty,
    }


class TestReport:
    def test_counts_are_those_of_the_records(self, tmp_path: Path) -> None:
        tables, _ = _write(tmp_path, [
            {"name": "a", "malignant_probability": 0.9, "predicted": "malignant"},
            {"name": "b", "malignant_probability": 0.1, "predicted": "benign", "dermoscopy": False},
            {"name": "c", "malignant_probability": None, "predicted": None},
            {"name": "d", "error": "no image"},
        ])  # fmt: skip
        assert tables.counts == {"malignant": 1, "benign": 1, "withheld": 1, "failed": 1}
        assert (tables.flagged, tables.withheld) == (1, ["c"])
        assert tables.errors == [("d", "no image")]

    @pytest.mark.parametrize(
        ("record", "flags"),
        [
            ({}, ()),
            (_close(None, None), ()),
            (_close(0.4, 0.19), ()),
            (_close(0.4, 0.21), ("close call",)),
            (_close(0.6, 0.21), ("close call",)),
            ({"dermoscopy": False}, ("unlike the images learnt from",)),
            ({"quality": {"b": {"raised": True, "sentence": "Blurred."}}}, ("Blurred.",)),
            ({"quality": {"b": {"raised": False, "sentence": "Sharp."}}}, ()),
        ],
    )
    def test_flags_are_words(self, record: dict[str, Any], flags: tuple[str, ...]) -> None:
        assert flags_of(record) == flags

    def test_the_measures_that_a_reader_can_use_are_shown(self) -> None:
        measures = {"pieces": 2, "solidity": 0.98765, "asymmetry": 0.123456, "compactness": None}
        row = image_row({"name": "a", "measures": measures})
        assert (row.probability, row.predicted, row.area_fraction) == (None, "withheld", None)
        assert row.details == (("asymmetry", "0.123"), ("solidity", "0.988"))

    def test_a_thousand_images_to_a_page_and_old_pages_go(self, tmp_path: Path) -> None:
        for number in (4, 5):
            (tmp_path / page_name(number)).write_text("old")
        records = [{"name": f"n{n}.", "malignant_probability": n / 3000} for n in range(2001)]
        assert _write(tmp_path, records)[1] == 3
        pages = [(tmp_path / page_name(number)).read_text() for number in (1, 2, 3)]
        assert [page.count('<th scope="row">') for page in pages] == [1000, 1000, 1]
        assert "n2000." in pages[0]
        assert "n0." in pages[2]
        assert not list(tmp_path.glob("report-[45].html"))
        names = [row["name"] for row in _rows(tmp_path / "results.csv")]
        assert names == [f"n{n}." for n in range(2001)]

    def test_files_that_are_no_pages_stay(self, tmp_path: Path) -> None:
        for name in ("report.html", "report-5.html", "report-x.html", "report-02.html"):
            (tmp_path / name).touch()
        remove_pages(tmp_path, beyond=1)
        kept = {"report-x.html", "report-02.html"}
        assert {path.name for path in tmp_path.iterdir()} == {"report.html"} | kept
        remove_pages(tmp_path, beyond=0)
        assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)


def test_a_thumbnail_is_small_and_has_an_outline_unless_there_is_no_mask() -> None:
    image, mask = np.full((600, 1200, 3), 99, np.uint8), np.zeros((600, 1200), bool)
    mask[200:400, 200:600] = True
    bare = draw_thumbnail(image, None)
    with Image.open(io.BytesIO(bare)) as small:
        assert (small.format, small.size) == ("JPEG", (160, 80))
    assert bare == draw_thumbnail(image, np.zeros_like(mask))
    assert bare != draw_thumbnail(image, mask)


class TestPictures:
    def test_they_are_of_what_is_not_withheld_and_an_earlier_ones_go(
        self, release: Path, tmp_path: Path
    ) -> None:
        pictures = Pictures(tmp_path, overlays=True, masks=True)
        known, page = skin(10), np.full((48, 64, 3), 255, np.uint8)
        drawn = ["masks/a.png", "overlays/a.activation.png", "overlays/a.outline.png"]
        for score_all, image, expected in (
            (False, page, []), (False, known, drawn), (False, page, []), (True, page, drawn),
        ):  # fmt: skip
            pictures.write(Analyzer(release, score_all=score_all).analyze(image, name="a"))
            found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/a.*png")]
            assert sorted(found) == expected

    def test_those_of_images_that_are_gone_failed_or_withheld_go(self, tmp_path: Path) -> None:
        names = ("kept", "gone", "below/gone", "below/kept", "failed", "withheld")
        for name in names:
            for kind in ("mask", "outline", "activation"):
                write_mask(picture_file(tmp_path, name, kind), np.ones((16, 16), bool))
        (tmp_path / "masks" / "notes.txt").write_text("not ours")
        records: list[dict[str, Any]] = [
            {"name": "kept", "malignant_probability": 0.5},
            {"name": "below/kept", "malignant_probability": 0.5},
            {"name": "failed", "error": "damaged"},
            {"name": "withheld", "malignant_probability": None},
        ]
        Pictures(tmp_path).keep([])
        assert len(list(tmp_path.rglob("*.png"))) == 3 * len(names)
        pictures = Pictures(tmp_path, masks=True)
        pictures.keep(records)
        masks = {
            path.relative_to(tmp_path / "masks").as_posix() for path in tmp_path.glob("m*/**/*")
        }
        assert masks == {"notes.txt", "kept.png", "below", "below/kept.png"}
        pictures.keep(records[:1])
        assert not (tmp_path / "overlays" / "below").exists()

    def test_a_results_folder_that_was_removed_is_not_made_again(
        self, release: Path, tmp_path: Path
    ) -> None:
        analysis = Analyzer(release).analyze(skin(10), name="a/b")
        for options in ({"masks": True}, {"overlays": True}):
            with pytest.raises(StorageError, match="was removed"):
                Pictures(tmp_path / "gone", **options).write(analysis)
        assert not (tmp_path / "gone").exists()

    @pytest.mark.parametrize(
        ("names", "parent"),
        [
            ([f"a folder/{'皮' * 80}{end}.jpg" for end in "12"], "masks/a folder"),
            ([f"a folder/{'x' * 240}{end}.jpg" for end in "12"], "masks/a folder"),
            ([f"{'/'.join(['d' * 240] * 10)}{end}.jpg" for end in ("/a", "/b", "e/a")], "masks"),
            (["a.jpg", "a.jpg.png/b", "a.jpg.png_/b", "a.jpg.PNG/b", f"{'x' * 251}.png/b"], ""),
        ],
    )
    def test_every_name_has_a_picture_of_its_own(
        self, tmp_path: Path, names: list[str], parent: str
    ) -> None:
        paths = [picture_file(tmp_path, name, "mask") for name in names]
        for path in paths:
            write_mask(path, np.ones((16, 16), np.bool_))
            assert not parent or path.parent == tmp_path / parent
        assert len(list((tmp_path / "masks").rglob("*.png"))) == len(names)
        assert picture_file(tmp_path, "x" * 230, "mask").name == "x" * 230 + ".png"
