"""Verification lists everything odd at once; duplicates are found whatever was done to a copy."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dermfuse.data import verify_isic2016
from dermfuse.data.audit import NEAR_CORRELATION, OFFICIAL_TOTALS, audit
from dermfuse.data.isic2016 import Totals
from dermfuse.errors import DataError

TRAIN = "ISBI2016_ISIC_Part1_Training_Data"
TEST = "ISBI2016_ISIC_Part1_Test_Data"
MASKS = "ISBI2016_ISIC_Part1_Training_GroundTruth"
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
Turn = Image.Transpose


def _disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return ((y - 20) ** 2 + (x - 30) ** 2 < radius**2).astype(np.uint8) * np.uint8(255)


def _write(folder: Path, number: int, mask: np.ndarray | None) -> None:
    image = Image.new("RGB", (60, 40), (200, 150, 120))
    _save(folder, TRAIN, number, image)
    (folder / MASKS).mkdir(exist_ok=True)
    if mask is not None:
        Image.fromarray(mask).save(folder / MASKS / f"ISIC_900000{number}_Segmentation.png")


def _photograph(seed: int) -> Image.Image:
    """A smooth field of its own, as different from the next as two lesions are."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def _save(folder: Path, part: str, number: int, image: Image.Image, suffix: str = "jpg") -> None:
    (folder / part).mkdir(exist_ok=True)
    image.save(folder / part / f"ISIC_900000{number}.{suffix}", quality=90)


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Nine images, each odd in its own way but the first."""
    masks = [_disc(12), _disc(0), np.full((40, 60), 255, np.uint8), _disc(2), None]
    huge = np.full((40, 60), 255, np.uint8)
    huge[0, :10] = 0
    masks += [huge, _disc(12)[:, :50], _disc(12), _disc(12)]
    for number, mask in enumerate(masks, start=1):
        _write(tmp_path, number, mask)
    (tmp_path / TRAIN / "ISIC_9000008.jpg").write_bytes(b"no image")
    (tmp_path / MASKS / "ISIC_9000009_Segmentation.png").write_bytes(b"")
    (tmp_path / MASKS / "notes.txt").touch()
    lines = [f"ISIC_900000{number},benign" for number in (1, 2, 3, 4, 5, 6, 7)]
    lines += ["ISIC_9000008,malignant", "ISIC_9000010,benign", "ISIC_9000001,benign", "a,b,c"]
    (tmp_path / LABELS).write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three unrelated training images and one unrelated test image."""
    for number in (1, 2, 3):
        _save(tmp_path, TRAIN, number, _photograph(number))
    _save(tmp_path, TEST, 7, _photograph(7))
    return tmp_path


