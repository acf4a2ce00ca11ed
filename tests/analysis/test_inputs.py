"""Paths expand to each image once, in a stable order, under names a reader would use."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.analysis import inputs
from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import DataError, DependencyError, ImageError
from dermfuse.imaging.reading import read_any


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    skin = _touch(
        tmp_path / "skin",
        "b.JPG", "a.png", "c.dcm", "notes.txt", ".hidden.png", "z/1.tif", "z/y/2.webp", "d/3.bmp",
        ".cache/4.png", "__MACOSX/a.png", "out/masks/5.png", "predicted/masks/6.png",
    )  # fmt: skip
    (skin / "out/analysis.json").write_text("{}")
    (skin / "predicted/predictions.json").write_text("{}")
    return skin


def _names(*paths: Path | str, skip: Path | None = None) -> list[str]:
    return [item.name for item in expand(paths, skip=skip)]


class TestFolders:
    def test_files_come_before_folders_each_by_name(self, tree: Path) -> None:
        (tree / "analysis.json").write_text("{}")  # results in the folder itself hide nothing
        assert _names(tree) == ["a.png", "b.JPG", "c.dcm", "d/3.bmp", "z/1.tif", "z/y/2.webp"]
        assert next(expand([tree])) == Item("a.png", tree / "a.png")
        assert "z/1.tif" not in _names(tree, skip=tree / "z")

    @pytest.mark.parametrize(
        ("name", "content", "is_found"),
        [
            *((name, b"\0\0\0\x18ftypheic", True) for name in ("a.HEIC", "a.avif", "a.jp2")),
            ("IM1", b"\x02\0\0\0UL\x04\0", True),
            ("IM2", b"\x02\0notes", False),
            ("IM000001", bytes(128) + b"DICM", True),
            ("1.2.840.113619.2.5", bytes(128) + b"DICM", True),
            ("README", b"no image", False),
            ("short.1", b"DICM", False),
        ],
    )
    def test_what_is_taken_for_an_image(
        self, tree: Path, name: str, content: bytes, is_found: bool
    ) -> None:
        (tree / "d" / name).write_bytes(content)
        assert (f"d/{name}" in _names(tree)) is is_found

    def test_links_to_folders_are_not_followed_and_broken_ones_are_files(self, tree: Path) -> None:
        for name, target in (
            ("loop", tree), ("looks-like.png", tree), ("link.png", tree / "a.png"),
            ("itself.jpg", "itself.jpg"), ("nowhere.jpg", "gone.jpg"),
        ):  # fmt: skip
            (tree / "d" / name).symlink_to(target)
        items = [item for item in expand([tree]) if item.name.startswith("d/")]
        found = [item.name[2:] for item in items]
        assert found == ["3.bmp", "itself.jpg", "link.png", "nowhere.jpg"]
        with pytest.raises(ImageError, match=r"itself\.jpg: .*links"):
            read_any(items[1].source)

    def test_a_folder_that_may_not_be_read_is_one_failure_and_alone_a_refusal(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
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

    def test_names_that_are_no_utf_8_are_told_from_those_that_read_like_them(
        self, tmp_path: Path
    ) -> None:
        names = {
            b"a\xff.png": rb"a\xff.png",
            rb"a\xff.png": rb"a\\xff.png",
            rb"a\\xff.png": rb"a\\\\xff.png",
            b"a\xfe.png": rb"a\xfe.png",
            rb"a\b.png": rb"a\b.png",
            b"\xff/\xff.png": rb"\xff/\xff.png",
        }
        _touch(tmp_path, *map(os.fsdecode, names))
        assert sorted(item.name.encode() for item in expand([tmp_path])) == sorted(names.values())

    def test_a_folder_too_deep_to_be_read_is_one_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("top.png").touch()
        for _ in range(20):  # of 240 bytes each: a path has 4,096 at most
            Path("d" * 240).mkdir()
            os.chdir("d" * 240)
        items = list(expand([tmp_path]))
        assert [bool(item.fault) for item in items] == [False, True]
        assert "the folder cannot be read" in items[1].fault


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """1,200 folders, each in the other, with an image in the last."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    Image.new("RGB", (20, 20)).save("a.png")
    yield tmp_path
    Path("a.png").unlink()
    for _ in range(1200):  # what removes temporary folders is recursive
        os.chdir("..")
        os.rmdir("d")  # noqa: PTH106


def test_an_image_below_1200_folders_is_found(deep: Path) -> None:
    (item,) = expand([deep])
    assert item.name == "d/" * 1200 + "a.png"
    assert read_any(item.source).shape == (20, 20, 3)


