"""Several folders as one, and the truth of folders: what is joined, and what is refused."""

import os
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
    return write_folder(
        tmp_path / "a", images="ABC", masks="B", labels={"A": "benign", "B": "malignant"}
    )


@pytest.fixture
def b(tmp_path: Path) -> Path:
    """Shares A and B with the first folder, at another size."""
    return write_folder(
        tmp_path / "b",
        images="ABD",
        masks="ABDE",
        labels={"A": "benign", "D": "benign", "F": "malignant"},
        size_px=(64, 48),
    )


class TestJoining:
    def test_an_image_counts_once_and_what_one_folder_lacks_comes_from_the_other(
        self, a: Path, b: Path
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
        self, a: Path, b: Path
    ) -> None:
        data = load_dataset([a, b], "train")
        assert [x.image_path.parents[1] for x in data.lesions] == [b, a, a, b]
        for lesion in data.lesions:
            if lesion.mask_path:
                mask = read_mask(lesion.mask_path)
                assert read_image(lesion.image_path).shape[:2] == mask.shape
        assert data.repeated == (name("A"), name("B"))
        assert data.second_copies() == (
            f"1 images are in several folders (the file of b is used): {name('A')}",
            f"1 images are in several folders (the file of a is used): {name('B')}",
        )
        turned = load_dataset([b, a], "train").lesions
        assert [x.image_path.parents[1] for x in turned] == [b, b, a, b], "the first named wins"

    def test_a_mask_without_its_image_serves_the_image_of_the_other_folder(
        self, a: Path, b: Path
    ) -> None:
        shutil.move(b / IMAGES / f"{name('A')}.jpg", b / "kept.jpg")
        first = load_dataset([a, b], "train").lesions[0]
        assert first.image_path.parents[1] == a
        assert first.mask_path == b / MASKS / f"{name('A')}_Segmentation.png"

    def test_one_folder_is_as_it_was(self, a: Path) -> None:
        data = load_dataset(a, "train")
        assert data == load_dataset([a], "train")
        assert data.second_copies() == ()
        assert [x.lesion_group for x in data.lesions] == ["", "", ""]

    def test_a_folder_may_hold_the_other_split_alone(self, a: Path, tmp_path: Path) -> None:
        tested = write_folder(tmp_path / "tested", tested="XY")
        assert len(load_dataset([a, tested], "train").lesions) == 3
        assert len(load_dataset([a, tested], "test").lesions) == 2
        assert has_split([a, tested], "test")
        assert not has_split(a, "test")


class TestGroups:
    def test_groups_of_all_folders_and_splits_hold(self, tmp_path: Path) -> None:
        a = write_folder(
            tmp_path / "a", images="AB", tested="T", groups={"A": "g1", "B": "g1", "T": "g1"}
        )
        groups = {"B": "g7", "C": "g7", "D": "g1", "E": "g1"}
        b = write_folder(tmp_path / "b", images="BCD", labels={"E": "benign"}, groups=groups)
        lesions = load_dataset([a, b], "train").lesions
        assert [x.lesion_group for x in lesions] == [*[name("A")] * 3, name("D")]
        assert load_dataset([a, b], "test").lesions[0].lesion_group == name("A")

    def test_a_group_that_is_in_no_folder_is_refused(self, tmp_path: Path) -> None:
        a = write_folder(tmp_path / "a", images="A", groups={"A": "x", "B": "x"})
        with pytest.raises(DataError, match=rf"groups\.csv, line 3: {name('B')} of group x is in"):
            load_dataset(a, "train")


