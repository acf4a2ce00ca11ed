import json
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.cli import main
from dermfuse.folders import NOTICE, read_json, write_json

from ..small_release import skin, write_small_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_release(tmp_path_factory.mktemp("release")))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lesion.png"
    Image.fromarray(skin(40)).save(path)
    return path


def test_an_image_is_said_in_words_with_the_notice(
    release: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(image), "--release", release]) == 0
    said = capsys.readouterr().out
    assert "probability of melanoma 0." in said
    assert "at balanced, threshold 0.500" in said
    assert "sensitivity 0.90 and specificity 0.60" in said
    assert ": benign at balanced" in said
    assert "  lesion share of the frame 25." in said
    assert said.rstrip().endswith(NOTICE)


def test_what_is_withheld_is_named_for_eyes_first_and_nothing_is_said_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_small_release(tmp_path / "gated", with_gate=True)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(skin(10)).save(images / "known.png")
    Image.new("RGB", (64, 48), "white").save(images / "page.png")
    command = ["analyze", str(images), "--release", str(release)]
    assert main(command) == 0
    said = capsys.readouterr().out
    page = said.partition("page.png\n")[2].partition("\nWithheld")[0].splitlines()
    assert page[0].startswith("  ! This image is unlike the images the networks learnt from")
    assert page[-1] == "  probability of melanoma withheld"
    assert all(line.startswith("  ! ") for line in page[:-1])
    first = "Withheld, look at these first (unlike the images learnt from): page.png"
    assert first in said.splitlines()
    assert main([*command, "--out", str(tmp_path / "out"), "--overlays", "--masks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == first
    assert lines[1].endswith("1 withheld, 0 called malignant, 1 benign")
    drawn = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert {name.partition(".")[0] for name in drawn} == {"known"}
    assert main([*command, "--out", str(tmp_path / "all"), "--masks", "--score-all"]) == 0
    assert len(list((tmp_path / "all" / "masks").iterdir())) == 2


def test_a_sensitivity_stands_beside_that_with_withheld_images_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_small_release(tmp_path / "gated", with_gate=True)
    record = read_json(release / "release.json")
    missed = {"balanced": {"sensitivity": {"value": 0.85, "low": 0.75, "high": 0.9}}}
    record["classes"]["measured"] = {"withheld": {"operating_points": missed}}
    write_json(release / "release.json", record)
    Image.fromarray(skin(10)).save(tmp_path / "a.png")
    command = ["analyze", str(tmp_path / "a.png"), "--release", str(release)]
    assert main(command) == 0
    expected = "; sensitivity 0.85, withheld malignant images counted as missed"
    assert expected in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sensitivity 0.85 (0.75 to 0.90), withheld malignant images counted as missed" in page


def test_a_malignant_call_is_said_too(
    release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(skin(100)).save(tmp_path / "red.png")
    assert main(["analyze", str(tmp_path / "red.png"), "--release", release]) == 0
    assert ": malignant at balanced" in capsys.readouterr().out


def test_json_is_one_object_per_image(
    release: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(image), str(image), "--release", release, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    record = json.loads(lines[0])
    assert record["name"] == image.name
    assert record["outline"]
    assert record["notice"] == NOTICE


def test_files_that_fail_are_named_and_the_others_are_analysed(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    command = ["analyze", str(broken), str(image), "--release", release]
    assert main(command) == 3
    said = capsys.readouterr()
    assert said.err.count("broken.png") == 1
    assert "probability of melanoma" in said.out
    assert main([*command, "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert "1 analysed, 0 done before, 1 failed" in said.out
    assert NOTICE in said.out
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_results_folder_in_json(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    command = ["analyze", str(image), "--release", release, "--out", out, "--json", "--no-report"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["analysed"], record["pages"]) == (1, 0)


def test_mistakes_are_one_line_with_exit_code_2(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        [str(image), "--release", str(tmp_path / "none")],
        [str(image), "--release", release, "--operating-point", "best"],
        [str(image), "--release", release, "--looks", "3"],
        [str(image), "--release", release, "--looks", "3", "--out", str(tmp_path / "out")],
        [str(tmp_path / "none.png"), "--release", release],
    ]
    for arguments in wrong:
        assert main(["analyze", *arguments]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_looks_are_said_and_those_of_no_measurement_warned_of(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["analyze", str(image), "--release", release]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "  over 2 networks the probability varies by 0." in said
    assert "orientation" not in said
    assert main([*command, "--looks", "8"]) == 0
    said = capsys.readouterr().out
    assert "  over 8 orientations and 2 networks the probability varies by 0." in said
    assert "! Each network looked at 8 orientations; " in said
    assert main([*command, "--looks", "8", "--out", str(tmp_path / "out")]) == 0
    assert "were measured with 1." in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "holds results made with looks 8" in capsys.readouterr().err


def test_ray_needs_a_folder_an_address_and_no_overlays(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    command = ["analyze", str(image), "--release", release]
    out = ["--out", str(tmp_path / "out")]
    for arguments, said in (
        (["--ray", "local"], "--ray without --out"),
        (["--ray", "nonsense", *out], "nonsense is no address"),
        (["--ray", "127.0.0.1:1", *out], "no Ray cluster answers at 127.0.0.1:1"),
        (["--ray", "local", "--overlays", *out], "overlays are asked for, and Ray"),
    ):
        assert main([*command, *arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert said in lines[-1]


def test_stress_writes_a_page_and_a_table(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stress"
    assert main(["stress", str(image), "--release", release, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "lesion removed" in said
    assert NOTICE in said
    assert (out / "report.html").is_file()
    assert main(["stress", str(image), "--release", release, "--out", str(out), "--json"]) == 2


def test_what_a_stress_cannot_read_is_told_and_the_rest_goes_on(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop.name)
    arguments = ["stress", str(image.parent), "--release", release, "--out"]
    assert main([*arguments, str(tmp_path / "stress")]) == 3
    said, error = capsys.readouterr()
    assert "loop.jpg: Too many levels" in error
    assert "lesion removed" in said


def test_files_are_written_into_out_alone(
    release: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["analyze", str(image), "--release", release, "--masks"]
    assert main([*command, "--overlays"]) == 2
    assert "--overlays and --masks without --out" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "masks" / "lesion.png.png").is_file()
    assert main([*command[:-1], "--out", str(tmp_path / "out")]) == 2
    assert "masks True" in capsys.readouterr().err


def test_a_fault_over_one_image_does_not_end_the_others(
    release: str, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dermfuse.analysis.analyzer import Analyzer

    whole = Analyzer.analyze

    def analyze(self: Analyzer, source: object, *, name: str = "") -> object:
        if name.startswith("a"):
            raise ZeroDivisionError
        return whole(self, source, name=name)

    (image.parent / "a.png").write_bytes(image.read_bytes())
    monkeypatch.setattr(Analyzer, "analyze", analyze)
    assert main(["analyze", str(image.parent), "--release", release]) == 3
    said = capsys.readouterr()
    assert "a.png: A fault of dermfuse itself (ZeroDivisionError)." in said.err
    assert image.name in said.out


def test_names_never_steer_a_terminal_nor_add_lines(
    release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    evil = "\x1b]0;owned\x07\x9b2J\u202e\n0 failed\r"
    Image.fromarray(skin(40)).save(folder / f"a{evil}.png")
    (folder / f"b{evil}.png").write_bytes(b"no image")
    (folder / f"c{evil}.png").symlink_to(f"gone{evil}.png")
    calls: list[list[str]] = [
        ["analyze", str(folder)],
        ["analyze", str(folder), "--out", str(tmp_path / f"out{evil}"), "--masks", "--overlays"],
        ["analyze", str(folder / f"none{evil}.png")],
        ["analyze", str(folder), f"--{evil}"],
        ["stress", str(folder), "--out", str(tmp_path / f"stress{evil}")],
    ]
    for call in calls:
        options = [] if call[-1].startswith("--\x1b") else ["--release", release]
        assert main([*call, *options]) in (2, 3)
        said = capsys.readouterr()
        shown = said.out + said.err
        assert "x1b]0;owned" in shown, call
        assert all(each.isprintable() or each == "\n" for each in shown), call
        assert "0 failed" not in shown.splitlines()
