"""``export`` and ``card``; tests/publishing has a whole ``release`` of a plan."""

from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.folders import NOTICE, read_json
from dermfuse.publishing import release as build
from dermfuse.publishing.release import ReleaseRequest
from dermfuse.release.cards import read_card

from ..measured_release import write_measured_release
from .conftest import Run


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    return write_measured_release(tmp_path / "release")


def test_an_export_is_a_table_or_one_json_object(
    made_run: Path, drawn: Path, tmp_path: Path, run: Run
) -> None:
    export = ["export", made_run, "--data", drawn, "--out", tmp_path]
    out = run(*export).out
    for part in ("joint", "float32", "jaccard 0.", NOTICE):
        assert part in out
    card = run(*export, "--json").record["networks"][0]["card"]
    assert card["sha256"] == read_card(tmp_path / "joint.json").sha256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected: RUN"),
        (["run", "--vectors"], "with --vectors"),
        (["run", "--data", "d", "--release", "r"], "with --release"),
        (["none", "--data", "d"], "is no run folder"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, run: Run
) -> None:
    error = run("export", *arguments, "--out", tmp_path / "out", status=2).error
    assert said.lower() in error.lower()
    assert not (tmp_path / "out").exists()


def test_vectors_are_written_without_runs(release: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "vectors"
    assert "7 images" in run("export", "--vectors", "--out", out, "--release", release).out
    assert (out / "vectors.json").is_file()


class _Stop(Exception):  # noqa: N818 — ends the command once it has asked
    pass


@pytest.mark.parametrize(
    ("options", "precision"), [([], "int8-weights"), (["--precision", "float32"], "float32")]
)
def test_a_release_lies_in_8_bits_and_computes_in_float32_unless_asked_otherwise(
    options: list[str], precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ReleaseRequest] = []

    def answer(request: ReleaseRequest, **_: object) -> None:
        asked.append(request)
        raise _Stop

    monkeypatch.setattr(build, "build_release", answer)
    arguments = ["export", "run", "--folds", "fold", "--data", "d", "--out", str(tmp_path / "o")]
    with pytest.raises(_Stop):
        main([*arguments, *options])
    assert [request.precision for request in asked] == [precision]
    unasked = ReleaseRequest(runs=[], folds=[], data=tmp_path, out=tmp_path, name="small")
    assert unasked.precision == "int8-weights"


def test_a_card_is_printed_or_one_json_object(measured: Path, run: Run) -> None:
    out = run("card", "--release", measured).out
    assert out.startswith("# Model card: small\n")
    assert out.endswith(f"**{NOTICE}**\n")
    record = run("card", "--release", measured, "--json").record
    assert record["networks"]["greens"]["file"] == "greens.onnx"
    assert record["census"] is None


def test_a_card_is_written_with_its_content(
    measured: Path, drawn: Path, tmp_path: Path, run: Run
) -> None:
    page = tmp_path / "docs" / "card.md"
    said = run("card", "--release", measured, "--data", drawn, "--out", page)
    assert f"The card lies in {page}" in said.out
    assert "`dermfuse card --release DIR --data DIR --out FILE`" in page.read_text()
    assert read_json(page.with_suffix(".json"))["census"]["images"] == 30


def test_the_summary_is_put_into_a_page(measured: Path, tmp_path: Path, run: Run) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- release:begin -->\nstale\n<!-- release:end -->\nafter\n")
    command = ["card", "--release", measured, "--summary", page]
    assert str(page) in run(*command).out
    text = page.read_text()
    assert "| AUC | 0.812 (0.772 to 0.842) |" in text
    assert "stale" not in text
    assert text.endswith("<!-- release:end -->\nafter\n")
    page.write_text("nothing")
    assert "has no place for this table" in run(*command, status=2).error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "card.html"], "Expected: the name of a .md file"),
        (["--stress", "none.json"], "none.json is missing"),
        (["--bench", "none.json"], "none.json is missing"),
        (["--data", "none"], "none is not a folder"),
        ([], "greens.onnx has 5 bytes"),
    ],
)
def test_a_card_that_cannot_be_is_one_line(
    options: list[str], said: str, measured: Path, run: Run
) -> None:
    if not options:
        (measured / "greens.onnx").write_bytes(b"other")
    assert said in run("card", "--release", measured, *options, status=2).error
