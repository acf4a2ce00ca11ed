import json
import shutil
from pathlib import Path

import pytest

from dermfuse.cli import console, main
from dermfuse.data import download
from dermfuse.data.download import DownloadedPart
from dermfuse.folders import NOTICE

from ..two_folders import write_halves

LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"


@pytest.fixture
def damaged(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the drawn data with a test image among the training images, and other faults."""
    folder = tmp_path / "data [copy]"
    shutil.copytree(drawn, folder)
    images = folder / "ISBI2016_ISIC_Part3_Training_Data"
    test_image = folder / "ISBI2016_ISIC_Part3_Test_Data" / "ISIC_9950000.jpg"
    shutil.copy(test_image, images / "ISIC_9900000.jpg")
    (images / "ISIC_9900001.jpg").write_bytes(b"")
    masks = folder / "ISBI2016_ISIC_Part1_Training_GroundTruth"
    (masks / "ISIC_9900002_Segmentation.png").unlink()
    return folder


def test_verify_prints_counts_beside_the_official_ones(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "verify", str(drawn)]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert ["train", "images", "30", "900"] in rows
    assert ["test", "malignant", "1", "75"] in rows
    assert captured.out.endswith(NOTICE + "\n")
    assert captured.err == "Reading images and masks ...\n"


def test_verify_names_what_is_missing_and_odd(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "verify", str(damaged)]) == 0
    out = capsys.readouterr().out
    assert "train: 1 missing masks: ISIC_9900002" in out
    assert "train: unreadable image: ISIC_9900001: " in out


def test_verify_as_json_is_one_object(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", str(drawn), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [split["found"]["images"] for split in record["splits"]] == [30, 6]
    assert record["notice"] == NOTICE


def test_a_missing_folder_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "verify", str(tmp_path / "nowhere")]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert "nowhere is not a folder" in err
    assert "dermfuse data download" in err


def test_audit_finds_the_image_that_is_in_both_splits(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "audit", str(damaged)]) == 0
    out = capsys.readouterr().out
    assert "identical file" in out
    assert "ISIC_9950000 (test)" in out
    assert "Leave out of training: ISIC_9900000" in out
    assert "not compared: " in out
    assert out.endswith(NOTICE + "\n")


def test_audit_as_json_is_one_object(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", str(drawn), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["image_count"] == 36
    assert record["pairs"] == []
    assert record["notice"] == NOTICE


def test_verify_says_what_folders_hold_together_and_what_training_refuses(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_halves(drawn, tmp_path)
    (b / "groups.csv").write_text("image_id,lesion_group\nISIC_9899999,g\n")
    assert main(["data", "verify", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "Together: 30 training images (24 benign, 6 malignant), 30 with a mask; 10 in" in out
    assert "refused by training: " in out
    assert main(["data", "verify", str(a), str(b), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["splits"][0]["found"]["images"] for each in record["folders"]] == [20, 20]
    assert record["joined"]["repeated"] == 10


def test_audit_compares_the_images_of_several_folders(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_halves(drawn, tmp_path)
    last = max((b / "ISBI2016_ISIC_Part3_Training_Data").iterdir())
    shutil.copy(last, a / "ISBI2016_ISIC_Part3_Training_Data" / "ISIC_9999999.jpg")
    assert main(["data", "audit", str(a), str(b), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["image_count"] == 37
    assert [(p["first_id"], p["second_id"]) for p in record["pairs"]] == [
        (last.stem, "ISIC_9999999")
    ]


def test_synthesize_draws_what_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    arguments = ["--train", "4", "--test", "2", "--seed", "7", "--size", "80x64"]
    assert main(["data", "synthesize", str(out), *arguments]) == 0
    assert "4 training images (1 malignant) and 2 test images" in capsys.readouterr().out
    assert len(list((out / "ISBI2016_ISIC_Part3_Training_Data").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "80"], "--size is '80'"),
        (["--size", "8x8"], "the image size is 8 x 8 px"),
        (["--train", "0"], "train_count is 0"),
    ],
)
def test_synthesize_refuses_what_cannot_be_drawn(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "synthesize", str(tmp_path / "data"), *arguments]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "data").exists()


def test_synthesize_leaves_an_existing_folder_alone(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "synthesize", str(drawn)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_synthesize_says_that_a_folder_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(["data", "synthesize", str(tmp_path / "file" / "data")]) == 2
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_download_says_what_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(folder: Path, *, progress: console.FileAdvance) -> tuple[DownloadedPart, ...]:
        progress("a.zip", 1, None)
        progress("a.zip", 2_000_000, 2_000_000)
        return (
            DownloadedPart("train-images", "a.zip", False, 2_000_000, "0" * 64, ("size", "MD5")),
            DownloadedPart("train-labels", "b.csv", was_present=True),
        )

    monkeypatch.setattr(download, "download_isic2016", fetch)
    for on_terminal in (False, True):
        monkeypatch.setattr(console, "on_terminal", lambda answer=on_terminal: answer)
        assert main(["data", "download", str(tmp_path)]) == 0
        captured = capsys.readouterr()
        assert "2.0 MB" in captured.out
        assert "there already" in captured.out
        assert "a.zip" in captured.err


def test_bars_are_drawn_on_a_terminal(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    assert main(["data", "verify", str(drawn)]) == 0
    captured = capsys.readouterr()
    assert "36/36" in captured.err
    assert "36/36" not in captured.out


def test_a_damaged_label_file_is_told_by_its_line(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (damaged / LABELS).open("a") as file:
        file.write("ISIC_9900000,unsure\n")
    assert main(["data", "audit", str(damaged)]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert f"{LABELS}, line 31: unknown label 'unsure'" in err
