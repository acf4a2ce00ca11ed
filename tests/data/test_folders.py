"""Several folders as one, and the truth of folders: what is joined, and what is refused."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.folders import (
    has_split,
    list_folders,
    load_dataset,
    load_truth,
    same_photograph,
    verify_join,
)
from dermfuse.data.isic2016 import Label
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, write_mask

from ..two_folders import IMAGES, LABELS, MASKS, name, write_folder, write_scene

SQUARE = np.eye(16, dtype=bool)
TEST_MASKS = "ISBI2016_ISIC_Part1_Test_GroundTruth"
TEST_LABELS = "ISBI2016_ISIC_Part3_Test_GroundTruth"


@pytest.fixture
def a(tmp_path: Path) -> Path:
    labels = {"A": "benign", "B": "malignant"}
    return write_folder(tmp_path / "a", images="ABC", masks="B", labels=labels)


@pytest.fixture
def b(tmp_path: Path) -> Path:
    """Shares A and B with the first folder, at another size."""
    labels = {"A": "benign", "D": "benign", "F": "malignant"}
    return write_folder(tmp_path / "b", images="ABD", masks="ABDE", labels=labels, size_px=(64, 48))


def test_an_image_counts_once_and_what_one_folder_lacks_comes_from_the_other(
    a: Path, b: Path
) -> None:
    data = load_dataset([a, b], "train")
    assert [x.image_id for x in data.lesions] == [name(letter) for letter in "ABCD"]
    assert [x.label for x in data.lesions] == [0, 1, None, 0]
    assert [x.mask_path and x.mask_path.parents[1] for x in data.lesions] == [b, a, None, b]
    assert data.missing_images == (name("E"), name("F"))
    assert data.missing_masks == (name("C"), name("F"))
    assert data.missing_labels == (name("C"), name("E"))
    assert data.name == "a and b"


def test_the_photograph_is_of_the_folder_that_the_mask_is_of_and_that_is_said(
    a: Path, b: Path
) -> None:
    data = load_dataset([a, b], "train")
    assert [x.image_path.parents[1] for x in data.lesions] == [b, a, a, b]
    for lesion in data.lesions:
        if lesion.mask_path:
            assert read_image(lesion.image_path).shape[:2] == read_mask(lesion.mask_path).shape
    assert data.repeated == (name("A"), name("B"))
    assert data.second_copies() == (
        f"1 images are in several folders (the file of b is used): {name('A')}",
        f"1 images are in several folders (the file of a is used): {name('B')}",
    )
    turned = load_dataset([b, a], "train").lesions
    assert [x.image_path.parents[1] for x in turned] == [b, b, a, b], "the first named wins"
    shutil.move(b / IMAGES / f"{name('A')}.jpg", b / "kept.jpg")
    first = load_dataset([a, b], "train").lesions[0]
    assert first.image_path.parents[1] == a
    assert first.mask_path == b / MASKS / f"{name('A')}_Segmentation.png"


def test_a_folder_may_be_alone_or_hold_the_other_split_alone(a: Path, tmp_path: Path) -> None:
    data = load_dataset(a, "train")
    assert data == load_dataset([a], "train")
    assert data.second_copies() == ()
    assert {x.lesion_group for x in data.lesions} == {""}
    tested = write_folder(tmp_path / "tested", tested="XY")
    assert len(load_dataset([a, tested], "train").lesions) == 3
    assert len(load_dataset([a, tested], "test").lesions) == 2
    assert [has_split(data, "test") for data in ([a, tested], a)] == [True, False]


def test_groups_of_all_folders_and_splits_hold(tmp_path: Path) -> None:
    groups = {"A": "g1", "B": "g1", "T": "g1"}
    a = write_folder(tmp_path / "a", images="AB", tested="T", groups=groups)
    groups = {"B": "g7", "C": "g7", "D": "g1", "E": "g1"}
    b = write_folder(tmp_path / "b", images="BCD", labels={"E": "benign"}, groups=groups)
    lesions = load_dataset([a, b], "train").lesions
    assert [x.lesion_group for x in lesions] == [*[name("A")] * 3, name("D")]
    assert load_dataset([a, b], "test").lesions[0].lesion_group == name("A")
    (b / IMAGES / f"{name('D')}.jpg").unlink()
    with pytest.raises(DataError, match=rf"groups\.csv, line 4: {name('D')} of group g1 is in"):
        load_dataset([a, b], "train")


def test_another_label_or_photograph_names_both_files_whenever_it_changes(
    a: Path, b: Path, tmp_path: Path
) -> None:
    c = write_folder(tmp_path / "c", images="A", labels={"A": "malignant"})
    labels = f"{name('A')} is benign in {a / LABELS} and malignant in {c / LABELS}. Expected:"
    with pytest.raises(DataError, match=re.escape(labels)):
        load_dataset([a, c], "train")
    load_dataset([a, b], "train")
    one, other = (folder / IMAGES / f"{name('A')}.jpg" for folder in (a, b))
    write_scene(other, "Z", (64, 48))
    os.utime(other, ns=(1, 1))
    with pytest.raises(DataError, match=f"is one photograph in {one} and another in {other}"):
        load_dataset([a, b], "train")
    other.write_bytes(b"no image")
    with pytest.raises(ImageError, match=name("A")):
        load_dataset([a, b], "train")


def test_folders_that_are_none(a: Path, b: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is named twice"):
        list_folders([a, a / ".." / "a"])
    with pytest.raises(DataError, match="no dataset folder is named"):
        list_folders([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no train images"):
        load_dataset([a, tmp_path / "empty"], "train")
    with pytest.raises(DataError, match="a holds no test images"):
        load_dataset([a, b], "test")


def test_one_photograph_is_known_at_other_sizes_and_qualities(tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    write_scene(one, "A", (320, 240), 92)
    for letter, size_px, quality, same in (
        ("A", (240, 180), 30, True),
        ("A", (120, 90), 60, True),
        ("B", (320, 240), 90, False),
        ("A", (300, 240), 90, False),  # another frame
    ):
        write_scene(other.with_suffix(".jpg"), letter, size_px, quality)
        assert same_photograph(one, other.with_suffix(".jpg")) is same
    pixels = read_image(one)
    pixels[100:130, 100:130] = 255 - pixels[100:130, 100:130]
    Image.fromarray(pixels).save(other)
    assert not same_photograph(one, other), "a part differs"


def test_all_contradictions_are_listed_beside_the_counts(tmp_path: Path) -> None:
    labels = {"A": "benign", "C": "benign", "B": "malignant"}
    a = write_folder(tmp_path / "a", images="ABC", masks="A", labels=labels)
    groups = {"B": "x", "C": "x", "A": "y"}
    b = write_folder(tmp_path / "b", images="BD", masks="ABD", groups=groups)
    counts = {"images": 4, "benign": 2, "malignant": 1, "masks": 3, "repeated": 1}
    counts |= {"groups": 1, "grouped": 2}
    found = verify_join([a, b]).to_dict()
    assert found == {"folders": ("a", "b"), **counts, "contradictions": ()}
    labels, groups = {"A": "malignant"}, {"A": "x", "Q": "x"}
    c = write_folder(tmp_path / "c", images="ABC", labels=labels, groups=groups)
    d = write_folder(tmp_path / "d", images="E")
    write_scene(c / IMAGES / f"{name('B')}.jpg", "Z", (48, 36))
    (c / IMAGES / f"{name('C')}.jpg").write_bytes(b"no image")
    (c / LABELS).write_text((c / LABELS).read_text() + "damaged\n")
    (d / "groups.csv").write_text("id,group\n")
    said = verify_join([a, c, d]).contradictions
    parts = ["is benign in", "is one photograph in", name("C"), "the header", "is in no folder"]
    assert [part in one for part, one in zip(parts, said, strict=True)] == [True] * 5


def _plain(folder: Path, labels: str, *masks: str) -> Path:
    folder.mkdir()
    (folder / "LABELS.CSV").write_text(f"image_id,label\n{labels}")
    for image_id in masks:
        write_mask(folder / "masks" / f"{image_id}.PNG", SQUARE)
    return folder


def test_the_official_ground_truth_is_enough_and_of_both_splits_only_the_test_is_complete(
    tmp_path: Path,
) -> None:
    (tmp_path / f"{TEST_LABELS}.CSV").write_text("ISIC_9000003,0.0\nISIC_9000004,1.0\n")
    (tmp_path / "notes.csv").write_text("no labels here\n")
    write_mask(tmp_path / TEST_MASKS / "ISIC_9000003_Segmentation.PNG", SQUARE)
    write_mask(tmp_path / TEST_MASKS / "ISIC_9000004_segmentation.png", SQUARE)
    (tmp_path / TEST_MASKS / "ISIC_9000005_Segmentation.JPG").touch()
    truth = load_truth(tmp_path)
    assert truth.labels == {"ISIC_9000003": Label.BENIGN, "ISIC_9000004": Label.MALIGNANT}
    assert list(truth.masks) == ["ISIC_9000003", "ISIC_9000004", "ISIC_9000005"]
    assert truth.known == truth.complete == set(truth.masks)
    (tmp_path / LABELS).write_text("ISIC_9000001,benign\n")
    beside = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
    write_mask(beside / "ISIC_9000002_Segmentation.png", SQUARE)
    (beside / "ISIC_9000002.jpg").touch()
    both = load_truth(tmp_path)
    assert set(both.labels) == {*truth.labels, "ISIC_9000001"}
    assert set(both.masks) == {*truth.masks, "ISIC_9000002"}
    assert both.known == {f"ISIC_900000{number}" for number in (1, 2, 3, 4, 5)}
    assert both.complete == truth.complete


def test_a_plain_folder_is_complete_and_of_several_the_first_mask_counts(tmp_path: Path) -> None:
    a = _plain(tmp_path / "a", "x,benign\ny,1\n", "x")
    (a / "groups.csv").write_text("image_id,lesion_group\nx,g\n")  # they are no labels
    b = _plain(tmp_path / "b", "x,benign\nz,1\n", "x", "v_Segmentation")
    truth = load_truth([a, b])
    assert truth.labels == {"x": Label.BENIGN, "y": Label.MALIGNANT, "z": Label.MALIGNANT}
    masks = {"x": a / "masks" / "x.PNG", "v": b / "masks" / "v_Segmentation.PNG"}
    assert truth.masks == masks
    assert truth.known == truth.complete == {"x", "y", "z", "v"}
    assert truth.source == f"{a} and {b}"
    c = _plain(tmp_path / "c", "x,malignant\n")
    with pytest.raises(DataError, match=r"x is benign in .*a and malignant in .*c\."):
        load_truth([a, c])


@pytest.mark.parametrize("folder", ["masks", TEST_MASKS])
def test_two_masks_of_one_image_are_refused(tmp_path: Path, folder: str) -> None:
    for file in ("a_Segmentation.png", "a_Segmentation.PNG"):
        write_mask(tmp_path / folder / file, SQUARE)
    with pytest.raises(DataError, match=r"holds a_Segmentation\.PNG and a_Segmentation\.png"):
        load_truth(tmp_path)


def test_damaged_or_repeated_labels_or_none_are_refused(tmp_path: Path) -> None:
    folder = _plain(tmp_path / "a", "a,benign\n")
    (folder / "two.csv").write_text("a,benign\n")
    (tmp_path / "file").touch()
    tested = write_folder(tmp_path / "tested", tested="A")
    damaged = _plain(tmp_path / "damaged", "a,perhaps\n")
    for path, message in (
        (folder, r"two\.csv labels a that another CSV"),
        (damaged, r"LABELS\.CSV, line 2"),
        (tmp_path / "nowhere", "nowhere is missing"),
        (tmp_path / "file", "file is not a folder"),
        (tmp_path, "holds no truth"),
        (tested, "holds no truth"),
    ):
        with pytest.raises(DataError, match=message):
            load_truth(path)
