from pathlib import Path

import pytest

from dermfuse.data.groups import GroupLine, find_unknown, join_groups, read_groups
from dermfuse.errors import DataError


def _lines(file: str, *pairs: str) -> list[GroupLine]:
    """Lines of ``id:group`` as a file holds them."""
    return [GroupLine(Path(file), number, *pair.split(":")) for number, pair in enumerate(pairs, 2)]


def test_a_folder_without_the_file_has_no_groups(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == ()


def test_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("image_id,lesion_group\nisic_0000003,a\n\nISIC_0000001, b\n")
    assert read_groups(tmp_path) == (
        GroupLine(path, 2, "ISIC_0000003", "a"),
        GroupLine(path, 4, "ISIC_0000001", "b"),
    )


def test_a_group_goes_by_its_smallest_id() -> None:
    assert join_groups(_lines("groups.csv", "C:x", "B:x", "D:y")) == {"C": "B", "B": "B", "D": "D"}


def test_names_mean_nothing_in_another_file() -> None:
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
    ("text", "message"),
    [
        ("", "line 1: the header is ''"),
        ("id,group\nISIC_0000001,a\n", "line 1: the header is 'id,group'. Expected: image_id,"),
        ("image_id,lesion_group\nISIC_0000001\n", "line 2: 'ISIC_0000001'. Expected: two"),
        ("image_id,lesion_group\nISIC_0000001,\n", "line 2: 'ISIC_0000001,'"),
        (
            "image_id,lesion_group\nISIC_0000001,a\nISIC_0000001,b\n",
            "line 3: ISIC_0000001 for the second time",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError) as refused:
        read_groups(tmp_path)
    assert message in str(refused.value)
    assert "groups.csv" in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"groups\.csv cannot be read"):
        read_groups(tmp_path)
