from pathlib import Path

import pytest

from dermfuse.data.groups import read_groups
from dermfuse.errors import DataError


def test_a_folder_without_the_file_has_no_groups(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == {}


def test_a_group_goes_by_its_smallest_id(tmp_path: Path) -> None:
    text = "image_id,lesion_group\nisic_0000003,a\n\nISIC_0000001,a\nISIC_0000002,b\n"
    (tmp_path / "groups.csv").write_text(text)
    assert read_groups(tmp_path) == {
        "ISIC_0000003": "ISIC_0000001",
        "ISIC_0000001": "ISIC_0000001",
        "ISIC_0000002": "ISIC_0000002",
    }


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
