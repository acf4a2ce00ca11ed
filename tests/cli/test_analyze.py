import json
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.records.folders import NOTICE, read_json, write_json

from ..small_release import skin, write_small_release
from .conftest import Run

ANALYZE = "analyze images --release release"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a release, and an image to analyse."""
    monkeypatch.chdir(tmp_path)
    Path("release").symlink_to(made / "release")
    Path("images").mkdir()
    Image.fromarray(skin(40)).save("images/lesion.png")
    return tmp_path


def test_an_image_is_described_in_words_with_the_notice(run: Run) -> None:
    said = run(ANALYZE).out
    for part in (
        "probability of melanoma 0.",
        ": benign at balanced, threshold 0.500",
        "sensitivity 0.90 and specificity 0.60",
        "  over 2 networks the probability varies by 0.",
        "  lesion share of the frame 25.",
    ):
        assert part in said
    assert "orientation" not in said
    assert said.rstrip().endswith(NOTICE)
    Image.fromarray(skin(100)).save("images/lesion.png")
    assert ": malignant at balanced" in run(ANALYZE).out


def test_what_is_withheld_is_named_first_not_described_and_counted_as_missed(run: Run) -> None:
    release = write_small_release(Path("gated"), with_gate=True)
    record = read_json(release / "release.json")
    missed = {"balanced": {"sensitivity": {"value": 0.85, "low": 0.75, "high": 0.9}}}
    record["classes"]["measured"] = {"withheld": {"operating_points": missed}}
    write_json(release / "release.json", record)
    Image.fromarray(skin(10)).save("images/lesion.png")
    Image.new("RGB", (64, 48), "white").save("images/page.png")
    analyze, counted = (
        "analyze images --release gated",
        "withheld malignant images counted as missed",
    )
    said = run(analyze).out
    page = said.partition("page.png\n")[2].partition("\nWithheld")[0].splitlines()
    assert page[0].startswith("  ! This image is unlike the images the networks learnt from")
    assert page[-1] == "  probability of melanoma withheld"
    assert all(line.startswith("  ! ") for line in page[:-1])
    first = "Withheld, look at these first (unlike the images learnt from): page.png"
    assert first in said.splitlines()
    assert f"; sensitivity 0.85, {counted}" in said
    lines = run(analyze, "--out out --overlays --masks").out.splitlines()
    assert lines[0] == first
    assert lines[1].endswith("1 withheld, 0 called malignant, 1 benign")
    assert {path.name.partition(".")[0] for path in Path("out").rglob("*.png")} == {"lesion"}
    assert f"sensitivity 0.85 (0.75 to 0.90), {counted}" in Path("out/report.html").read_text()
    run(analyze, "--out all --masks --score-all")
    assert len(list(Path("all/masks").iterdir())) == 2


def test_files_that_fail_are_named_and_the_others_are_analysed(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    Path("images/broken.png").write_bytes(b"no image")
    said = run(ANALYZE, status=3)
    assert said.err.count("broken.png") == 1
    assert "probability of melanoma" in said.out
    said = run(ANALYZE, "--out out", status=3)
    assert "1 analysed, 0 done before, 1 failed" in said.out
    assert Path("out/report.html").is_file()
    whole = Analyzer.analyze

    def analyze(self: Analyzer, source: object, *, name: str = "") -> object:
        if name.startswith("a"):
            raise ZeroDivisionError
        return whole(self, source, name=name)

    Path("images/broken.png").rename("images/a.png")
    monkeypatch.setattr(Analyzer, "analyze", analyze)
    said = run(ANALYZE, "--json", status=3)
    assert "a.png: A fault of dermfuse itself (ZeroDivisionError)." in said.err
    found = json.loads(said.out)
    assert (found["name"], found["notice"], bool(found["outline"])) == ("lesion.png", NOTICE, True)


def test_other_looks_than_measured_are_warned_of_and_results_keep_to_their_options(
    run: Run,
) -> None:
    said = run(ANALYZE, "--looks 8").out
    assert "  over 8 orientations and 2 networks the probability varies by 0." in said
    assert "! Each network looked at 8 orientations; " in said
    assert "were measured with 1." in run(ANALYZE, "--looks 8 --masks --out out").err
    assert Path("out/masks/lesion.png.png").is_file()
    assert "made with looks 8" in run(ANALYZE, "--masks --out out", status=2).err
    refused = run(ANALYZE, "--looks 8 --out out", status=2).err
    assert "masks True" in refused
    assert "were measured with" not in refused


def test_ray_needs_an_address_and_no_overlays(run: Run) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    for options, said in (
        ("nonsense", "nonsense is no address"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("local --overlays", "overlays are asked for, and Ray"),
    ):
        assert said in run(ANALYZE, "--out out --ray", options, status=2).err


def test_names_never_steer_a_terminal_nor_add_lines(run: Run) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202e\n0 failed\r"
    Path("images/lesion.png").rename(f"images/a{evil}.png")
    Path(f"images/b{evil}.png").write_bytes(b"no image")
    Path(f"images/c{evil}.png").symlink_to(f"c{evil}.png")
    for status, *call in (
        (3, ANALYZE),
        (3, ANALYZE, "--overlays --out", Path(f"out{evil}")),
        (2, "analyze --release release", Path(f"images/none{evil}.png")),
        (2, "analyze images", Path(f"--{evil}")),
        (3, "stress images --release release --out", Path(f"stress{evil}")),
    ):
        said = run(*call, status=status)
        shown = said.out + said.err
        assert "x1b]0;owned" in shown, call
        assert all(each.isprintable() or each == "\n" for each in shown), call
        assert "0 failed" not in shown.splitlines()
    assert "Too many levels" in said.err
    assert "lesion removed" in said.out