def test_every_odd_file_is_listed_and_none_stops_the_rest(odd_folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = verify_isic2016(odd_folder, progress=lambda *call: calls.append(call))
    assert calls == [(done, 9) for done in range(1, 10)]
    split = report.splits[0]
    kinds = ["empty mask", "whole-frame mask", "tiny mask", "huge mask", "mask size"]
    kinds += ["unreadable image", "unreadable mask", "labels", "labels", "folder"]
    assert [one.kind for one in split.odd] == kinds
    assert [one.image_id[-1:] for one in split.odd] == [*"2346789", "", "", ""]
    sentences = {one.kind: one.sentence for one in split.odd}
    assert sentences["mask size"].endswith("is 50 x 40 pixels; its image is 60 x 40.")
    assert sentences["huge mask"].endswith("covers 99.6% of the frame.")
    assert "line 11: 3 columns" in sentences["labels"]
    assert split.found == Totals(images=9, benign=7, malignant=1, masks=8)
    assert split.official == Totals(images=900, benign=727, malignant=173, masks=900)
    assert split.missing_images == ("ISIC_9000010",)
    assert split.missing_masks == ("ISIC_9000005", "ISIC_9000010")
    assert split.missing_labels == ("ISIC_9000009",)
    record = json.loads(json.dumps(report.to_dict()))
    assert record["splits"][0]["odd"][0]["kind"] == "empty mask"
    assert (record["complete"], record["absent_splits"]) == (False, ["test"])


def test_a_whole_set_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in OFFICIAL_TOTALS:
        monkeypatch.setitem(OFFICIAL_TOTALS, split, Totals(1, 0, 1, 1))
    _write(tmp_path, 1, _disc(12))
    (tmp_path / LABELS).write_text("ISIC_9000001,malignant\n")
    assert [split.complete for split in verify_isic2016(tmp_path).splits] == [True]
    assert not verify_isic2016(tmp_path).complete, "there is no test split"
    for path in [*tmp_path.rglob("*.*")]:
        copy = tmp_path / str(path.relative_to(tmp_path)).replace("Training", "Test")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    report = verify_isic2016(tmp_path)
    assert report.complete
    assert not any(split.odd for split in report.splits)


def test_the_rule_of_each_mask_is_counted_and_another_than_most_is_odd(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        _write(tmp_path, number, _disc(12) // np.uint8(255))  # 0 and 1
    _write(tmp_path, 4, _disc(12))
    _write(tmp_path, 5, _disc(12) // np.uint8(255) + _disc(6) // np.uint8(255))  # classes
    split = verify_isic2016(tmp_path).splits[0]
    assert split.mask_rules == {"two levels: 0 and 1": 3, "two levels: 0 and 255": 1}
    classes, rule = (odd for odd in split.odd if odd.image_id)
    assert classes.kind == "unreadable mask"
    assert (rule.kind, rule.image_id) == ("mask rule", "ISIC_9000004")


def test_links_pipes_and_folders_of_images_lose_themselves_alone(tmp_path: Path) -> None:
    _write(tmp_path, 1, _disc(12))
    images = tmp_path / TRAIN
    (images / "ISIC_9000002.jpg").symlink_to("nowhere.jpg")
    (images / "ISIC_9000003.jpg").symlink_to("ISIC_9000003.jpg")
    (images / "ISIC_9000004.jpg").mkdir()
    os.mkfifo(images / "ISIC_9000005.jpg")
    os.mkfifo(tmp_path / MASKS / "ISIC_9000001_segmentation.png")
    split = verify_isic2016(tmp_path).splits[0]
    assert (split.found.images, split.found.masks) == (1, 1)
    assert sum("something unknown" in odd.sentence for odd in split.odd) == 5


@pytest.mark.parametrize("check", [audit, verify_isic2016])
def test_a_folder_without_images_says_what_to_do(
    check: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="dermfuse data download"):
        check(tmp_path)


def test_unrelated_flat_and_unreadable_images_are_no_duplicates(folder: Path) -> None:
    for number, level in ((4, 0), (5, 90)):
        _save(folder, TRAIN, number, Image.new("RGB", (60, 40), (level,) * 3))
    (folder / TRAIN / "ISIC_9000006.jpg").write_bytes(b"no image")
    report = audit(folder)
    assert (report.image_count, report.pairs) == (6, ())
    assert ["ISIC_9000006.jpg" in sentence for sentence in report.unreadable] == [True]
    for path in (folder / TRAIN).iterdir():
        path.write_bytes(b"")
    shutil.rmtree(folder / TEST)
    assert audit(folder).pairs == ()


def test_a_copied_file_or_its_pixels_in_another_format_are_identical(folder: Path) -> None:
    shutil.copy(folder / TRAIN / "ISIC_9000002.jpg", folder / TEST / "ISIC_9000008.jpg")
    with Image.open(folder / TRAIN / "ISIC_9000001.jpg") as image:
        _save(folder, TRAIN, 4, image, "png")
    for number in (5, 6):
        _save(folder, TRAIN, number, Image.new("RGB", (60, 40)))
    report = audit(folder)
    one, other, flat = report.pairs
    assert report.test_duplicates == ("ISIC_9000002",)
    assert flat.kind == "identical file", "which correlates with nothing"
    ids = (one.first_id, one.second_id)
    assert (one.kind, *ids) == ("identical file", "ISIC_9000002", "ISIC_9000008")
    assert (one.across_splits, one.correlation) == (True, 1.0)
    assert (other.kind, other.across_splits) == ("identical pixels", False)


@pytest.mark.parametrize(
    ("change", "orientation"),
    [
        (lambda x: x.resize((110, 83)), "as it is"),
        (lambda x: ImageEnhance.Brightness(x).enhance(1.15), "as it is"),
        (lambda x: x.transpose(Turn.ROTATE_90), "rotated by 270°"),
        (lambda x: x.transpose(Turn.ROTATE_180), "rotated by 180°"),
        (lambda x: x.transpose(Turn.FLIP_LEFT_RIGHT), "mirrored"),
        (lambda x: x.transpose(Turn.TRANSPOSE), "mirrored, then rotated by 90°"),
    ],
)
def test_a_changed_copy_is_a_near_duplicate_turned_as_it_is_restored(
    folder: Path, change: Callable[[Image.Image], Image.Image], orientation: str
) -> None:
    _save(folder, TEST, 8, change(_photograph(2)))
    calls: list[tuple[int, int]] = []
    report = audit(folder, progress=lambda *call: calls.append(call))
    (pair,) = report.pairs
    assert (pair.kind, pair.orientation) == ("near duplicate", orientation)
    assert (pair.first_split, pair.second_split) == ("train", "test")
    assert NEAR_CORRELATION <= pair.correlation < 1.0 + 1e-6
    assert calls[-1] == (5, 5)
    record = json.loads(json.dumps(report.to_dict()))
    assert (record["near_correlation"], record["candidate_bits"]) == (0.985, 16)
    assert record["pairs"][0]["across_splits"] is True
    assert record["test_duplicates"] == ["ISIC_9000002"]


def test_three_copies_are_three_pairs_whose_labels_are_compared(folder: Path) -> None:
    for number in (4, 5):
        _save(folder, TRAIN, number, _photograph(1))
    (folder / LABELS).write_text("ISIC_9000001,benign\nISIC_9000004,malignant\n")
    assert [pair.labels_agree for pair in audit(folder).pairs] == [False, None, None]


@pytest.mark.real
def test_the_real_data_is_readable_and_its_known_test_duplicates_are_found(
    real_isic2016: Path,
) -> None:
    kinds = {odd.kind for split in verify_isic2016(real_isic2016).splits for odd in split.odd}
    assert not kinds & {"unreadable image", "unreadable mask", "mask size", "labels"}
    assert {"ISIC_0001184", "ISIC_0001385"} <= set(audit(real_isic2016).test_duplicates)
