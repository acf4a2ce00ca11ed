import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermfuse.training.prediction
from dermfuse.cli import main
from dermfuse.folders import NOTICE
from dermfuse.predictions.folder import SCORES_NAME, Manifest, SubmissionReport, write_manifest
from dermfuse.predictions.scores import ScoreTable, write_scores

from ..small_release import skin, write_small_release


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    ids = tuple(f"ISIC_{i:07d}" for i in range(8))
    truth = tmp_path / "truth"
    truth.mkdir()
    rows = [f"{image_id},{int(i >= 4)}" for i, image_id in enumerate(ids)]
    (truth / "labels.csv").write_text("\n".join(["image_id,label", *rows]) + "\n")
    folder = tmp_path / "predicted"
    folder.mkdir()
    write_scores(folder / SCORES_NAME, ScoreTable(ids, np.linspace(0.1, 0.9, 8)))
    write_manifest(folder, Manifest("classification", source="a net", split="validation"))
    return folder


def test_a_table_is_printed_and_written_into_a_page(
    predicted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = predicted.parent / "page.md"
    page.write_text("before\n<!-- results:begin -->\n<!-- results:end -->\nafter\n")
    truth = str(predicted.parent / "truth")
    assert main(["tabulate", str(predicted), "--truth", truth, "--write", str(page)]) == 0
    out = capsys.readouterr().out
    assert "| a net | validation |" in out
    assert NOTICE in out
    assert "| a net | validation |" in page.read_text()
    assert page.read_text().endswith("after\n")


def test_a_table_is_one_json_object_on_request(
    predicted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = str(predicted.parent / "truth")
    assert main(["tabulate", str(predicted), "--truth", truth, "--json", "--draws", "20"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["results"][0]["classification"]["auc"]["value"] == 1
    assert record["notice"] == NOTICE


def test_what_is_no_run_cannot_be_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert "run.json is missing" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_submission_may_look_eight_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked: list[bool] = []

    def submit(run: Path, *, out: Path, tta: bool, **_: object) -> SubmissionReport:
        looked.append(tta)
        return SubmissionReport(out, "classification", 6, 0.1)

    monkeypatch.setattr(dermfuse.training.prediction, "submit", submit)
    command = ["submit", "run", "--data", "d", "--out", str(tmp_path)]
    assert main(command) == main([*command, "--tta"]) == 0
    assert looked == [False, True]
    assert "6 images (classification)" in capsys.readouterr().out


def test_results_of_analyze_are_converted_and_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_small_release(tmp_path / "release")
    Image.fromarray(skin(40)).save(tmp_path / "lesion.png")
    results = str(tmp_path / "results")
    analyze = ["analyze", str(tmp_path / "lesion.png"), "--release", str(release)]
    assert main([*analyze, "--out", results, "--masks"]) == 0
    assert main(["convert", results, "--out", str(tmp_path / "predictions")]) == 0
    assert "joint; release small" in capsys.readouterr().out
    assert main(["submit", results, "--out", str(tmp_path / "packed")]) == 0
    assert "1 images (joint)" in capsys.readouterr().out
    packed = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert packed == ["masks.zip", "run.json", "scores.csv"]


def test_withheld_images_are_told_by_convert_and_counted_by_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_small_release(tmp_path / "release", with_gate=True)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(skin(10)).save(images / "known.png")
    Image.new("RGB", (64, 48), "white").save(images / "page.png")
    (tmp_path / "truth").mkdir()
    labels = "image_id,label\nknown,benign\npage,malignant\n"
    (tmp_path / "truth" / "labels.csv").write_text(labels)
    results, predictions = str(tmp_path / "results"), str(tmp_path / "predictions")
    assert main(["analyze", str(images), "--release", str(release), "--out", results]) == 0
    assert main(["convert", results, "--out", predictions]) == 0
    assert "1 images were withheld" in capsys.readouterr().out
    assert main(["evaluate", predictions, "--truth", str(tmp_path / "truth")]) == 0
    said = capsys.readouterr().out
    assert "withheld: 1 of 1 (100.0 %) malignant and 0 of 1 (0.0 %) benign images" in said
    assert "sensitivity, withheld malignant images counted as missed" in said
    assert main(["submit", results, "--out", str(tmp_path / "packed")]) == 2
    assert "page of" in capsys.readouterr().err


def test_a_run_without_its_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("")
    assert main(["submit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "Add --data" in capsys.readouterr().err
