import json
from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.folders import NOTICE

from ..measured_release import write_measured_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_measured_release(tmp_path / "release")


def test_a_card_is_printed(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--release", str(release)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Model card: small\n")
    assert out.endswith(f"**{NOTICE}**\n")


def test_a_card_is_written_with_its_content(
    release: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = release.parent / "docs" / "card.md"
    options = ["--release", str(release), "--data", str(drawn), "--out", str(page)]
    assert main(["card", *options]) == 0
    assert f"The card lies in {page}" in capsys.readouterr().out
    assert "`dermfuse card --release DIR --data DIR --out FILE`" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["census"]["images"] == 30


def test_the_summary_is_put_into_a_page(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- release:begin -->\nstale\n<!-- release:end -->\nafter\n")
    assert main(["card", "--release", str(release), "--summary", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text()
    assert "| AUC | 0.812 (0.772 to 0.842) |" in text
    assert "stale" not in text
    assert text.endswith("<!-- release:end -->\nafter\n")
    page.write_text("nothing")
    assert main(["card", "--release", str(release), "--summary", str(page)]) == 2
    assert "has no place for this table" in capsys.readouterr().err


def test_a_card_is_one_json_object_on_request(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", "--release", str(release), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["notice"] == NOTICE
    assert record["networks"]["greens"]["file"] == "greens.onnx"
    assert record["census"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "card.html"], "Expected: the name of a .md file"),
        (["--stress", "none.json"], "none.json is missing"),
        (["--bench", "none.json"], "none.json is missing"),
        (["--data", "none"], "none is not a folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    options: list[str], message: str, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", "--release", str(release), *options]) == 2
    error = capsys.readouterr().err.removeprefix("Reading ...\n")
    assert message in error
    assert error.count("\n") == 1


def test_a_network_that_was_changed_is_refused(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (release / "greens.onnx").write_bytes(b"other")
    assert main(["card", "--release", str(release)]) == 2
    assert "greens.onnx has 5 bytes" in capsys.readouterr().err
