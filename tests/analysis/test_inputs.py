"""Paths expand to each image once, in a stable order, under names a reader would use."""

import io
import os
import sys
from pathlib import Path

import pytest

from dermfuse.analysis import inputs
from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import DataError, DependencyError, ImageError
from dermfuse.imaging.reading import read_any

from .conftest import even, save_png

DICOM = bytes(128) + b"DICM"


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    skin = tmp_path / "skin"
    _touch(
        skin,
        "b.JPG", "a.png", "c.dcm", "notes.txt", ".hidden.png", "z/1.tif", "z/y/2.webp", "d/3.bmp",
        ".cache/4.png", "__MACOSX/a.png", "out/masks/5.png", "predicted/masks/6.png",
    )  # fmt: skip
    (skin / "out/analysis.json").write_text("{}")
    (skin / "predicted/predictions.json").write_text("{}")
    return skin


def _names(*paths: Path | str, skip: Path | None = None) -> list[str]:
    return [item.name for item in expand(paths, skip=skip)]


def test_files_come_before_folders_each_by_name(tree: Path) -> None:
    (tree / "analysis.json").write_text("{}")  # results in the folder itself hide nothing
    assert _names(tree) == ["a.png", "b.JPG", "c.dcm", "d/3.bmp", "z/1.tif", "z/y/2.webp"]
    assert next(expand([tree])) == Item("a.png", tree / "a.png")
    assert "z/1.tif" not in _names(tree, skip=tree / "z")


def test_images_of_every_kind_are_found_and_links_to_folders_not_followed(tree: Path) -> None:
    for name, content in (
        ("a.HEIC", b""), ("1.2.840.113619", DICOM), ("im1", b"\x02\0\0\0UL\x04\0"),
        ("im2", b"\x02\0notes"), ("README", b"no image"), ("notes.txt", DICOM),
    ):  # fmt: skip
        (tree / "d" / name).write_bytes(content)
    for name, target in (
        ("loop", tree), ("looks-like.png", tree), ("link.png", tree / "a.png"),
        ("itself.jpg", "itself.jpg"), ("nowhere.jpg", "gone.jpg"),
    ):  # fmt: skip
        (tree / "d" / name).symlink_to(target)
    found = ["1.2.840.113619", "3.bmp", "a.HEIC", "im1", "itself.jpg", "link.png", "nowhere.jpg"]
    assert _names(tree / "d") == found
    with pytest.raises(ImageError, match=r"itself\.jpg: .*links"):
        read_any(tree / "d" / "itself.jpg")


def test_a_folder_that_may_not_be_read_is_one_failure_and_alone_a_refusal(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(folder: Path) -> object:
        if Path(folder) == tree / "z":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    items = list(expand([tree]))
    assert [item.name for item in items] == ["a.png", "b.JPG", "c.dcm", "d/3.bmp", "z/"]
    assert "z: the folder cannot be read (Permission denied)" in items[-1].fault
    with pytest.raises(DataError, match="z: the folder cannot be read"):
        list(expand([tree / "z"]))


def test_names_that_are_no_utf_8_are_told_from_those_that_read_like_them(tmp_path: Path) -> None:
    names = {
        b"a\xff.png": rb"a\xff.png",
        rb"a\xff.png": rb"a\\xff.png",
        rb"a\\xff.png": rb"a\\\\xff.png",
        rb"a\b.png": rb"a\b.png",
        b"\xff/\xfe.png": rb"\xff/\xfe.png",
    }
    _touch(tmp_path, *map(os.fsdecode, names))
    assert sorted(item.name.encode() for item in expand([tmp_path])) == sorted(names.values())


def test_an_image_below_1200_folders_is_found(tmp_path: Path) -> None:
    folders = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, 1201)]
    for folder in folders:
        folder.mkdir()
    image = save_png(folders[-1] / "a.png", even(9))
    (item,) = expand([tmp_path])
    assert item.name == "d/" * 1200 + "a.png"
    assert read_any(item.source).shape == (40, 60, 3)
    image.unlink()
    for folder in reversed(folders):  # what removes temporary folders is recursive
        folder.rmdir()


