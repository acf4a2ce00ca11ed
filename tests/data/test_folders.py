"""Several folders as one: what is joined, which file is used, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.data.folders import (
    has_split,
    list_folders,
    load_dataset,
    name_folders,
    same_photograph,
)
from dermfuse.data.labels import Label
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image

from ..two_folders import IMAGES, LABELS, MASKS, name, write_folder, write_scene


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
    def test_an_image_of_both_folders_counts_once(self, a: Path, b: Path) -> None:
        data = load_dataset([a, b], "train")
        assert [x.image_id for x in data.lesions] == [name(letter) for letter in "ABCD"]
        assert data.repeated == (name("A"), name("B"))
        assert data.name == "a and b"

    def test_what_one_folder_lacks_comes_from_the_other(self, a: Path, b: Path) -> None:
        lesions = {x.image_id: x for x in load_dataset([a, b], "train").lesions}
        labels = [lesions[name(letter)].label for letter in "ABCD"]
        assert labels == [Label.BENIGN, Label.MALIGNANT, None, Label.BENIGN]
        masks = [lesions[name(letter)].mask_path for letter in "ABCD"]
        assert [path and path.parents[1] for path in masks] == [b, a, None, b]

    def test_the_photograph_is_of_the_folder_that_the_mask_is_of(self, a: Path, b: Path) -> None:
        lesions = {x.image_id: x for x in load_dataset([a, b], "train").lesions}
        folders = [lesions[name(letter)].image_path.parents[1] for letter in "ABCD"]
        assert folders == [b, a, a, b]
        for lesion in lesions.values():
            if lesion.mask_path:
                mask = read_mask(lesion.mask_path)
                assert read_image(lesion.image_path).shape[:2] == mask.shape

    def test_the_first_folder_named_wins(self, a: Path, b: Path) -> None:
        lesions = {x.image_id: x for x in load_dataset([b, a], "train").lesions}
        folders = [lesions[name(letter)].image_path.parents[1] for letter in "ABCD"]
        assert folders == [b, b, a, b]

    def test_what_is_missing_is_missing_in_all_folders(self, a: Path, b: Path) -> None:
        data = load_dataset([a, b], "train")
        assert data.missing_images == (name("E"), name("F"))
        assert data.missing_masks == (name("C"), name("F"))
        assert data.missing_labels == (name("C"), name("E"))

    def test_which_file_is_used_is_said(self, a: Path, b: Path) -> None:
        assert load_dataset([a, b], "train").second_copies() == (
            f"1 images are in several folders (the file of b is used): {name('A')}",
            f"1 images are in several folders (the file of a is used): {name('B')}",
        )
        assert load_dataset(a, "train").second_copies() == ()

    def test_one_folder_is_as_it_was(self, a: Path) -> None:
        assert load_dataset(a, "train") == load_dataset([a], "train")
        assert [x.lesion_group for x in load_dataset(a, "train").lesions] == ["", "", ""]

    def test_a_folder_may_hold_the_other_split_alone(self, a: Path, tmp_path: Path) -> None:
        tested = write_folder(tmp_path / "tested", tested="XY")
        assert len(load_dataset([a, tested], "train").lesions) == 3
        assert len(load_dataset([a, tested], "test").lesions) == 2
        assert has_split([a, tested], "test")
        assert not has_split(a, "test")

    def test_folders_have_names(self, a: Path, b: Path) -> None:
        assert (name_folders(a), name_folders([a, b])) == ("a", "a and b")


class TestGroups:
    def test_groups_of_all_folders_hold(self, tmp_path: Path) -> None:
        a = write_folder(tmp_path / "a", images="AB", groups={"A": "g1", "B": "g1"})
        b = write_folder(tmp_path / "b", images="BCD", groups={"B": "g7", "C": "g7", "D": "g1"})
        lesions = load_dataset([a, b], "train").lesions
        assert [x.lesion_group for x in lesions] == [*[name("A")] * 3, name("D")]

    def test_a_group_may_name_an_image_of_another_folder_or_split(self, tmp_path: Path) -> None:
        a = write_folder(
            tmp_path / "a", images="A", tested="T", groups={"A": "x", "B": "x", "T": "x"}
        )
        b = write_folder(tmp_path / "b", images="B")
        assert {x.lesion_group for x in load_dataset([a, b], "train").lesions} == {name("A")}
        assert load_dataset([a, b], "test").lesions[0].lesion_group == name("A")

    def test_a_group_of_an_image_without_a_file_is_allowed(self, tmp_path: Path) -> None:
        a = write_folder(
            tmp_path / "a", images="A", labels={"B": "benign"}, groups={"A": "x", "B": "x"}
        )
        assert load_dataset(a, "train").missing_images == (name("B"),)

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

    def test_another_photograph_names_both_files(self, a: Path, tmp_path: Path) -> None:
        b = write_folder(tmp_path / "b", images="A")
        write_scene(b / IMAGES / f"{name('A')}.jpg", "Z", (48, 36))
        with pytest.raises(DataError) as refused:
            load_dataset([a, b], "train")
        files = [folder / IMAGES / f"{name('A')}.jpg" for folder in (a, b)]
        assert f"is one photograph in {files[0]} and another in {files[1]}" in str(refused.value)

    def test_a_file_that_changes_is_compared_again(self, a: Path, b: Path) -> None:
        load_dataset([a, b], "train")
        path = b / IMAGES / f"{name('A')}.jpg"
        write_scene(path, "Z", (64, 48))
        os.utime(path, ns=(1, 1))
        with pytest.raises(DataError, match="one photograph"):
            load_dataset([a, b], "train")

    def test_an_image_that_cannot_be_read_is_refused(self, a: Path, b: Path) -> None:
        (b / IMAGES / f"{name('A')}.jpg").write_bytes(b"no image")
        with pytest.raises(ImageError, match=name("A")):
            load_dataset([a, b], "train")

    def test_a_folder_named_twice(self, a: Path) -> None:
        with pytest.raises(DataError, match="is named twice"):
            list_folders([a, a / ".." / "a"])

    def test_no_folder(self) -> None:
        with pytest.raises(DataError, match="no dataset folder is named"):
            list_folders([])

    def test_one_of_several_that_is_no_data_set(self, a: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty holds no train images"):
            load_dataset([a, tmp_path / "empty"], "train")

    def test_folders_without_the_split(self, a: Path, b: Path) -> None:
        with pytest.raises(DataError, match="a holds no test images"):
            load_dataset([a, b], "test")


class TestSamePhotograph:
    @pytest.mark.parametrize(
        ("size_px", "quality"), [((240, 180), 30), ((120, 90), 60), ((171, 128), 75)]
    )
    def test_other_sizes_and_qualities(
        self, tmp_path: Path, size_px: tuple[int, int], quality: int
    ) -> None:
        write_scene(tmp_path / "one.jpg", "A", (320, 240), 92)
        write_scene(tmp_path / "other.jpg", "A", size_px, quality)
        assert same_photograph(tmp_path / "one.jpg", tmp_path / "other.jpg")

    def test_another_scene(self, tmp_path: Path) -> None:
        for file, letter in (("one.jpg", "A"), ("other.jpg", "B")):
            write_scene(tmp_path / file, letter, (320, 240))
        assert not same_photograph(tmp_path / "one.jpg", tmp_path / "other.jpg")

    def test_a_part_that_differs(self, tmp_path: Path) -> None:
        write_scene(tmp_path / "one.png", "A", (320, 240))
        pixels = read_image(tmp_path / "one.png")
        pixels[100:130, 100:130] = 255 - pixels[100:130, 100:130]
        Image.fromarray(pixels).save(tmp_path / "other.png")
        assert not same_photograph(tmp_path / "one.png", tmp_path / "other.png")

    def test_another_frame(self, tmp_path: Path) -> None:
        write_scene(tmp_path / "one.jpg", "A", (320, 240))
        write_scene(tmp_path / "other.jpg", "A", (300, 240))
        assert not same_photograph(tmp_path / "one.jpg", tmp_path / "other.jpg")


def test_a_mask_without_its_image_in_one_folder_serves_the_image_of_the_other(
    a: Path, b: Path
) -> None:
    shutil.move(b / IMAGES / f"{name('A')}.jpg", b / "kept.jpg")
    first = load_dataset([a, b], "train").lesions[0]
    assert first.image_path.parents[1] == a
    assert first.mask_path == b / MASKS / f"{name('A')}_Segmentation.png"
