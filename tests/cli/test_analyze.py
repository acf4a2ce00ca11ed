import json
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.folders import NOTICE, read_json, write_json

from ..small_release import skin, write_small_release
from .conftest import Run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "lesion.png"
    path.parent.mkdir()
    Image.fromarray(skin(40)).save(path)
    return path


def test_an_image_is_described_in_words_with_the_notice(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    said = run("analyze", image, "--release", release).out
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
    Image.fromarray(skin(100)).save(tmp_path / "red.png")
    assert (
        ": malignant at balanced" in run("analyze", tmp_path / "red.png", "--release", release).out
    )


def test_what_is_withheld_is_named_for_eyes_first_and_not_described(
    tmp_path: Path, image: Path, run: Run
) -> None:
    release = write_small_release(tmp_path / "gated", with_gate=True)
    Image.fromarray(skin(10)).save(image)
    Image.new("RGB", (64, 48), "white").save(image.with_name("page.png"))
    analyze, out = ["analyze", image.parent, "--release", release], tmp_path / "out"
    said = run(*analyze).out
    page = said.partition("page.png\n")[2].partition("\nWithheld")[0].splitlines()
    assert page[0].startswith("  ! This image is unlike the images the networks learnt from")
    assert page[-1] == "  probability of melanoma withheld"
    assert all(line.startswith("  ! ") for line in page[:-1])
    first = "Withheld, look at these first (unlike the images learnt from): page.png"
    assert first in said.splitlines()
    lines = run(*analyze, "--out", out, "--overlays", "--masks").out.splitlines()
    assert lines[0] == first
    assert lines[1].endswith("1 withheld, 0 called malignant, 1 benign")
    assert {path.name.partition(".")[0] for path in out.rglob("*.png")} == {"lesion"}
    run(*analyze, "--out", tmp_path / "all", "--masks", "--score-all")
    assert len(list((tmp_path / "all" / "masks").iterdir())) == 2


def test_a_sensitivity_stands_beside_that_with_withheld_images_missed(
    tmp_path: Path, image: Path, run: Run
) -> None:
    release = write_small_release(tmp_path / "gated", with_gate=True)
    record = read_json(release / "release.json")
    missed = {"balanced": {"sensitivity": {"value": 0.85, "low": 0.75, "high": 0.9}}}
    record["classes"]["measured"] = {"withheld": {"operating_points": missed}}
    write_json(release / "release.json", record)
    Image.fromarray(skin(10)).save(image)
    analyze = ["analyze", image, "--release", release]
    counted = "withheld malignant images counted as missed"
    assert f"; sensitivity 0.85, {counted}" in run(*analyze).out
    run(*analyze, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"sensitivity 0.85 (0.75 to 0.90), {counted}" in page


def test_json_is_one_object_per_image_or_of_the_folder(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    analyze = ["analyze", image, "--release", release, "--json"]
    image.with_name("other.png").write_bytes(image.read_bytes())
    first, _ = map(json.loads, run(*analyze, image.parent).out.splitlines())
    assert first["name"] == image.name
    assert first["outline"]
    assert first["notice"] == NOTICE
    record = run(*analyze, "--out", tmp_path / "out", "--no-report").record
    assert (record["analysed"], record["pages"]) == (1, 0)


def test_files_that_fail_are_named_and_the_others_are_analysed(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    image.with_name("broken.png").write_bytes(b"no image")
    analyze = ["analyze", image.parent, "--release", release]
    said = run(*analyze, status=3)
    assert said.err.count("broken.png") == 1
    assert "probability of melanoma" in said.out
    said = run(*analyze, "--out", tmp_path / "out", status=3)
    assert "1 analysed, 0 done before, 1 failed" in said.out
    assert NOTICE in said.out
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--release", "none"], "none is missing"),
        (["--operating-point", "best"], "best"),
        (["--looks", "3"], "looks is 3"),
        (["--looks", "3", "--out", "out"], "looks is 3"),
        (["none.png"], "none.png"),
        (["--overlays", "--masks"], "--overlays and --masks without --out"),
        (["--ray", "local"], "--ray without --out"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    said: str,
    release: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = run("analyze", image, "--release", release, *options, status=2).err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_looks_than_measured_are_warned_of_and_results_keep_to_their_options(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    analyze, out = ["analyze", image, "--release", release], ["--out", tmp_path / "out"]
    said = run(*analyze, "--looks", 8).out
    assert "  over 8 orientations and 2 networks the probability varies by 0." in said
    assert "! Each network looked at 8 orientations; " in said
    assert "were measured with 1." in run(*analyze, "--looks", 8, "--masks", *out).err
    assert (tmp_path / "out" / "masks" / "lesion.png.png").is_file()
    assert "made with looks 8" in run(*analyze, "--masks", *out, status=2).error
    assert "masks True" in run(*analyze, "--looks", 8, *out, status=2).error


def test_ray_needs_an_address_and_no_overlays(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    analyze = ["analyze", image, "--release", release, "--out", tmp_path / "out", "--ray"]
    for options, said in (
        (["nonsense"], "nonsense is no address"),
        (["127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["local", "--overlays"], "overlays are asked for, and Ray"),
    ):
        assert said in run(*analyze, *options, status=2).error


def test_a_fault_over_one_image_does_not_end_the_others(
    release: Path, image: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    from dermfuse.analysis.analyzer import Analyzer

    whole = Analyzer.analyze

    def analyze(self: Analyzer, source: object, *, name: str = "") -> object:
        if name.startswith("a"):
            raise ZeroDivisionError
        return whole(self, source, name=name)

    image.with_name("a.png").write_bytes(image.read_bytes())
    monkeypatch.setattr(Analyzer, "analyze", analyze)
    said = run("analyze", image.parent, "--release", release, status=3)
    assert "a.png: A fault of dermfuse itself (ZeroDivisionError)." in said.err
    assert image.name in said.out


def test_stress_writes_a_page_and_a_table_of_what_it_can_read(
    release: Path, image: Path, tmp_path: Path, run: Run
) -> None:
    stress = ["stress", image.parent, "--release", release, "--out", tmp_path / "stress"]
    loop = image.with_name("loop.jpg")
    loop.symlink_to(loop.name)
    said = run(*stress, status=3)
    assert "loop.jpg: Too many levels" in said.err
    assert "lesion removed" in said.out
    assert NOTICE in said.out
    assert (tmp_path / "stress" / "report.html").is_file()
    assert "stress report" in run(*stress, status=2).error


def test_names_never_steer_a_terminal_nor_add_lines(
    release: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    evil = "\x1b]0;owned\x07\x9b2J\u202e\n0 failed\r"
    Image.fromarray(skin(40)).save(folder / f"a{evil}.png")
    (folder / f"b{evil}.png").write_bytes(b"no image")
    (folder / f"c{evil}.png").symlink_to(f"gone{evil}.png")
    given = ["--release", release]
    for status, call in (
        (3, ["analyze", folder, *given]),
        (3, ["analyze", folder, "--out", tmp_path / f"out{evil}", "--overlays", *given]),
        (2, ["analyze", folder / f"none{evil}.png", *given]),
        (2, ["analyze", folder, f"--{evil}"]),
        (3, ["stress", folder, "--out", tmp_path / f"stress{evil}", *given]),
    ):
        said = run(*call, status=status)
        shown = said.out + said.err
        assert "x1b]0;owned" in shown, call
        assert all(each.isprintable() or each == "\n" for each in shown), call
        assert "0 failed" not in shown.splitlines()
