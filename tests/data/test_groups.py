import re
from pathlib import Path

import pytest

from dermfuse.data.groups import GroupLine, find_unknown, join_groups, read_groups, read_leave_out
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import DataError

A, B, C = (Lesion(x, Path(f"{x}.jpg"), Path(f"{x}.png"), Label.BENIGN) for x in "ABC")


def _lines(file: str, *pairs: str) -> list[GroupLine]:
    """Lines of ``id:group`` as a file holds them."""
    return [GroupLine(Path(file), number, *pair.split(":")) for number, pair in enumerate(pairs, 2)]


def _write(folder: Path, *lines: str) -> Path:
    (folder / "groups.csv").write_text("\n".join(lines))
    return folder / "groups.csv"


def test_groups_are_read_with_their_line_numbers(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == ()
    path = _write(tmp_path, "image_id,lesion_group", "isic_0000003,a", "", "ISIC_0000001, b")
    first, last = GroupLine(path, 2, "ISIC_0000003", "a"), GroupLine(path, 4, "ISIC_0000001", "b")
    assert read_groups(tmp_path) == (first, last)


def test_groups_with_an_image_in_common_are_one_named_by_its_smallest_id() -> None:
    a = _lines("a", "B:x", "A:x", "E:z", "F:z")
    b = _lines("b", "B:y", "C:y", "F:y", "G:w", "H:z")  # a name means nothing elsewhere
    for lines in ([*a, *b], [*b, *a], [*a, *b][::-1]):
        assert join_groups(lines) == {**dict.fromkeys("ABCEF", "A"), "G": "G", "H": "H"}


def test_an_image_that_no_folder_holds_is_named_with_its_line() -> None:
    (error,) = find_unknown(_lines("groups.csv", "A:x", "B:x"), {"A"})
    assert str(error).startswith("groups.csv, line 3: B of group x is in no folder. Expected:")


def test_what_is_listed_is_taken_away(tmp_path: Path) -> None:
    path = _write(tmp_path, "image_id,part", "A,mask", "A,label", "B,image", "B,image")
    listed = read_leave_out(path, known={"A", "B", "C"})
    assert listed.apply([A, B, C]) == (Lesion("A", A.image_path, None, None), C)
    assert listed.lines() == ["A,label", "A,mask", "B,image"]
    said = [
        sentence.replace(" left out (named by groups.csv)", "") for sentence in listed.sentences()
    ]
    assert said == ["1 images: B", "1 masks: A", "1 labels: A"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "line 1: the header is ''"),
        (["id,group", "A,a"], "line 1: the header is 'id,group'. Expected: image_id,"),
        (["image_id,lesion_group", "A"], "line 2: 'A'. Expected: two fields"),
        (["image_id,lesion_group", "A,"], "line 2: 'A,'"),
        (["image_id,lesion_group", "A,a", "A,b"], "line 3: A for the second time"),
        (["image_id,lesion_group", '"'], "groups.csv cannot be read"),
        (["image_id,part", "A,masks"], "line 2: unknown part 'masks' of A. Expected: one of image"),
        (["image_id,part", "A,mask", "D,mask"], "line 3: D is in no folder"),
    ],
)
def test_damaged_lists_are_refused_by_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = _write(tmp_path, *lines)
    with pytest.raises(DataError, match=re.escape(message)):
        read_leave_out(path, known={"A"}) if "part" in lines[0] else read_groups(tmp_path)