class TestRefusals:
    def test_another_label_names_both_files(self, a: Path, tmp_path: Path) -> None:
        b = write_folder(tmp_path / "b", images="A", labels={"A": "malignant"})
        with pytest.raises(DataError) as refused:
            load_dataset([a, b], "train")
        assert str(refused.value).startswith(
            f"{name('A')} is benign in {a / LABELS} and malignant in {b / LABELS}. Expected:"
        )

    def test_another_photograph_names_both_files_whenever_it_changes(
        self, a: Path, b: Path
    ) -> None:
        load_dataset([a, b], "train")
        files = [folder / IMAGES / f"{name('A')}.jpg" for folder in (a, b)]
        write_scene(files[1], "Z", (64, 48))
        os.utime(files[1], ns=(1, 1))
        with pytest.raises(DataError) as refused:
            load_dataset([a, b], "train")
        assert f"is one photograph in {files[0]} and another in {files[1]}" in str(refused.value)
        files[1].write_bytes(b"no image")
        with pytest.raises(ImageError, match=name("A")):
            load_dataset([a, b], "train")

    def test_folders_that_are_none(self, a: Path, b: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is named twice"):
            list_folders([a, a / ".." / "a"])
        with pytest.raises(DataError, match="no dataset folder is named"):
            list_folders([])
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty holds no train images"):
            load_dataset([a, tmp_path / "empty"], "train")
        with pytest.raises(DataError, match="a holds no test images"):
            load_dataset([a, b], "test")


@pytest.mark.parametrize(
    ("letter", "size_px", "quality", "same"),
    [
        ("A", (240, 180), 30, True),
        ("A", (120, 90), 60, True),
        ("A", (171, 128), 75, True),
        ("B", (320, 240), 90, False),
        ("A", (300, 240), 90, False),  # another frame
    ],
)
def test_one_photograph_is_known_at_other_sizes_and_qualities(
    tmp_path: Path, letter: str, size_px: tuple[int, int], quality: int, *, same: bool
) -> None:
    write_scene(tmp_path / "one.jpg", "A", (320, 240), 92)
    write_scene(tmp_path / "other.jpg", letter, size_px, quality)
    assert same_photograph(tmp_path / "one.jpg", tmp_path / "other.jpg") is same


def test_a_part_that_differs_is_another_photograph(tmp_path: Path) -> None:
    write_scene(tmp_path / "one.png", "A", (320, 240))
    pixels = read_image(tmp_path / "one.png")
    pixels[100:130, 100:130] = 255 - pixels[100:130, 100:130]
    Image.fromarray(pixels).save(tmp_path / "other.png")
    assert not same_photograph(tmp_path / "one.png", tmp_path / "other.png")


class TestVerifying:
    def test_folders_are_counted_together(self, tmp_path: Path) -> None:
        labels = {"A": "benign", "B": "malignant"}
        a = write_folder(tmp_path / "a", images="AB", masks="A", labels=labels)
        b = write_folder(
            tmp_path / "b",
            images="BC",
            masks="ABD",
            labels={"C": "benign", "D": "benign"},
            groups={"B": "x", "C": "x", "A": "y"},
        )
        assert verify_join([a, b]).to_dict() == {
            "folders": ("a", "b"),
            "images": 3,
            "benign": 2,
            "malignant": 1,
            "masks": 2,
            "repeated": 1,
            "groups": 1,
            "grouped": 2,
            "contradictions": (),
        }

    def test_all_contradictions_are_listed(self, tmp_path: Path) -> None:
        a = write_folder(tmp_path / "a", images="ABC", labels={"A": "benign", "C": "benign"})
        b = write_folder(
            tmp_path / "b", images="ABC", labels={"A": "malignant"}, groups={"A": "x", "Q": "x"}
        )
        c = write_folder(tmp_path / "c", images="D")
        write_scene(b / IMAGES / f"{name('B')}.jpg", "Z", (48, 36))
        (b / IMAGES / f"{name('C')}.jpg").write_bytes(b"no image")
        (b / LABELS).write_text((b / LABELS).read_text() + "damaged\n")
        (c / "groups.csv").write_text("id,group\n")
        found = verify_join([a, b, c]).contradictions
        parts = ["is benign in", "is one photograph in", name("C"), "the header", "is in no folder"]
        assert [part in one for part, one in zip(parts, found, strict=True)] == [True] * 5


def _plain(folder: Path, labels: str, *masks: str) -> Path:
    folder.mkdir()
    (folder / "labels.csv").write_text(f"image_id,label\n{labels}")
    for image_id in masks:
        write_mask(folder / "masks" / f"{image_id}.png", SQUARE)
    return folder


class TestTruth:
    def test_the_official_ground_truth_is_enough_without_images(self, tmp_path: Path) -> None:
        (tmp_path / f"{TEST_LABELS}.CSV").write_text("ISIC_9000003,0.0\nISIC_9000004,1.0\n")
        (tmp_path / "notes.csv").write_text("no labels here\n")
        write_mask(tmp_path / TEST_MASKS / "ISIC_9000003_Segmentation.PNG", SQUARE)
        write_mask(tmp_path / TEST_MASKS / "ISIC_9000004_segmentation.png", SQUARE)
        (tmp_path / TEST_MASKS / "ISIC_9000005_Segmentation.JPG").touch()
        truth = load_truth(tmp_path)
        assert truth.labels == {"ISIC_9000003": Label.BENIGN, "ISIC_9000004": Label.MALIGNANT}
        assert list(truth.masks) == ["ISIC_9000003", "ISIC_9000004", "ISIC_9000005"]
        assert truth.known == truth.complete == set(truth.masks)

    def test_both_splits_are_read_and_only_the_test_split_is_complete(self, tmp_path: Path) -> None:
        (tmp_path / LABELS).write_text("ISIC_9000001,benign\n")
        (tmp_path / f"{TEST_LABELS}.csv").write_text("ISIC_9000003,1.0\n")
        images = tmp_path / "ISBI2016_ISIC_Part1_Test_Data"
        images.mkdir()
        for file in ("ISIC_9000004.jpg", "notes.txt"):
            (images / file).touch()
        beside = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
        write_mask(beside / "ISIC_9000002_Segmentation.png", SQUARE)
        (beside / "ISIC_9000002.jpg").touch()
        truth = load_truth(tmp_path)
        assert set(truth.labels) == {"ISIC_9000001", "ISIC_9000003"}
        assert list(truth.masks) == ["ISIC_9000002"]
        assert truth.known == {f"ISIC_900000{number}" for number in (1, 2, 3, 4)}
        assert truth.complete == {"ISIC_9000003", "ISIC_9000004"}

    def test_a_plain_folder_is_complete_and_its_groups_are_no_labels(self, tmp_path: Path) -> None:
        (tmp_path / "LABELS.CSV").write_text("image_id,label\na,benign\nb,1\n")
        (tmp_path / "groups.csv").write_text("image_id,lesion_group\na,g\n")
        write_mask(tmp_path / "masks" / "c.PNG", SQUARE)
        write_mask(tmp_path / "masks" / "d_Segmentation.png", SQUARE)
        truth = load_truth(tmp_path)
        assert truth.labels == {"a": Label.BENIGN, "b": Label.MALIGNANT}
        assert list(truth.masks) == ["c", "d"]
        assert truth.known == truth.complete == {"a", "b", "c", "d"}

    @pytest.mark.parametrize("folder", ["masks", TEST_MASKS])
    def test_two_masks_of_one_image_are_refused(self, tmp_path: Path, folder: str) -> None:
        for file in ("a_Segmentation.png", "a_Segmentation.PNG"):
            write_mask(tmp_path / folder / file, SQUARE)
        with pytest.raises(DataError, match=r"holds a_Segmentation\.PNG and a_Segmentation\.png"):
            load_truth(tmp_path)

    @pytest.mark.parametrize("line", ["a,perhaps", "a", "a,benign\na,benign"])
    def test_damaged_or_repeated_labels_are_refused(self, tmp_path: Path, line: str) -> None:
        folder = _plain(tmp_path / "a", "a,benign\n")
        (folder / "two.csv").write_text("a,benign\n")
        with pytest.raises(DataError, match=r"two\.csv labels a that another CSV"):
            load_truth(folder)
        (folder / "labels.csv").write_text(f"image_id,label\n{line}\n")
        with pytest.raises(DataError, match=r"labels\.csv, line"):
            load_truth(folder)

    def test_a_folder_without_truth_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for file, message in (("nowhere", "nowhere is missing"), ("file", "file is not a folder")):
            with pytest.raises(DataError, match=message):
                load_truth(tmp_path / file)
        with pytest.raises(DataError, match="holds no truth"):
            load_truth(tmp_path)
        write_folder(tmp_path, tested="A")
        with pytest.raises(DataError, match="holds no truth"):
            load_truth(tmp_path)

    def test_several_folders_are_joined_and_the_first_mask_counts(self, tmp_path: Path) -> None:
        a = _plain(tmp_path / "a", "x,benign\ny,1\n", "x")
        b = _plain(tmp_path / "b", "x,benign\nz,1\n", "x", "z")
        truth = load_truth([a, b])
        assert truth.labels == {"x": Label.BENIGN, "y": Label.MALIGNANT, "z": Label.MALIGNANT}
        assert truth.masks == {"x": a / "masks" / "x.png", "z": b / "masks" / "z.png"}
        assert truth.known == truth.complete == {"x", "y", "z"}
        assert truth.source == f"{a} and {b}"
        c = _plain(tmp_path / "c", "x,malignant\n")
        with pytest.raises(DataError, match=r"x is benign in .*a and malignant in .*c\."):
            load_truth([a, c])
