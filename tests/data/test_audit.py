"""Verification lists everything odd at once; duplicates are found whatever was done to a copy."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dermfuse.data import verify_isic2016
from dermfuse.data.audit import NEAR_CORRELATION, OFFICIAL_TOTALS, audit, perceptual_hash
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


class TestVerifying:
    def test_every_odd_file_is_listed_and_none_stops_the_rest(self, odd_folder: Path) -> None:
        calls: list[tuple[int, int]] = []
        report = verify_isic2016(odd_folder, progress=lambda *call: calls.append(call))
        assert calls == [(done, 9) for done in range(1, 10)]
        odd = report.splits[0].odd
        assert [(one.kind, one.image_id[-1:]) for one in odd] == [
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
        sentences = {one.kind: one.sentence for one in odd}
        assert sentences["mask size"].endswith("is 50 x 40 pixels; its image is 60 x 40.")
        assert sentences["huge mask"].endswith("covers 99.6% of the frame.")
        assert "line 11: 3 columns" in sentences["labels"]

    def test_counts_stand_beside_the_official_totals(self, odd_folder: Path) -> None:
        report = verify_isic2016(odd_folder)
        split = report.splits[0]
        assert split.found == Totals(images=9, benign=7, malignant=1, masks=8)
        assert split.official == Totals(images=900, benign=727, malignant=173, masks=900)
        assert split.missing_images == ("ISIC_9000010",)
        assert split.missing_masks == ("ISIC_9000005", "ISIC_9000010")
        assert split.missing_labels == ("ISIC_9000009",)
        record = json.loads(json.dumps(report.to_dict()))
        assert record["splits"][0]["found"]["images"] == 9
        assert record["splits"][0]["odd"][0]["kind"] == "empty mask"
        assert (record["complete"], record["absent_splits"]) == (False, ["test"])

    def test_a_whole_set_is_complete(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for split in OFFICIAL_TOTALS:
            monkeypatch.setitem(OFFICIAL_TOTALS, split, Totals(1, 0, 1, 1))
        _write(tmp_path, 1, _disc(12))
        (tmp_path / LABELS).write_text("ISIC_9000001,malignant\n")
        for path in [*tmp_path.rglob("*.*")]:
            copy = tmp_path / str(path.relative_to(tmp_path)).replace("Training", "Test")
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
        report = verify_isic2016(tmp_path)
        assert report.complete
        assert [split.split for split in report.splits] == ["train", "test"]
        assert not any(split.odd for split in report.splits)

    def test_the_rule_of_each_mask_is_counted_and_another_than_most_is_odd(
        self, tmp_path: Path
    ) -> None:
        for number in (1, 2, 3):
            _write(tmp_path, number, _disc(12) // np.uint8(255))  # 0 and 1
        _write(tmp_path, 4, _disc(12))
        _write(tmp_path, 5, _disc(12) // np.uint8(255) + _disc(6) // np.uint8(255))  # classes
        split = verify_isic2016(tmp_path).splits[0]
        assert split.mask_rules == {"two levels: 0 and 1": 3, "two levels: 0 and 255": 1}
        classes, rule = (odd for odd in split.odd if odd.image_id)
        assert (classes.kind, rule.kind) == ("unreadable mask", "mask rule")
        assert "3 levels from 0 to 2 of 255, as the numbers of classes do" in classes.sentence
        assert (rule.image_id, rule.sentence) == (
            "ISIC_9000004",
            "its mask is read as: two levels: 0 and 255; most are: two levels: 0 and 1.",
        )

    def test_links_pipes_and_folders_of_images_lose_themselves_alone(self, tmp_path: Path) -> None:
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

    @pytest.mark.real
    def test_the_real_data_holds_no_unreadable_file(self, real_isic2016: Path) -> None:
        kinds = {odd.kind for split in verify_isic2016(real_isic2016).splits for odd in split.odd}
        assert not kinds & {"unreadable image", "unreadable mask", "mask size", "labels"}


@pytest.mark.parametrize("check", [audit, verify_isic2016])
def test_a_folder_without_images_says_what_to_do(
    check: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="dermfuse data download"):
        check(tmp_path)


class TestDuplicates:
    def test_unrelated_and_flat_images_are_none(self, folder: Path) -> None:
        for number, level in ((4, 0), (5, 90)):
            _save(folder, TRAIN, number, Image.new("RGB", (60, 40), (level,) * 3))
        report = audit(folder)
        assert (report.image_count, report.pairs) == (6, ())

    def test_a_copied_file_or_its_pixels_in_another_format_are_identical(
        self, folder: Path
    ) -> None:
        copy = folder / TEST / "ISIC_9000008.jpg"
        copy.write_bytes((folder / TRAIN / "ISIC_9000002.jpg").read_bytes())
        with Image.open(folder / TRAIN / "ISIC_9000001.jpg") as image:
            _save(folder, TRAIN, 4, image, "png")
        one, other = audit(folder).pairs
        assert (one.kind, one.first_id, one.second_id) == (
            "identical file",
            "ISIC_9000002",
            "ISIC_9000008",
        )
        assert (one.across_splits, one.correlation) == (True, 1.0)
        assert (other.kind, other.across_splits) == ("identical pixels", False)

    @pytest.mark.parametrize(
        ("change", "orientation"),
        [
            (lambda x: x.resize((110, 83)), "as it is"),
            (lambda x: ImageEnhance.Brightness(x).enhance(1.15), "as it is"),
            (lambda x: x.transpose(Turn.ROTATE_90), "rotated by 270°"),
            (lambda x: x.transpose(Turn.ROTATE_180), "rotated by 180°"),
            (lambda x: x.transpose(Turn.ROTATE_270), "rotated by 90°"),
            (lambda x: x.transpose(Turn.FLIP_LEFT_RIGHT), "mirrored"),
            (lambda x: x.transpose(Turn.FLIP_TOP_BOTTOM), "mirrored, then rotated by 180°"),
            (lambda x: x.transpose(Turn.TRANSPOSE), "mirrored, then rotated by 90°"),
            (lambda x: x.transpose(Turn.TRANSVERSE), "mirrored, then rotated by 270°"),
        ],
    )
    def test_a_changed_copy_is_a_near_duplicate(
        self, folder: Path, change: Callable[[Image.Image], Image.Image], orientation: str
    ) -> None:
        _save(folder, TEST, 8, change(_photograph(2)))
        report = audit(folder)
        (pair,) = report.pairs
        assert pair.kind == "near duplicate"
        assert (pair.first_split, pair.second_split) == ("train", "test")
        assert pair.orientation == orientation
        assert NEAR_CORRELATION <= pair.correlation < 1.0 + 1e-6
        assert report.test_duplicates == ("ISIC_9000002",)

    def test_the_orientation_is_the_one_that_restores(self) -> None:
        turned = _photograph(2).transpose(Turn.TRANSPOSE)
        mirrored_then_rotated_by_90 = turned.transpose(Turn.FLIP_LEFT_RIGHT).transpose(
            Turn.ROTATE_90
        )
        assert np.array_equal(np.asarray(mirrored_then_rotated_by_90), np.asarray(_photograph(2)))

    def test_three_copies_are_three_pairs_whose_labels_are_compared(self, folder: Path) -> None:
        for number in (4, 5):
            _save(folder, TRAIN, number, _photograph(1))
        (folder / LABELS).write_text("ISIC_9000001,benign\nISIC_9000004,malignant\n")
        assert [pair.labels_agree for pair in audit(folder).pairs] == [False, None, None]

    def test_an_unreadable_image_is_named_and_left_out(self, folder: Path, tmp_path: Path) -> None:
        (folder / TRAIN / "ISIC_9000004.jpg").write_bytes(b"no image")
        report = audit(folder)
        assert report.image_count == 4
        assert ["ISIC_9000004.jpg" in sentence for sentence in report.unreadable] == [True]
        alone = tmp_path / "alone"
        alone.mkdir()
        (alone / TRAIN).mkdir()
        (alone / TRAIN / "ISIC_9000001.jpg").touch()
        assert audit(alone).pairs == ()

    def test_the_report_is_json_and_progress_is_reported(self, folder: Path) -> None:
        _save(folder, TEST, 8, _photograph(3))
        calls: list[tuple[int, int]] = []
        report = audit(folder, progress=lambda done, total: calls.append((done, total)))
        assert calls[-1] == (5, 5)
        as_json = json.loads(json.dumps(report.to_dict()))
        assert (as_json["near_correlation"], as_json["candidate_bits"]) == (0.985, 16)
        assert as_json["pairs"][0]["across_splits"] is True
        assert as_json["test_duplicates"] == ["ISIC_9000003"]

    def test_the_hash_ignores_exposure(self) -> None:
        grey = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
        assert np.array_equal(perceptual_hash(grey), perceptual_hash(grey * 0.5 + 20))
        assert len(np.unique(perceptual_hash(grey), axis=0)) == 3

    @pytest.mark.real
    def test_the_known_test_duplicates_are_found(self, real_isic2016: Path) -> None:
        found = audit(real_isic2016).test_duplicates
        assert {"ISIC_0001184", "ISIC_0001385"} <= set(found)
