"""The official layout becomes records, and a damaged CSV names its line."""

import os
from pathlib import Path

import pytest

from dermfuse.data import TEST_DUPLICATES, Lesion, load_isic2016, load_labels
from dermfuse.data.isic2016 import Label, find_split, read_lines
from dermfuse.errors import DataError

IMAGES = "ISBI2016_ISIC_Part1_Training_Data"
MASKS = "ISBI2016_ISIC_Part1_Training_GroundTruth"
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
NO_ID, NO_LABEL = "no image_id column in the header ", "no label column in the header "


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, two masks, three labels; each of the four ids misses something or nothing."""
    _touch(tmp_path / IMAGES, "ISIC_9000003.jpg", "ISIC_9000001.jpg", "ISIC_9000002.jpg")
    _touch(tmp_path / MASKS, "ISIC_9000001_Segmentation.png", "ISIC_9000004_Segmentation.png")
    labels = "ISIC_9000001,benign\nISIC_9000002,malignant\nISIC_9000004,benign\n"
    (tmp_path / LABELS).write_text(labels)
    return tmp_path


def test_lesions_are_sorted_and_joined_by_id_and_what_is_missing_is_listed(folder: Path) -> None:
    data = load_isic2016(folder, "train")
    assert [lesion.image_id[-1] for lesion in data.lesions] == ["1", "2", "3"]
    assert [lesion.label for lesion in data.lesions] == [Label.BENIGN, Label.MALIGNANT, None]
    image = folder / IMAGES / "ISIC_9000001.jpg"
    mask = folder / MASKS / "ISIC_9000001_Segmentation.png"
    assert data.lesions[0] == Lesion("ISIC_9000001", image, mask, Label.BENIGN)
    assert data.missing_images == ("ISIC_9000004",)
    assert data.missing_masks == ("ISIC_9000002", "ISIC_9000003")
    assert data.missing_labels == ("ISIC_9000003",)
    assert data.odd == ()


def test_images_are_enough(tmp_path: Path) -> None:
    _touch(tmp_path / "ISBI2016_ISIC_Part3_Test_Data", "ISIC_9000009.jpg")
    data = load_isic2016(tmp_path, "test")
    assert data.missing_masks == data.missing_labels == ("ISIC_9000009",)
    nothing = "There is no folder of test masks.", "There is no file of test labels."
    assert data.odd == nothing


def test_folders_of_several_parts_are_joined_and_part_3b_keeps_masks_beside_images(
    folder: Path,
) -> None:
    part = folder / "ISBI2016_ISIC_Part3B_Training_Data"
    _touch(part, "ISIC_9000001.jpg", "ISIC_9000005.jpg", "ISIC_9000005_Segmentation.png", "a.txt")
    (folder / LABELS).rename(folder / LABELS.replace("Part3", "Part3B"))
    data = load_isic2016(folder, "train")
    assert [x.image_path.parent.name for x in data.lesions] == [*[IMAGES] * 3, part.name]
    assert data.lesions[-1].mask_path == part / "ISIC_9000005_Segmentation.png"
    assert data.lesions[1].label is Label.MALIGNANT
    assert data.odd == (f"{part.name} holds something unknown: a.txt.",)


def test_what_does_not_belong_is_listed(folder: Path) -> None:
    _touch(folder / IMAGES, "readme.txt", ".DS_Store", "ISIC_9000001.png", "ISIC_12.jpg")
    (folder / IMAGES / "ISIC_9000008.jpg").mkdir()
    odd = load_isic2016(folder, "train").odd
    assert len(odd) == 4
    assert f"{IMAGES} holds ISIC_9000001 more than once: ISIC_9000001.png." in odd
    assert f"{IMAGES} holds something unknown: readme.txt." in odd


def test_twenty_training_images_are_known_to_show_a_lesion_of_the_test_set() -> None:
    assert len(set(TEST_DUPLICATES)) == 20
    assert {"ISIC_0001184", "ISIC_0001385", "ISIC_0000280"} < set(TEST_DUPLICATES)


def test_a_folder_without_images_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ISBI2016_ISIC_Part1_Test_Data.*data download"):
        load_isic2016(tmp_path, "test")
    with pytest.raises(DataError, match="gone is not a folder"):
        load_isic2016(tmp_path / "gone", "train")
    with pytest.raises(DataError, match=r"split is 'validation'\. Expected: train or test"):
        find_split(tmp_path, "validation")  # type: ignore[arg-type]
    _touch(tmp_path / IMAGES, "photo.jpg")
    with pytest.raises(DataError, match="holds no image named ISIC_0000000"):
        load_isic2016(tmp_path, "train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read(folder: Path) -> None:
    (folder / IMAGES).chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        load_isic2016(folder, "train")


@pytest.mark.parametrize(
    ("text", "malignant"),
    [
        ("a,benign\nb,malignant\nc,0\nd,1\ne,0.0\nf,1.0\ng, Benign \n", "bdf"),
        ("\ufefflabel,image_id\n1.0,a\n\n", "a"),
    ],
)
def test_words_and_numbers_mean_the_same_below_a_header_or_none(
    tmp_path: Path, text: str, malignant: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    labels = load_labels(tmp_path / "labels.csv")
    assert "".join(image_id for image_id, label in labels.items() if label) == malignant
    assert all(isinstance(label, Label) for label in labels.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,benign\nb,nevus\n", r"line 2: unknown label 'nevus' of b.*benign or malignant"),
        ("a,benign\n\nb,1\na,1\n", r"line 4: a for the second time \(first in line 1.*two lines"),
        ("a,benign\n,benign\n", "line 2: the image id is empty"),
        ("a,benign\nb\n", "line 2: 1 column. Expected: 2 columns"),
        ("a,benign,0.5\n", "line 1: 3 columns"),
        ("label,score\nbenign,1\n", f"line 1: {NO_ID}"),
        ("image_id,score\na,1\n", f"line 1: {NO_LABEL}"),
        ("image_id,benign\na,1\n", f"{NO_LABEL}image_id,benign"),
        ("isic_id,malignant\na,1\n", f"{NO_ID}isic_id,malignant"),
        ("image,benign\na,benign\n", f"{NO_ID}image,benign"),
        ("benign,image_id\n1,a\n", f"line 1: {NO_LABEL}"),
        ("picture,Benign\na1,1\na2,0\n", f"{NO_ID}picture,benign"),
        ("\n,\n", r"labels\.csv is empty"),
        ("image_id,label\n", r"labels\.csv is empty"),
        ('a,"benign\n', "cannot be read"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_labels(tmp_path / "labels.csv")
    assert "\n" not in str(caught.value)


def test_what_is_no_text_no_csv_or_missing_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for number, content in enumerate((b"\xff\xfe", b'a,"b', b"\x89PNG\r\n\x1a\n")):
        (tmp_path / f"{number}.csv").write_bytes(content)
    for number in range(4):  # the last one is missing
        with pytest.raises(DataError, match=r"cannot be read .*Correct it"):
            read_lines(tmp_path / f"{number}.csv", action="Correct it")
    with pytest.raises(DataError, match="is not a plain file"):
        read_lines(tmp_path, action="")


@pytest.mark.real
def test_the_real_data_loads(real_isic2016: Path) -> None:
    data = load_isic2016(real_isic2016, "train")
    assert [lesion.label for lesion in data.lesions].count(Label.MALIGNANT) == 173
    assert len(data.lesions) + len(data.missing_images) == 900
