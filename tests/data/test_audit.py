"""Duplicates are found whatever was done to the copy, and nothing else is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from dermfuse.data.audit import audit, perceptual_hash
from dermfuse.errors import DataError

TRAIN = "ISBI2016_ISIC_Part1_Training_Data"
TEST = "ISBI2016_ISIC_Part1_Test_Data"


def _photograph(seed: int) -> Image.Image:
    """A smooth field of its own, as different from the next as two lesions are."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def _save(folder: Path, part: str, number: int, image: Image.Image, suffix: str = "jpg") -> Path:
    (folder / part).mkdir(exist_ok=True)
    path = folder / part / f"ISIC_900000{number}.{suffix}"
    image.save(path, quality=90) if suffix == "jpg" else image.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three unrelated training images and one unrelated test image."""
    for number in (1, 2, 3):
        _save(tmp_path, TRAIN, number, _photograph(number))
    _save(tmp_path, TEST, 7, _photograph(7))
    return tmp_path


def test_unrelated_images_are_no_duplicates(folder: Path) -> None:
    report = audit(folder)
    assert report.image_count == 4
    assert report.pairs == ()


def test_a_copied_file_is_identical(folder: Path) -> None:
    copy = folder / TEST / "ISIC_9000008.jpg"
    copy.write_bytes((folder / TRAIN / "ISIC_9000002.jpg").read_bytes())
    (pair,) = audit(folder).pairs
    assert (pair.kind, pair.first_id, pair.second_id) == (
        "identical file",
        "ISIC_9000002",
        "ISIC_9000008",
    )
    assert pair.across_splits
    assert pair.correlation == 1.0


def test_the_same_pixels_in_another_format_are_identical_pixels(folder: Path) -> None:
    with Image.open(folder / TRAIN / "ISIC_9000001.jpg") as image:
        _save(folder, TRAIN, 4, image, "png")
    (pair,) = audit(folder).pairs
    assert pair.kind == "identical pixels"
    assert not pair.across_splits


@pytest.mark.parametrize(
    ("change", "orientation"),
    [
        (lambda x: x.resize((110, 83)), "as it is"),
        (lambda x: ImageEnhance.Brightness(x).enhance(1.15), "as it is"),
        (lambda x: x.transpose(Image.Transpose.ROTATE_90), "rotated by 270°"),
        (lambda x: x.transpose(Image.Transpose.ROTATE_180), "rotated by 180°"),
        (lambda x: x.transpose(Image.Transpose.ROTATE_270), "rotated by 90°"),
        (lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored"),
        (lambda x: x.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "mirrored, then rotated by 180°"),
        (lambda x: x.transpose(Image.Transpose.TRANSPOSE), "mirrored, then rotated by 90°"),
        (lambda x: x.transpose(Image.Transpose.TRANSVERSE), "mirrored, then rotated by 270°"),
    ],
)
def test_a_changed_copy_is_a_near_duplicate(
    folder: Path, change: Callable[[Image.Image], Image.Image], orientation: str
) -> None:
    _save(folder, TEST, 8, change(_photograph(2)))
    report = audit(folder)
    (pair,) = report.pairs
    assert (pair.kind, pair.first_split, pair.second_split) == ("near duplicate", "train", "test")
    assert pair.orientation == orientation
    assert report.near_correlation <= pair.correlation < 1.0 + 1e-6
    assert report.test_duplicates == ("ISIC_9000002",)


def test_the_orientation_said_is_the_one_that_restores(folder: Path) -> None:
    turned = _photograph(2).transpose(Image.Transpose.TRANSPOSE)
    _save(folder, TEST, 8, turned)
    assert audit(folder).pairs[0].orientation == "mirrored, then rotated by 90°"
    restored = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT).transpose(
        Image.Transpose.ROTATE_90
    )
    assert np.array_equal(np.asarray(restored), np.asarray(_photograph(2)))


def test_three_copies_are_three_pairs(folder: Path) -> None:
    for number in (4, 5):
        _save(folder, TRAIN, number, _photograph(1))
    assert len(audit(folder).pairs) == 3


def test_flat_images_are_no_near_duplicates_of_each_other(folder: Path) -> None:
    _save(folder, TRAIN, 4, Image.new("RGB", (60, 40), (0, 0, 0)))
    _save(folder, TRAIN, 5, Image.new("RGB", (60, 40), (90, 90, 90)))
    assert audit(folder).pairs == ()


def test_labels_that_disagree_are_told(folder: Path) -> None:
    _save(folder, TRAIN, 4, _photograph(1))
    labels = folder / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    labels.write_text("ISIC_9000001,benign\nISIC_9000004,malignant\n")
    assert audit(folder).pairs[0].labels_agree is False
    labels.write_text("ISIC_9000001,benign\n")
    assert audit(folder).pairs[0].labels_agree is None


def test_an_unreadable_image_is_told_and_left_out(folder: Path) -> None:
    (folder / TRAIN / "ISIC_9000004.jpg").write_bytes(b"no image")
    report = audit(folder)
    assert report.image_count == 4
    assert len(report.unreadable) == 1
    assert "ISIC_9000004.jpg" in report.unreadable[0]


def test_a_folder_of_unreadable_images_has_no_pairs(tmp_path: Path) -> None:
    (tmp_path / TRAIN).mkdir()
    (tmp_path / TRAIN / "ISIC_9000001.jpg").touch()
    assert audit(tmp_path).pairs == ()


def test_the_report_is_json_and_progress_is_told(folder: Path) -> None:
    _save(folder, TEST, 8, _photograph(3))
    calls: list[tuple[int, int]] = []
    report = audit(folder, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5)
    as_json = json.loads(json.dumps(report.to_dict()))
    assert as_json["pairs"][0]["across_splits"] is True
    assert as_json["test_duplicates"] == ["ISIC_9000003"]


def test_a_folder_without_images_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dermfuse data download"):
        audit(tmp_path)


def test_the_hash_ignores_exposure() -> None:
    grey: NDArray[np.float32] = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    assert np.array_equal(perceptual_hash(grey), perceptual_hash(grey * 0.5 + 20))
    assert len(np.unique(perceptual_hash(grey), axis=0)) == 3


@pytest.mark.real
def test_the_known_test_duplicates_are_found() -> None:
    folder = os.environ.get("DERMFUSE_ISIC2016")
    if not folder:
        pytest.skip("DERMFUSE_ISIC2016 does not name a folder")
    found = audit(Path(folder)).test_duplicates
    assert {"ISIC_0001184", "ISIC_0001385"} <= set(found)
