"""The committed report follows from the committed JSON."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.cli import main
from dermfuse.errors import DataError
from dermfuse.report.page import anchor_of
from dermfuse.reproduction.outcome import read_outcome
from dermfuse.reproduction.page import render_block, render_outcome

ROOT = Path(__file__).parents[2]
JSON = ROOT / "results" / "reproduction.json"


def test_the_documents_are_what_the_command_renders_of_the_json_byte_for_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text("before\n<!-- paper:begin -->\n<!-- paper:end -->\nafter\n")
    command = ["reproduce", "--render", str(JSON), "--out", str(out), "--summary", str(page)]
    assert main(command) == 0
    assert "Open in a browser" in capsys.readouterr().out
    committed = (ROOT / "docs" / "reproduction.md").read_bytes()
    assert (out / "reproduction.md").read_bytes() == committed
    assert "35 of 35 rows" in (out / "report.html").read_text()
    assert len(list((out / "tables").glob("*.csv"))) == 9
    again = json.loads((out / "reproduction.json").read_text())
    assert again == json.loads(JSON.read_text())
    block = render_block(read_outcome(JSON))
    assert block in page.read_text()
    assert block in (ROOT / "README.md").read_text()


def test_the_page_says_a_title_once_and_every_link_of_its_contents_leads_somewhere() -> None:
    lines = (ROOT / "docs" / "reproduction.md").read_text().splitlines()
    titles = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert len(titles) == len(set(titles)) == 14
    linked = re.findall(r"^- \[(.+)\]\(#(.+)\)$", "\n".join(lines), re.MULTILINE)
    assert [title for title, _ in linked] == titles[2:], "all but headline numbers and claims"
    assert all(anchor == anchor_of(title) for title, anchor in linked)


def test_the_figures_are_small_linked_once_and_all_there() -> None:
    files = sorted((ROOT / "docs" / "figures").iterdir())
    assert sum(file.stat().st_size for file in files) <= 2_500_000
    page = (ROOT / "docs" / "paper.md").read_text()
    linked = re.findall(r"!\[.{20,}\]\(figures/(.+)\)", page)
    assert sorted(linked) == [file.name for file in files]
    assert {int(name[4:6]) for name in linked} == set(range(8, 15))
    assert "ISIC 2016" in page.partition("## Figures 8 to 14")[2].partition("###")[0]
    for file in files:
        with Image.open(file) as image:
            assert image.mode == "RGBA", f"{file.name} has a ground of its own"
            assert image.width >= 1000


def test_the_findings_quote_what_was_measured() -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    said = page.partition("## Findings")[2].partition("### ")[0]
    outcome = read_outcome(JSON)
    for each in outcome.leakage:
        assert f"{each.paper_split:.3f}" in said
        assert f"{each.source_split:.3f} ({each.low:.3f} to {each.high:.3f})" in said
        assert f"{each.paper_split_images} copies" in said
        assert f"{each.source_split_images} images" in said
    for number, metric in (("IV", "average_precision"), ("IX", "jaccard")):
        table = next(table for table in outcome.tables if table.number == number)
        for test in (test for test in table.tests if test.metric == metric):
            assert f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})" in said
    recipe = (ROOT / "docs" / "findings.md").read_text().partition("recipe:begin")[2]
    first, second = (line.split(" | ") for line in recipe.splitlines()[3:5])
    assert f"AUC {first[1]} to {second[1]}, {second[3]}; AP {first[2]} to {second[2]}" in said
    assert second[4].removesuffix(" |") in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2. Expected: format 1. Render it with the version"),
        ({"format": None}, "has format None. Expected: format 1"),
        ({"draws": "many"}, "draws is 'many'. Expected: a whole number"),
        ({"tables": [{"metrics": ["applause"]}]}, "tables.0"),
        ({"colour": 1}, 'no key "colour"'),
    ],
)
def test_what_is_no_outcome_is_refused_and_nothing_is_written(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(json.loads(JSON.read_text()) | change))
    with pytest.raises(DataError, match=message):
        render_outcome(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_s_number_names_no_file_elsewhere(tmp_path: Path) -> None:
    record = json.loads(JSON.read_text())
    record["tables"][0]["number"] = "../../beyond, x"
    (tmp_path / "other.json").write_text(json.dumps(record))
    render_outcome(tmp_path / "other.json", tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "tables" / "-beyond-x.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"other.json", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
