"""A list names images by its rows, or says in one line why it cannot."""

from pathlib import Path

import pytest

from dermfuse.analysis import inputs as lists
from dermfuse.analysis.inputs import Entry, Item, check_list, expand, read_list
from dermfuse.errors import DataError, DependencyError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "skin" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"")
    return path


def _csv(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_list_and_the_only_lists_names_are_kept(
    image: Path, tmp_path: Path
) -> None:
    path = _csv(tmp_path, "age,path,name\n50,skin/a.png,one\n")
    assert list(expand([path])) == [Item("one", image)]


def test_without_names_a_path_is_one_as_it_can_stand_below_a_folder(
    image: Path, tmp_path: Path
) -> None:
    path = _csv(tmp_path / "skin", f"path\n../skin/a.png\n./a.png\n{image}\n")
    names = [entry.name for entry in read_list(path)]
    assert names == ["skin/a.png", "a.png", str(image).lstrip("/")]


def test_a_row_that_stands_twice_comes_once(image: Path, tmp_path: Path) -> None:
    path = _csv(tmp_path, "path\nskin/a.png\nskin/a.png\n")
    check_list(path)
    assert list(read_list(path)) == [Entry("skin/a.png", image)]


def test_a_missing_file_is_a_fault_that_names_its_row(tmp_path: Path) -> None:
    path = _csv(tmp_path, "path\ngone.png\n")
    (entry,) = read_list(path)
    assert entry.fault == f"gone.png: no file {tmp_path / 'gone.png'} (row 1 of list.csv)."


def test_lists_beside_other_arguments_begin_names_with_their_own(
    image: Path, tmp_path: Path
) -> None:
    path = _csv(tmp_path, "path,name\nskin/a.png,one\n")
    assert [item.name for item in expand([path, image.parent])] == ["list.csv/one", "skin/a.png"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no columns"),
        ("name,file\nx,y\n", "has name, file. Expected: a column path"),
        ("path\n", "names no image"),
        ("path,name\nskin/a.png,x\n,y\n", "row 2: no path"),
        ("path,name\na.png,../x\n", "row 1: the name '../x'"),
        ("path,name\na.png,\n", "row 1: the name ''"),
        ("path,name\na.png,x\nb.png,x\n", "row 2: the name 'x' again"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_before_the_first_image(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(DataError) as refused:
        expand([_csv(tmp_path, text)])
    assert said in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"path\n\xff\n")
    with pytest.raises(DataError, match="cannot be read"):
        expand([tmp_path / "list.csv"])


def test_parquet_names_what_csv_names(image: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the ray extra is not installed")
    from pyarrow.parquet import write_table

    write_table(pa.table({"path": ["skin/a.png"], "name": ["one"]}), tmp_path / "list.parquet")
    assert list(expand([tmp_path / "list.parquet"])) == [Item("one", image)]
    (tmp_path / "list.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read"):
        expand([tmp_path / "list.parquet"])


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "find_spec", lambda _: None)
    (tmp_path / "list.parquet").write_bytes(b"")
    with pytest.raises(DependencyError, match=r"\.\[ray\]"):
        expand([tmp_path / "list.parquet"])


def test_a_nul_in_a_path_is_one_failure_and_in_a_name_a_refusal(
    image: Path, tmp_path: Path
) -> None:
    path = _csv(tmp_path, "path\nskin/a\0.png\nskin/a.png\n")
    check_list(path)
    first, second = read_list(path)
    assert (first.name, bool(first.fault)) == ("skin/a\\x00.png", True)
    assert second == Entry("skin/a.png", image)
    with pytest.raises(DataError, match=r"row 1: the name 'a\\x00b'"):
        check_list(_csv(tmp_path, "path,name\nskin/a.png,a\0b\n"))
