"""Tables hold what the records hold; pictures lie where the records' names say."""

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
    image_row,
    page_name,
    picture_file,
)
from dermfuse.errors import StorageError
from dermfuse.imaging.preprocess import write_mask

from ..small_release import skin
from .conftest import PAGE, rows_of


def _write(folder: Path, records: list[dict[str, Any]]) -> tuple[Tables, int]:
    """Writes all tables of some records; returns how many pages the report has."""
    tables, offsets = Tables(), array("q")
    with Journal(folder / "results.jsonl") as journal:
        for record in records:
            offsets.append(journal.append(json.dumps(record).encode()))
            tables.add(record)
        return tables, tables.write(journal, offsets, folder, facts={})


def test_columns_are_the_union_of_all_records_and_what_is_withheld_comes_first(
    tmp_path: Path,
) -> None:
    tables, _ = _write(tmp_path, [
        {"name": "a", "malignant_probability": 0.9, "predicted": "malignant", "x": {"y": True}},
        {"name": "b", "malignant_probability": None, "predicted": None, "x": None},
        {"name": "c", "malignant_probability": 0.1, "predicted": "benign", "dermoscopy": False},
        {"name": "d", "malignant_probability": 0.2, "predicted": "benign", "z": [{"b": 1}, "c", 2]},
        {"name": "e", "error": "no image"},
    ])  # fmt: skip
    assert tables.counts == {"malignant": 1, "benign": 2, "withheld": 1, "failed": 1}
    assert (tables.flagged, tables.withheld, tables.errors) == (1, ["b"], [("e", "no image")])
    rows = rows_of(tmp_path / "results.csv")
    assert [row["name"] for row in rows] == ["b", "a", "c", "d"]
    assert [row["x.y"] for row in rows] == ["", "true", "", ""]
    assert (rows[3]["z"], "x" in rows[0]) == ('{"b": 1}; c; 2', False)


def test_a_name_that_carries_rows_and_formulas_stays_one_quoted_cell(tmp_path: Path) -> None:
    names = ["a\r=1+1,b.jpg", 'a"\r\n=cmd.jpg', "a\n@x\t,;.jpg", "\x1b[31m.jpg"]
    formulas = ["=1+1", "@x", "-x", "+x", "\r=1.jpg"]
    records = [{"name": name, "error": name} for name in names + formulas]
    _write(tmp_path, [*records, {"name": names[0], "=1": -0.5}])
    errors = [row["name"] for row in rows_of(tmp_path / "errors.csv")]
    assert errors == names + [f"'{formula}" for formula in formulas]
    assert rows_of(tmp_path / "results.csv") == [{"name": names[0], "'=1": "-0.5"}]
    for name in ("errors.csv", "results.csv"):
        text = (tmp_path / name).read_bytes().decode()
        outside = "".join(text.split('"')[::2])  # doubled quotes leave nothing between them
        assert set(outside) <= set(",\n")


@pytest.mark.parametrize(
    ("record", "flags"),
    [
        ({"uncertainty": None}, ()),
        ({"malignant_probability": 0.4, "threshold": 0.5, "uncertainty": 0.19}, ()),
        ({"malignant_probability": 0.6, "threshold": 0.5, "uncertainty": 0.21}, ("close call",)),
        ({"dermoscopy": False}, ("unlike the images learnt from",)),
        ({"quality": {"b": {"raised": True, "sentence": "Blurred."}}}, ("Blurred.",)),
        ({"quality": {"b": {"raised": False, "sentence": "Sharp."}}}, ()),
    ],
)
def test_flags_are_words(record: dict[str, Any], flags: tuple[str, ...]) -> None:
    assert flags_of(record) == flags


def test_the_measures_that_a_reader_can_use_are_shown() -> None:
    measures = {"pieces": 2, "solidity": 0.98765, "asymmetry": 0.123456, "compactness": None}
    row = image_row({"name": "a", "measures": measures})
    assert (row.probability, row.predicted, row.area_fraction) == (None, "withheld", None)
    assert row.details == (("asymmetry", "0.123"), ("solidity", "0.988"))


def test_a_thousand_images_to_a_page_and_old_pages_go(tmp_path: Path) -> None:
    for name in (page_name(4), "report-12.html", "report-x.html", "report-02.html"):
        (tmp_path / name).write_text("old")
    records = [{"name": f"n{n}.", "malignant_probability": n / 3000} for n in range(2001)]
    assert _write(tmp_path, records)[1] == 3
    pages = [(tmp_path / page_name(number)).read_text() for number in (1, 2, 3)]
    assert [page.count('<th scope="row">') for page in pages] == [1000, 1000, 1]
    assert "n2000." in pages[0]
    assert "n0." in pages[2]
    left = {path.name for path in tmp_path.glob("report-*")}
    assert left == {"report-2.html", "report-3.html", "report-x.html", "report-02.html"}


def test_a_thumbnail_is_small_and_has_an_outline_unless_there_is_no_mask() -> None:
    image, mask = np.full((600, 1200, 3), 99, np.uint8), np.zeros((600, 1200), bool)
    bare = draw_thumbnail(image, None)
    with Image.open(io.BytesIO(bare)) as small:
        assert (small.format, small.size) == ("JPEG", (160, 80))
    assert bare == draw_thumbnail(image, mask)
    mask[200:400, 200:600] = True
    assert bare != draw_thumbnail(image, mask)


def test_pictures_are_of_what_is_not_withheld_and_earlier_ones_go(gated: Path, out: Path) -> None:
    out.mkdir()
    pictures = Pictures(out, overlays=True, masks=True)
    drawn = ["masks/a.png", "overlays/a.activation.png", "overlays/a.outline.png"]
    for score_all, image, expected in (
        (False, PAGE, []), (False, skin(10), drawn), (False, PAGE, []), (True, PAGE, drawn),
    ):  # fmt: skip
        analysis = Analyzer(gated, score_all=score_all).analyze(image, name="a")
        pictures.write(analysis)
        found = [path.relative_to(out).as_posix() for path in out.glob("*/a.*png")]
        assert sorted(found) == expected
    for options in ({"masks": True}, {"overlays": True}):
        with pytest.raises(StorageError, match="was removed"):
            Pictures(out / "gone", **options).write(analysis)
    assert not (out / "gone").exists()


@pytest.mark.parametrize(
    ("names", "parent"),
    [
        ([f"a folder/{'皮' * 80}{end}.jpg" for end in "12"], "masks/a folder"),
        ([f"{'/'.join(['d' * 240] * 10)}{end}.jpg" for end in ("/a", "/b", "e/a")], "masks"),
        (["a.jpg", "a.jpg.png/b", "a.jpg.png_/b", "a.jpg.PNG/b", f"{'x' * 251}.png/b"], ""),
    ],
)
def test_every_name_has_a_picture_of_its_own(tmp_path: Path, names: list[str], parent: str) -> None:
    paths = [picture_file(tmp_path, name, "mask") for name in names]
    for path in paths:
        write_mask(path, np.ones((16, 16), np.bool_))
        assert not parent or path.parent == tmp_path / parent
    assert len(list((tmp_path / "masks").rglob("*.png"))) == len(names)
    assert picture_file(tmp_path, "x" * 230, "mask").name == "x" * 230 + ".png"
