"""The committed report follows from the committed JSON."""

import json
from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.errors import DataError
from dermfuse.reproduction.documents import render_outcome
from dermfuse.reproduction.outcome import read_outcome
from dermfuse.reproduction.summary import render_block

ROOT = Path(__file__).parents[2]
JSON = ROOT / "results" / "reproduction.json"


def test_the_page_of_the_documents_is_what_the_json_renders(tmp_path: Path) -> None:
    _, page = render_outcome(JSON, tmp_path / "out")
    committed = (ROOT / "docs" / "reproduction.md").read_bytes()
    assert (tmp_path / "out" / "reproduction.md").read_bytes() == committed
    assert b"not run" not in committed
    assert "35 of 35 rows" in page.read_text()
    assert len(list((tmp_path / "out" / "tables").glob("*.csv"))) == 9
    assert json.loads((tmp_path / "out" / "reproduction.json").read_text()) == json.loads(
        JSON.read_text()
    )


def test_the_readme_has_the_summary_of_the_json() -> None:
    assert render_block(read_outcome(JSON)) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2. Expected: format 1"),
        ({"draws": "many"}, "draws is a str. Expected: a int"),
        ({"colour": 1}, "colour missing or unknown"),
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


def test_an_unknown_metric_is_refused_by_its_place(tmp_path: Path) -> None:
    record = json.loads(JSON.read_text())
    record["tables"][0]["metrics"][0] = "praise"
    file = tmp_path / "other.json"
    file.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"tables.metrics is 'praise'\. Expected: one of"):
        read_outcome(file)


def test_the_command_needs_data_or_a_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "--out", str(tmp_path / "out")]) == 2
    assert "neither --data nor --render" in capsys.readouterr().err
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- paper:begin -->\n<!-- paper:end -->\nafter\n")
    arguments = ["--render", str(JSON), "--out", str(tmp_path / "out"), "--summary", str(page)]
    assert main(["reproduce", *arguments]) == 0
    assert "35 of 35 rows of Tables III to XI have a number of ours" in page.read_text()
    assert "Open in a browser" in capsys.readouterr().out
