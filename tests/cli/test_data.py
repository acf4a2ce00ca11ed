import shutil
from pathlib import Path

import pytest

from dermfuse.cli import console
from dermfuse.data import download
from dermfuse.data.download import DownloadedPart
from dermfuse.folders import NOTICE

from ..two_folders import write_halves
from .conftest import Run

IMAGES = "ISBI2016_ISIC_Part3_Training_Data"
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"


@pytest.fixture
def damaged(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the drawn data with a test image among the training images, and other faults."""
    folder = tmp_path / "data [copy]"
    shutil.copytree(drawn, folder)
    test_image = folder / "ISBI2016_ISIC_Part3_Test_Data" / "ISIC_9950000.jpg"
    shutil.copy(test_image, folder / IMAGES / "ISIC_9900000.jpg")
    (folder / IMAGES / "ISIC_9900001.jpg").write_bytes(b"")
    masks = folder / "ISBI2016_ISIC_Part1_Training_GroundTruth"
    (masks / "ISIC_9900002_Segmentation.png").unlink()
    return folder


def test_verify_prints_counts_beside_the_official_ones(
    drawn: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    said = run("data", "verify", drawn)
    rows = [line.split() for line in said.out.splitlines()]
    assert ["train", "images", "30", "900"] in rows
    assert ["test", "malignant", "1", "75"] in rows
    assert said.out.endswith(NOTICE + "\n")
    assert said.err == "Reading images and masks ...\n"
    record = run("data", "verify", drawn, "--json").record
    assert [split["found"]["images"] for split in record["splits"]] == [30, 6]
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    said = run("data", "verify", drawn)
    assert "36/36" in said.err
    assert "36/36" not in said.out


def test_verify_and_audit_name_what_is_missing_odd_and_twice(damaged: Path, run: Run) -> None:
    out = run("data", "verify", damaged).out
    assert "train: 1 missing masks: ISIC_9900002" in out
    assert "train: unreadable image: ISIC_9900001: " in out
    out = run("data", "audit", damaged).out
    for said in ("identical file", "ISIC_9950000 (test)", "not compared: "):
        assert said in out
    assert "Leave out of training: ISIC_9900000" in out
    assert out.endswith(NOTICE + "\n")
    with (damaged / LABELS).open("a") as file:
        file.write("ISIC_9900000,unsure\n")
    error = run("data", "audit", damaged, status=2).error
    assert f"{LABELS}, line 31: unknown label 'unsure'" in error


def test_verify_says_what_folders_hold_together_and_what_training_refuses(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    a, b = write_halves(drawn, tmp_path)
    (b / "groups.csv").write_text("image_id,lesion_group\nISIC_9899999,g\n")
    out = run("data", "verify", a, b).out
    assert "Together: 30 training images (24 benign, 6 malignant), 30 with a mask; 10 in" in out
    assert "refused by training: " in out
    record = run("data", "verify", a, b, "--json").record
    assert [each["splits"][0]["found"]["images"] for each in record["folders"]] == [20, 20]
    assert record["joined"]["repeated"] == 10


def test_audit_compares_the_images_of_one_folder_and_of_several(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    record = run("data", "audit", drawn, "--json").record
    assert (record["image_count"], record["pairs"]) == (36, [])
    a, b = write_halves(drawn, tmp_path)
    last = max((b / IMAGES).iterdir())
    shutil.copy(last, a / IMAGES / "ISIC_9999999.jpg")
    record = run("data", "audit", a, b, "--json").record
    assert record["image_count"] == 37
    (pair,) = record["pairs"]
    assert (pair["first_id"], pair["second_id"]) == (last.stem, "ISIC_9999999")


def test_synthesize_draws_what_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "data"
    options = ["--train", 4, "--test", 2, "--seed", 7, "--size", "80x64"]
    said = run("data", "synthesize", out, *options).out
    assert "4 training images (1 malignant) and 2 test images" in said
    assert len(list((out / IMAGES).iterdir())) == 4
    assert "exists and is not empty" in run("data", "synthesize", out, *options, status=2).error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "new"], "new is not a folder"),
        (["verify", "new"], "dermfuse data download"),
        (["synthesize", "new", "--size", "80"], "--size is '80'"),
        (["synthesize", "new", "--size", "8x8"], "the image size is 8 x 8 px"),
        (["synthesize", "new", "--train", "0"], "train_count is 0"),
        (["synthesize", "file/data"], "cannot be written"),
    ],
)
def test_what_cannot_be_read_drawn_or_written_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    assert said in run("data", *arguments, status=2).error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_download_says_what_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
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
        said = run("data", "download", tmp_path)
        assert "2.0 MB" in said.out
        assert "there already" in said.out
        assert "a.zip" in said.err
