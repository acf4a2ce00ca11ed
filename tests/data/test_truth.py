"""Truth folders: the official layout with or without images, and plain folders."""

from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.folders import load_truth
from dermfuse.data.labels import Label
from dermfuse.errors import DataError
from dermfuse.imaging.preprocess import write_mask

SQUARE = np.eye(16, dtype=bool)


def test_the_official_ground_truth_is_enough_without_images(tmp_path: Path) -> None:
    (tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text(
        "ISIC_9000003,0.0\nISIC_9000004,1.0\n"
    )
    name = "ISBI2016_ISIC_Part1_Test_GroundTruth"
    write_mask(tmp_path / name / "ISIC_9000003_Segmentation.png", SQUARE)
    truth = load_truth(tmp_path)
    assert truth.labels == {"ISIC_9000003": Label.BENIGN, "ISIC_9000004": Label.MALIGNANT}
    assert list(truth.masks) == ["ISIC_9000003"]
    assert truth.known == truth.complete == {"ISIC_9000003", "ISIC_9000004"}


def test_both_splits_are_read_and_only_the_test_split_is_complete(tmp_path: Path) -> None:
    (tmp_path / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv").write_text("ISIC_9000001,benign\n")
    (tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text("ISIC_9000003,1.0\n")
    images = tmp_path / "ISBI2016_ISIC_Part1_Test_Data"
    images.mkdir()
    (images / "ISIC_9000004.jpg").touch()
    (images / "notes.txt").touch()
    truth = load_truth(tmp_path)
    assert set(truth.labels) == {"ISIC_9000001", "ISIC_9000003"}
    assert truth.known == {"ISIC_9000001", "ISIC_9000003", "ISIC_9000004"}
    assert truth.complete == {"ISIC_9000003", "ISIC_9000004"}


def test_masks_beside_the_images_of_part_3b_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
    write_mask(folder / "ISIC_9000001_Segmentation.png", SQUARE)
    (folder / "ISIC_9000001.jpg").touch()
    truth = load_truth(tmp_path)
    assert list(truth.masks) == ["ISIC_9000001"]
    assert truth.known == {"ISIC_9000001"}


def test_other_files_beside_the_official_ones_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv").write_text("ISIC_9000003,1.0\n")
    (tmp_path / "notes.csv").write_text("no labels here\n")
    assert set(load_truth(tmp_path).labels) == {"ISIC_9000003"}


def test_suffixes_count_in_either_case_and_masks_may_be_of_any_kind(tmp_path: Path) -> None:
    name = "ISBI2016_ISIC_Part1_Test_GroundTruth"
    write_mask(tmp_path / name / "ISIC_9000003_Segmentation.PNG", SQUARE)
    write_mask(tmp_path / name / "ISIC_9000004_segmentation.png", SQUARE)
    (tmp_path / name / "ISIC_9000005_Segmentation.JPG").touch()
    (tmp_path / "ISBI2016_ISIC_Part3_Test_GroundTruth.CSV").write_text("ISIC_9000003,0.0\n")
    truth = load_truth(tmp_path)
    assert list(truth.masks) == ["ISIC_9000003", "ISIC_9000004", "ISIC_9000005"]
    assert truth.labels == {"ISIC_9000003": Label.BENIGN}

    plain = tmp_path / "plain"
    write_mask(plain / "masks" / "a.PNG", SQUARE)
    (plain / "masks" / "b.tif").touch()
    (plain / "LABELS.CSV").write_text("a,1\n")
    truth = load_truth(plain)
    assert list(truth.masks) == ["a", "b"]
    assert truth.labels == {"a": Label.MALIGNANT}


def test_two_masks_of_one_image_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "a.png", SQUARE)
    write_mask(tmp_path / "masks" / "a_Segmentation.PNG", SQUARE)
    with pytest.raises(DataError, match=r"holds a\.png and a_Segmentation\.PNG"):
        load_truth(tmp_path)


def test_a_plain_folder_is_complete(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image_id,label\na,benign\nb,1\n")
    write_mask(tmp_path / "masks" / "c.png", SQUARE)
    write_mask(tmp_path / "masks" / "d_Segmentation.png", SQUARE)
    truth = load_truth(tmp_path)
    assert truth.labels == {"a": Label.BENIGN, "b": Label.MALIGNANT}
    assert list(truth.masks) == ["c", "d"]
    assert truth.known == truth.complete == {"a", "b", "c", "d"}


def test_an_image_labelled_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("image_id,label\na,benign\n")
    with pytest.raises(DataError, match=r"two\.csv labels a that another CSV"):
        load_truth(tmp_path)


@pytest.mark.parametrize("line", ["a,perhaps", "a", "a,benign\na,benign"])
def test_damaged_labels_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "labels.csv").write_text(f"image_id,label\n{line}\n")
    with pytest.raises(DataError, match=r"labels\.csv, line"):
        load_truth(tmp_path)


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no truth"):
        load_truth(tmp_path)
    with pytest.raises(DataError, match="nowhere is missing"):
        load_truth(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        load_truth(tmp_path / "file")


def test_images_alone_are_no_truth(tmp_path: Path) -> None:
    folder = tmp_path / "ISBI2016_ISIC_Part1_Test_Data"
    folder.mkdir()
    (folder / "ISIC_9000004.jpg").touch()
    with pytest.raises(DataError, match="holds no truth"):
        load_truth(tmp_path)


def _plain(folder: Path, labels: str, *masks: str) -> Path:
    folder.mkdir()
    (folder / "labels.csv").write_text(f"image_id,label\n{labels}")
    for image_id in masks:
        write_mask(folder / "masks" / f"{image_id}.png", SQUARE)
    return folder


def test_several_folders_are_joined_and_the_first_mask_counts(tmp_path: Path) -> None:
    a = _plain(tmp_path / "a", "x,benign\ny,1\n", "x")
    b = _plain(tmp_path / "b", "x,benign\nz,1\n", "x", "z")
    truth = load_truth([a, b])
    assert truth.labels == {"x": Label.BENIGN, "y": Label.MALIGNANT, "z": Label.MALIGNANT}
    assert truth.masks == {"x": a / "masks" / "x.png", "z": b / "masks" / "z.png"}
    assert truth.known == truth.complete == {"x", "y", "z"}
    assert truth.source == f"{a} and {b}"


def test_folders_that_label_one_image_differently_are_refused(tmp_path: Path) -> None:
    folders = [_plain(tmp_path / "a", "x,benign\n"), _plain(tmp_path / "b", "x,malignant\n")]
    with pytest.raises(DataError, match=r"x is benign in .*a and malignant in .*b\."):
        load_truth(folders)


def test_groups_beside_the_labels_of_a_plain_folder_are_no_labels(tmp_path: Path) -> None:
    folder = _plain(tmp_path / "a", "x,benign\n")
    (folder / "groups.csv").write_text("image_id,lesion_group\nx,g\n")
    assert set(load_truth(folder).labels) == {"x"}
