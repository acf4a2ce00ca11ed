import shutil
from pathlib import Path

import pytest

from dermfuse.cli import console
from dermfuse.data import download
from dermfuse.data.download import DownloadedPart

from ..two_folders import IMAGES, LABELS, MASKS, TESTED, write_halves
from .conftest import Run


@pytest.mark.usefixtures("room")
def test_verify_prints_counts_beside_the_official_ones(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    said = run("data verify data")
    rows = [line.split() for line in said.out.splitlines()]
    assert ["train", "images", "30", "900"] in rows
    assert ["test", "malignant", "1", "75"] in rows
    assert said.err == "Reading images and masks ...\n"
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    said = run("data verify data")
    assert "36/36" in said.err
    assert "36/36" not in said.out


def test_verify_and_audit_name_what_is_missing_odd_and_twice(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    folder = shutil.copytree(drawn, tmp_path / "data [copy]")
    shutil.copy(folder / TESTED / "ISIC_9950000.jpg", folder / IMAGES / "ISIC_9900000.jpg")
    (folder / IMAGES / "ISIC_9900001.jpg").write_bytes(b"")
    (folder / MASKS / "ISIC_9900002_Segmentation.png").unlink()
    out = run("data verify", folder).out
    assert "train: 1 missing masks: ISIC_9900002" in out
    assert "train: unreadable image: ISIC_9900001: " in out
    out = run("data audit", folder).out
    for said in ("identical file", "ISIC_9950000 (test)", "not compared: "):
        assert said in out
    assert "Leave out of training: ISIC_9900000" in out
    with (folder / LABELS).open("a") as file:
        file.write("ISIC_9900000,unsure\n")
    error = run("data audit", folder, status=2).err
    assert f"{LABELS}, line 31: unknown label 'unsure'" in error


def test_several_folders_are_verified_and_compared_as_one(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    a, b = write_halves(drawn, tmp_path)
    last = max((b / IMAGES).iterdir())
    (b / "groups.csv").write_text("image_id,lesion_group\nISIC_9899999,g\n")
    out = run("data verify", a, b).out
    assert "Together: 30 training images (24 benign, 6 malignant), 30 with a mask; 10 in" in out
    assert "refused by training: " in out
    record = run("data verify --json", a, b).record
    assert [each["splits"][0]["found"]["images"] for each in record["folders"]] == [20, 20]
    assert record["joined"]["repeated"] == 10
    (b / "groups.csv").unlink()
    shutil.copy(last, a / IMAGES / "ISIC_9999999.jpg")
    record = run("data audit --json", a, b).record
    assert record["image_count"] == 37
    (pair,) = record["pairs"]
    assert (pair["first_id"], pair["second_id"]) == (last.stem, "ISIC_9999999")


def test_synthesize_draws_what_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    said = run("data synthesize --train 4 --test 2 --seed 7 --size 80x64", tmp_path / "data").out
    assert "4 training images (1 malignant) and 2 test images" in said
    assert len(list((tmp_path / "data" / IMAGES).iterdir())) == 4


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
        said = run("data download", tmp_path)
        assert "2.0 MB" in said.out
        assert "there already" in said.out
        assert "a.zip" in said.err
