"""Verification lists everything odd at once, beside the official totals."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data import VerificationReport, verify_isic2016
from dermfuse.data.audit import OFFICIAL_TOTALS
from dermfuse.data.isic2016 import Totals
from dermfuse.errors import DataError

IMAGES = "ISBI2016_ISIC_Part1_Training_Data"
MASKS = "ISBI2016_ISIC_Part1_Training_GroundTruth"
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"


def _disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return ((y - 20) ** 2 + (x - 30) ** 2 < radius**2).astype(np.uint8) * np.uint8(255)


def _write(folder: Path, number: int, mask: np.ndarray | None) -> None:
    (folder / IMAGES).mkdir(exist_ok=True)
    (folder / MASKS).mkdir(exist_ok=True)
    Image.new("RGB", (60, 40), (200, 150, 120)).save(folder / IMAGES / f"ISIC_900000{number}.jpg")
    if mask is not None:
        path = folder / MASKS / f"ISIC_900000{number}_Segmentation.png"
        Image.fromarray(mask).save(path)


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Nine images, each odd in its own way but the first."""
    masks = [_disc(12), _disc(0), np.full((40, 60), 255, np.uint8), _disc(2), None]
    huge = np.full((40, 60), 255, np.uint8)
    huge[0, :10] = 0
    masks += [huge, _disc(12)[:, :50], _disc(12), _disc(12)]
    for number, mask in enumerate(masks, start=1):
        _write(tmp_path, number, mask)
    (tmp_path / IMAGES / "ISIC_9000008.jpg").write_bytes(b"no image")
    (tmp_path / MASKS / "ISIC_9000009_Segmentation.png").write_bytes(b"")
    (tmp_path / MASKS / "notes.txt").touch()
    lines = [f"ISIC_900000{number},benign" for number in (1, 2, 3, 4, 5, 6, 7)]
    lines += ["ISIC_9000008,malignant", "ISIC_9000010,benign", "ISIC_9000001,benign", "a,b,c"]
    (tmp_path / LABELS).write_text("\n".join(lines))
    return tmp_path


def _kinds(report: VerificationReport) -> list[tuple[str, str]]:
    return [(odd.kind, odd.image_id[-1:]) for odd in report.splits[0].odd]


def test_every_odd_file_is_told_and_none_stops_the_rest(odd_folder: Path) -> None:
    assert _kinds(verify_isic2016(odd_folder)) == [
        ("empty mask", "2"),
        ("whole-frame mask", "3"),
        ("tiny mask", "4"),
        ("huge mask", "6"),
        ("mask size", "7"),
        ("unreadable image", "8"),
        ("unreadable mask", "9"),
        ("labels", ""),
        ("labels", ""),
        ("folder", ""),
    ]


def test_counts_stand_beside_the_official_totals(odd_folder: Path) -> None:
    report = verify_isic2016(odd_folder)
    split = report.splits[0]
    assert split.found == Totals(images=9, benign=7, malignant=1, masks=8)
    assert split.official == Totals(images=900, benign=727, malignant=173, masks=900)
    assert split.missing_images == ("ISIC_9000010",)
    assert split.missing_masks == ("ISIC_9000005", "ISIC_9000010")
    assert split.missing_labels == ("ISIC_9000009",)
    assert report.absent_splits == ("test",)
    assert not report.complete


def test_sentences_name_sizes_and_areas(odd_folder: Path) -> None:
    sentences = {odd.kind: odd.sentence for odd in verify_isic2016(odd_folder).splits[0].odd}
    assert sentences["mask size"].endswith("is 50 x 40 pixels; its image is 60 x 40.")
    assert sentences["huge mask"].endswith("covers 99.6% of the frame.")
    assert "line 11: 3 columns" in sentences["labels"]