def test_arguments_keep_their_order_and_names_get_as_many_parts_as_tell_them_apart(
    tree: Path,
) -> None:
    assert _names(tree / "notes.txt") == ["notes.txt"], "whatever its suffix"
    assert _names(tree / "z", tree / "d") == ["z/1.tif", "z/y/2.webp", "d/3.bmp"]
    _touch(tree, "x/d/1.png", "y/d/1.png", "q/d", "p/q/d/1.png")
    for below in ("", "/1.png"):
        assert _names(*(tree / f"{x}/d{below}" for x in "xy")) == ["x/d/1.png", "y/d/1.png"]
    names = _names(tree / "x/d/1.png", tree / "q/d", tree / "p/q/d")
    assert len(set(names)) == 3, "a file and a folder never share a name"


@pytest.mark.parametrize("given", ["skin skin", "skin/a.png skin", "skin skin/z skin/z/1.tif"])
def test_what_is_named_twice_comes_once(tree: Path, given: str) -> None:
    for order in (1, -1):
        paths = [tree.parent / each for each in given.split()][::order]
        items = list(expand(paths))
        assert len({Path(item.source).resolve() for item in items}) == len(items) == 6
        assert len(_names(*paths, tree / ".hidden.png", tree / "notes.txt")) == 8


def test_standard_input_is_read_when_its_turn_comes(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"data")))
    items = expand([tree / "a.png", "-"])
    next(items)
    assert sys.stdin.buffer.tell() == 0
    assert next(items) == Item("standard input", b"data")
    sys.stdin.buffer.seek(0)
    monkeypatch.setattr(inputs, "MAX_BYTES", 3)
    assert "more than 3 bytes" in next(expand(["-"])).fault


def test_what_stands_for_no_image_is_refused(tree: Path) -> None:
    (tree / "empty").mkdir()
    for given, said in (
        ([], "no image is named"),
        ([tree, tree / "none.png"], "is missing"),
        ([tree, "a\0b"], "is missing"),
        ([tree / "empty"], r"empty holds no image.*\.dcm"),
    ):
        with pytest.raises(DataError, match=said):
            list(expand(given))


def test_a_list_gives_names_and_paths_and_what_is_missing_with_its_row(tree: Path) -> None:
    path, image = tree / "list.csv", tree / "a.png"
    path.write_text("age,path,name\n50,a.png,one\n51,a.png,one\n")
    assert list(expand([path])) == [Item("one", image)]  # what stands twice comes once
    assert _names(path, tree / "d") == ["list.csv/one", "d/3.bmp"]
    path.write_text(f"path\n../skin/a.png\n./a.png\n{image}\n")
    assert _names(path) == ["skin/a.png", "a.png", str(image).lstrip("/")]
    path.write_text("path\ngone.png\na\0.png\na.png\n")
    gone, nul, found = expand([path])
    assert gone.fault == f"gone.png: no file {tree / 'gone.png'} (row 1 of list.csv)."
    assert (nul.name, bool(nul.fault)) == ("a\\x00.png", True)
    assert found == Item("a.png", image)


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
        ("path\n\udcff\n", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_before_the_first_image(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as refused:
        expand([tmp_path / "list.csv"])
    assert said in str(refused.value)


def test_parquet_names_what_csv_names(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow", reason="the ray extra is not installed")
    from pyarrow.parquet import write_table

    path = tree / "list.parquet"
    write_table(pa.table({"path": ["a.png"], "name": ["one"]}), path)
    assert list(expand([path])) == [Item("one", tree / "a.png")]
    path.write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read"):
        expand([path])
    monkeypatch.setattr(inputs, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"\.\[ray\]"):
        expand([path])