class TestSeveral:
    @pytest.mark.parametrize(
        ("given", "names"),
        [
            (["notes.txt"], ["notes.txt"]),  # whatever its suffix
            (["b.JPG", "a.png"], ["b.JPG", "a.png"]),
            (["z", "d"], ["z/1.tif", "z/y/2.webp", "d/3.bmp"]),
        ],
    )
    def test_arguments_keep_their_order(
        self, tree: Path, given: list[str], names: list[str]
    ) -> None:
        assert _names(*(tree / each for each in given)) == names

    def test_equal_names_get_as_many_parts_as_tell_them_apart(self, tmp_path: Path) -> None:
        _touch(tmp_path, "x/d/1.png", "y/d/1.png", "q/d", "p/q/d/1.png")
        assert _names(tmp_path / "x/d", tmp_path / "y/d") == ["x/d/1.png", "y/d/1.png"]
        assert _names(tmp_path / "x/d/1.png", tmp_path / "y/d/1.png") == ["x/d/1.png", "y/d/1.png"]
        names = _names(tmp_path / "x/d/1.png", tmp_path / "q/d", tmp_path / "p/q/d")
        assert len(set(names)) == 3, "a file and a folder never share a name"

    @pytest.mark.parametrize(
        "given",
        [("", ""), ("", "a.png"), ("a.png", ""), ("", "z"), ("z", ""), ("z/1.tif", "", "z/y")],
    )
    def test_what_is_named_twice_comes_once(self, tree: Path, given: tuple[str, ...]) -> None:
        items = list(expand([tree / each for each in given]))
        assert len({Path(item.source).resolve() for item in items}) == len(items) == 6

    def test_a_hidden_file_that_is_named_comes_beside_its_folder(self, tree: Path) -> None:
        sources = {item.source for item in expand([tree, tree / ".hidden.png", tree / "notes.txt"])}
        assert {tree / ".hidden.png", tree / "notes.txt"} < sources

    def test_standard_input_is_read_when_its_turn_comes(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"data")))
        items = expand([tree / "a.png", "-"])
        next(items)
        assert sys.stdin.buffer.tell() == 0
        assert next(items) == Item("standard input", b"data")
        sys.stdin.buffer.seek(0)
        monkeypatch.setattr(inputs, "MAX_BYTES", 3)
        assert "more than 3 bytes" in next(expand(["-"])).fault


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no image is named"),
        (["skin", "skin/none.png"], "is missing"),
        (["skin", "a\0b"], "is missing"),
        (["empty"], r"empty holds no image.*\.dcm"),
    ],
)
def test_what_stands_for_no_image_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    monkeypatch.chdir(tree.parent)
    Path("empty").mkdir()
    with pytest.raises(DataError, match=said):
        list(expand(given))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return _touch(tmp_path, "skin/a.png") / "skin/a.png"


def _csv(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


class TestLists:
    def test_names_and_paths_are_those_of_the_rows(self, image: Path, tmp_path: Path) -> None:
        path = _csv(tmp_path, "age,path,name\n50,skin/a.png,one\n51,skin/a.png,one\n")
        assert list(expand([path])) == [Item("one", image)]  # what stands twice comes once
        assert _names(path, image.parent) == ["list.csv/one", "skin/a.png"]
        path = _csv(tmp_path / "skin", f"path\n../skin/a.png\n./a.png\n{image}\n")
        assert _names(path) == ["skin/a.png", "a.png", str(image).lstrip("/")]

    def test_a_missing_file_is_a_fault_that_names_its_row(
        self, image: Path, tmp_path: Path
    ) -> None:
        path = _csv(tmp_path, "path\ngone.png\nskin/a\0.png\nskin/a.png\n")
        gone, nul, found = expand([path])
        assert gone.fault == f"gone.png: no file {tmp_path / 'gone.png'} (row 1 of list.csv)."
        assert (nul.name, bool(nul.fault)) == ("skin/a\\x00.png", True)
        assert found == Item("skin/a.png", image)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "has no columns"),
            ("name,file\nx,y\n", "has name, file. Expected: a column path"),
            ("path\n", "names no image"),
            ("path,name\nskin/a.png,x\n,y\n", "row 2: no path"),
            ("path,name\na.png,../x\n", "row 1: the name '../x'"),
            ("path,name\na.png,\n", "row 1: the name ''"),
            ("path,name\na.png,a\0b\n", "row 1: the name 'a\\x00b'"),
            ("path,name\na.png,x\nb.png,x\n", "row 2: the name 'x' again"),
            ("path\n\udcff\n", "cannot be read"),
        ],
    )
    def test_a_list_that_cannot_be_used_is_refused_before_the_first_image(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        (tmp_path / "list.csv").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(DataError) as refused:
            expand([tmp_path / "list.csv"])
        assert said in str(refused.value)

    def test_parquet_names_what_csv_names(self, image: Path, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow", reason="the ray extra is not installed")
        from pyarrow.parquet import write_table

        write_table(pa.table({"path": ["skin/a.png"], "name": ["one"]}), tmp_path / "list.parquet")
        assert list(expand([tmp_path / "list.parquet"])) == [Item("one", image)]
        (tmp_path / "list.parquet").write_bytes(b"no table")
        with pytest.raises(DataError, match="cannot be read"):
            expand([tmp_path / "list.parquet"])

    def test_parquet_without_pyarrow_names_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inputs, "find_spec", lambda _: None)
        (tmp_path / "list.parquet").write_bytes(b"")
        with pytest.raises(DependencyError, match=r"\.\[ray\]"):
            expand([tmp_path / "list.parquet"])
