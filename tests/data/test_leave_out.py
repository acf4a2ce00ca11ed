from pathlib import Path

import pytest

from dermfuse.data.groups import read_leave_out
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.errors import DataError

A, B, C = (
    Lesion(name, Path(f"{name}.jpg"), Path(f"{name}.png"), Label.BENIGN) for name in ("A", "B", "C")
)


def _write(folder: Path, *lines: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(lines))
    return path


def test_what_is_listed_is_taken_away(tmp_path: Path) -> None:
    path = _write(tmp_path, "image_id,part", "A,mask", "A,label", "B,image", "B,image")
    listed = read_leave_out(path, known={"A", "B", "C"})
    assert listed.apply([A, B, C]) == (Lesion("A", A.image_path, None, None), C)
    assert listed.lines() == ["A,label", "A,mask", "B,image"]
    assert listed.sentences() == (
        "1 images left out (named by list.csv): B",
        "1 masks left out (named by list.csv): A",
        "1 labels left out (named by list.csv): A",
    )


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


def test_a_list_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_leave_out(tmp_path / "none.csv", known={"A"})
