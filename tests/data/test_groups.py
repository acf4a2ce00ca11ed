from pathlib import Path

import pytest

from dermfuse.data.groups import GroupLine, find_unknown, join_groups, read_groups, read_leave_out
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import DataError

A, B, C = (
    Lesion(name, Path(f"{name}.jpg"), Path(f"{name}.png"), Label.BENIGN) for name in ("A", "B", "C")
)


def _lines(file: str, *pairs: str) -> list[GroupLine]:
    """Lines of ``id:group`` as a file holds them."""
    return [GroupLine(Path(file), number, *pair.split(":")) for number, pair in enumerate(pairs, 2)]


def _write(folder: Path, *lines: str) -> Path:
    path = folder / "groups.csv"
    path.write_text("\n".join(lines))
    return path


def test_groups_are_read_with_their_line_numbers(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == ()
    path = _write(tmp_path, "image_id,lesion_group", "isic_0000003,a", "", "ISIC_0000001, b")
    assert read_groups(tmp_path) == (
        GroupLine(path, 2, "ISIC_0000003", "a"),
        GroupLine(path, 4, "ISIC_0000001", "b"),
    )


def test_a_group_is_named_by_its_smallest_id_and_its_name_means_nothing_elsewhere() -> None:
    assert join_groups(_lines("a", "C:x", "B:x", "D:y")) == {"C": "B", "B": "B", "D": "D"}
    lines = [*_lines("a", "A:g1", "B:g1"), *_lines("b", "C:g1", "D:g1")]
    assert join_groups(lines) == {"A": "A", "B": "A", "C": "C", "D": "C"}


def test_groups_with_an_image_in_common_are_one_whatever_their_order() -> None:
    a = _lines("a", "A:x", "B:x", "E:z", "F:z")
    b = _lines("b", "B:y", "C:y", "F:y", "G:w")
    for lines in ([*a, *b], [*b, *a], [*a, *b][::-1]):
        assert join_groups(lines) == {**dict.fromkeys("ABCEF", "A"), "G": "G"}


def test_an_image_that_no_folder_holds_is_named_with_its_line() -> None:
    (error,) = find_unknown(_lines("groups.csv", "A:x", "B:x"), {"A"})
    assert str(error).startswith("groups.csv, line 3: B of group x is in no folder. Expected:")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "line 1: the header is ''"),
        (["id,group", "A,a"], "line 1: the header is 'id,group'. Expected: image_id,"),
        (["image_id,lesion_group", "A"], "line 2: 'A'. Expected: two fields"),
        (["image_id,lesion_group", "A,"], "line 2: 'A,'"),
        (["image_id,lesion_group", "A,a", "A,b"], "line 3: A for the second time"),
        (["image_id,lesion_group", '"'], "groups.csv cannot be read"),
    ],
)
def test_damaged_groups_are_refused_by_line(tmp_path: Path, lines: list[str], message: str) -> None:
    _write(tmp_path, *lines)
    with pytest.raises(DataError) as refused:
        read_groups(tmp_path)
    assert "groups.csv" in str(refused.value)
    assert message in str(refused.value)


def test_what_is_listed_is_taken_away(tmp_path: Path) -> None:
    path = _write(tmp_path, "image_id,part", "A,mask", "A,label", "B,image", "B,image")
    listed = read_leave_out(path, known={"A", "B", "C"})
    assert listed.apply([A, B, C]) == (Lesion("A", A.image_path, None, None), C)
    assert listed.lines() == ["A,label", "A,mask", "B,image"]
    assert listed.sentences() == (
        "1 images left out (named by groups.csv): B",
        "1 masks left out (named by groups.csv): A",
        "1 labels left out (named by groups.csv): A",
    )
    record = listed.to_dict()
    assert list(record) == ["file", "images", "masks", "labels", "sha256"]
    assert [record[part] for part in ("images", "masks", "labels")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image_id,part", "A,masks"], "line 2: unknown part 'masks' of A. Expected: one of image"),
        (["image_id,part", "A,mask", "D,mask"], "line 3: D is in no folder"),
        (["image_id,what", "A,mask"], "the header is 'image_id,what'"),
        (["image_id,part", "A,mask,"], "line 2: 'A,mask,'"),
    ],
)
def test_a_damaged_list_is_refused_by_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as refused:
        read_leave_out(_write(tmp_path, *lines), known={"A"})
    assert message in str(refused.value)
