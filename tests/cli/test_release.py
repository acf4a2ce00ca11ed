"""``export`` and ``card``; tests/publishing has a whole ``release`` of a plan."""

from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.publishing import release as build
from dermfuse.publishing.release import ReleaseRequest
from dermfuse.records.folders import NOTICE, read_json
from dermfuse.release.cards import read_card

from .conftest import Run


@pytest.mark.usefixtures("room")
def test_an_export_is_a_table_or_one_json_object(made_run: Path, tmp_path: Path, run: Run) -> None:
    out = run("export", made_run, "--data data --out", tmp_path).out
    for part in ("joint", "float32", "jaccard 0.", NOTICE):
        assert part in out
    record = run("export", made_run, "--data data --json --out", tmp_path).record
    assert record["networks"][0]["card"]["sha256"] == read_card(tmp_path / "joint.json").sha256


@pytest.mark.parametrize(
    ("options", "precision"), [("", "int8-weights"), ("--precision float32", "float32")]
)
def test_a_release_lies_in_8_bits_and_computes_in_float32_unless_asked_otherwise(
    options: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: ReleaseRequest, **_: object) -> None:
        raise ZeroDivisionError(request.precision)  # ends the command once it has asked

    monkeypatch.setattr(build, "build_release", answer)
    with pytest.raises(ZeroDivisionError, match=precision):
        main(f"export run --folds fold --data d --out o {options}".split())
    unasked = ReleaseRequest(runs=[], folds=[], data="d", out=Path("o"), name="small")
    assert unasked.precision == "int8-weights"


@pytest.mark.usefixtures("room")
def test_a_card_is_printed_written_with_its_content_and_summed_up_in_a_page(
    tmp_path: Path, run: Run
) -> None:
    assert run("card --release measured").out.startswith("# Model card: small\n")
    page, other = tmp_path / "docs" / "card.md", tmp_path / "README.md"
    other.write_text("before\n<!-- release:begin -->\nstale\n<!-- release:end -->\nafter\n")
    said = run("card --release measured --data data --out", page, "--summary", other).out
    assert f"The card lies in {page}" in said
    assert "`dermfuse card --release DIR --data DIR --out FILE`" in page.read_text()
    assert read_json(page.with_suffix(".json"))["census"]["images"] == 30
    text = other.read_text()
    assert "| AUC | 0.812 (0.772 to 0.842) |" in text
    assert "stale" not in text
    assert text.endswith("<!-- release:end -->\nafter\n")
    assert str(other) in run("card --release measured --summary", other).out