def test_a_whole_set_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OFFICIAL_TOTALS, "train", Totals(1, 0, 1, 1))
    monkeypatch.setitem(OFFICIAL_TOTALS, "test", Totals(1, 1, 0, 1))
    _write(tmp_path, 1, _disc(12))
    (tmp_path / LABELS).write_text("ISIC_9000001,malignant\n")
    for name in (IMAGES, MASKS, LABELS):
        path = tmp_path / name.replace("Training", "Test")
        if name == LABELS:
            path.write_text("ISIC_9000002,0.0\n")
            continue
        path.mkdir()
        for source in (tmp_path / name).iterdir():
            target = path / source.name.replace("9000001", "9000002")
            target.write_bytes(source.read_bytes())
    report = verify_isic2016(tmp_path)
    assert report.complete
    assert [split.split for split in report.splits] == ["train", "test"]
    assert not any(split.odd for split in report.splits)


def test_the_report_is_json(odd_folder: Path) -> None:
    report = json.loads(json.dumps(verify_isic2016(odd_folder).to_dict()))
    assert report["splits"][0]["found"]["images"] == 9
    assert report["splits"][0]["odd"][0]["kind"] == "empty mask"
    assert report["complete"] is False


def test_progress_counts_the_images(odd_folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    verify_isic2016(odd_folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 9) for done in range(1, 10)]


def test_a_folder_without_images_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dermfuse data download"):
        verify_isic2016(tmp_path)


@pytest.mark.real
def test_the_real_data_holds_no_unreadable_file() -> None:
    folder = os.environ.get("DERMFUSE_ISIC2016")
    if not folder:
        pytest.skip("DERMFUSE_ISIC2016 does not name a folder")
    kinds = {odd.kind for split in verify_isic2016(Path(folder)).splits for odd in split.odd}
    assert not kinds & {"unreadable image", "unreadable mask", "mask size", "labels"}


def test_the_rule_of_each_mask_is_counted_and_another_than_most_is_told(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        _write(tmp_path, number, _disc(12) // np.uint8(255))  # 0 and 1
    _write(tmp_path, 4, _disc(12))
    (tmp_path / MASKS / "ISIC_9000001_Segmentation.png").rename(
        tmp_path / MASKS / "ISIC_9000001_segmentation.PNG"
    )
    report = verify_isic2016(tmp_path)
    split = report.splits[0]
    assert split.mask_rules == {"two levels: 0 and 1": 3, "two levels: 0 and 255": 1}
    assert [(odd.kind, odd.image_id) for odd in split.odd if odd.image_id] == [
        ("mask rule", "ISIC_9000004")
    ]
    assert "read as: two levels: 0 and 255; most are: two levels: 0 and 1." in split.odd[0].sentence
    assert report.to_dict()["splits"][0]["mask_rules"] == split.mask_rules


def test_masks_of_class_numbers_are_unreadable_and_counted_by_no_rule(tmp_path: Path) -> None:
    classes = _disc(12) // np.uint8(255) + _disc(6) // np.uint8(255)
    _write(tmp_path, 1, classes)
    split = verify_isic2016(tmp_path).splits[0]
    assert split.mask_rules == {}
    assert [odd.kind for odd in split.odd][:1] == ["unreadable mask"]
    assert "3 levels from 0 to 2 of 255, as the numbers of classes do" in split.odd[0].sentence


def test_links_pipes_and_folders_of_images_lose_themselves_alone(tmp_path: Path) -> None:
    _write(tmp_path, 1, _disc(12))
    images = tmp_path / IMAGES
    (images / "ISIC_9000002.jpg").symlink_to("nowhere.jpg")
    (images / "ISIC_9000003.jpg").symlink_to("ISIC_9000003.jpg")
    (images / "ISIC_9000004.jpg").mkdir()
    os.mkfifo(images / "ISIC_9000005.jpg")
    os.mkfifo(tmp_path / MASKS / "ISIC_9000001_segmentation.png")
    split = verify_isic2016(tmp_path).splits[0]
    assert (split.found.images, split.found.masks) == (1, 1)
    unknown = [odd.sentence for odd in split.odd if "something unknown" in odd.sentence]
    assert len(unknown) == 5
