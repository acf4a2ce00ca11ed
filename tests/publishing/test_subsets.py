from pathlib import Path

import pytest

from dermfuse.errors import DataError
from dermfuse.publishing.release import read_subsets, require_subsets


def test_a_folder_and_a_list_name_images(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("image_id,source\nISIC_0000001,a\n\nISIC_0000002,b\n")
    found = read_subsets([drawn, tmp_path / "few.csv"])
    assert found["few"] == {"ISIC_0000001", "ISIC_0000002"}
    assert len(found["data"]) == 30
    (tmp_path / "more.csv").write_text("age,image_id\n50,ISIC_0000003\n")
    assert read_subsets([tmp_path / "more.csv"])["more"] == {"ISIC_0000003"}


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("image_id\n")
    with pytest.raises(DataError, match=r"none.csv names no image"):
        read_subsets([tmp_path / "none.csv"])
    (tmp_path / "none.csv").write_text("isic_id,age\nISIC_0000001,5\n")
    with pytest.raises(DataError, match="no image_id column in the header isic_id,age"):
        read_subsets([tmp_path / "none.csv"])
    with pytest.raises(DataError, match="cannot be read"):
        read_subsets([tmp_path / "missing.csv"])
    with pytest.raises(DataError, match="holds no train images"):
        read_subsets([tmp_path])


def test_a_subset_needs_both_classes() -> None:
    labels = {"a": True, "b": False, "c": False}
    require_subsets({"both": frozenset("ab")}, labels)
    with pytest.raises(DataError, match="of one 0 malignant and 2 benign images are measured"):
        require_subsets({"one": frozenset("bcz")}, labels)
