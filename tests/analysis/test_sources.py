"""Paths expand to each image once, in a stable order, under names a reader would use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.reading import read_any


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.JPG", "a.png", "c.dcm", "notes.txt", ".hidden.png", "z/1.tif", "z/y/2.webp", "d/3.bmp",
        ".cache/4.png", "__MACOSX/a.png", "out/masks/5.png", "predicted/masks/6.png",
    ):  # fmt: skip
        path = tmp_path / "skin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "skin/out/analysis.json").write_text("{}")
    (tmp_path / "skin/predicted/predictions.json").write_text("{}")
    return tmp_path / "skin"


def _names(*paths: Path | str, skip: Path | None = None) -> list[str]:
    return [item.name for item in expand(paths, skip=skip)]


class TestFolders:
    def test_files_come_before_folders_each_by_name(self, tree: Path) -> None:
        assert _names(tree) == ["a.png", "b.JPG", "c.dcm", "d/3.bmp", "z/1.tif", "z/y/2.webp"]

    def test_items_say_where_they_lie(self, tree: Path) -> None:
        assert next(expand([tree])) == Item("a.png", tree / "a.png")

    def test_the_folder_written_to_is_left_out(self, tree: Path) -> None:
        assert "z/1.tif" not in _names(tree, skip=tree / "z")

    def test_results_in_the_folder_itself_do_not_hide_its_images(self, tree: Path) -> None:
        (tree / "analysis.json").write_text("{}")
        assert "a.png" in _names(tree)

    @pytest.mark.parametrize("name", ["phone.HEIC", "web.avif", "scan.jp2"])
    def test_images_of_kinds_that_are_not_read_are_items_too(self, tree: Path, name: str) -> None:
        (tree / name).write_bytes(b"\0\0\0\x18ftypheic")
        assert name in _names(tree)

    def test_dicom_without_suffix_and_preamble_is_found(self, tree: Path) -> None:
        (tree / "IM1").write_bytes(b"\x02\0\0\0UL\x04\0")
        (tree / "IM2").write_bytes(b"\x02\0notes")
        assert [name for name in _names(tree) if name.startswith("IM")] == ["IM1"]

    def test_links_to_folders_are_not_followed(self, tree: Path) -> None:
        (tree / "z/loop").symlink_to(tree)
        (tree / "z/looks-like.png").symlink_to(tree)
        (tree / "z/link.png").symlink_to(tree / "a.png")
        assert [name for name in _names(tree) if "l" in name] == ["z/link.png"]

    def test_a_link_that_leads_to_itself_is_one_item_among_the_others(self, tree: Path) -> None:
        (tree / "loop.jpg").symlink_to("loop.jpg")
        (tree / "nowhere.jpg").symlink_to("gone.jpg")
        items = list(expand([tree]))
        assert [item.name for item in items][:5] == [
            "a.png", "b.JPG", "c.dcm", "loop.jpg", "nowhere.jpg"
        ]  # fmt: skip
        with pytest.raises(ImageError, match=r"loop\.jpg: .*links"):
            read_any(items[3].source)

    @pytest.mark.parametrize("name", ["IM000001", "1.2.840.113619.2.5"])
    def test_dicom_without_a_suffix_is_found_by_its_content(self, tree: Path, name: str) -> None:
        (tree / "d" / name).write_bytes(bytes(128) + b"DICM")
        (tree / "d/README").write_text("no image")
        (tree / "d/short.1").write_bytes(b"DICM")
        found = [each for each in _names(tree) if each.startswith("d/")]
        assert found == sorted(["d/3.bmp", f"d/{name}"])

    def test_a_folder_without_images_is_refused(self, tree: Path) -> None:
        (tree / "empty").mkdir()
        with pytest.raises(DataError, match=r"empty holds no image.*\.dcm"):
            _names(tree / "empty")

    def test_a_folder_that_cannot_be_read_is_one_fault_among_the_items(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dermfuse.analysis import inputs as sources

        scan = sources.os.scandir

        def refuse(path: Path) -> object:
            if path.name == "d":
                raise PermissionError(13, "Permission denied")
            return scan(path)

        monkeypatch.setattr(sources.os, "scandir", refuse)
        faults = [item for item in expand([tree]) if item.fault]
        assert [item.name for item in faults] == ["d/"]
        assert "Permission denied" in faults[0].fault

    def test_a_name_that_is_no_utf8_is_written_out(self, tmp_path: Path) -> None:
        try:
            Path(str(tmp_path) + "/caf\udce9.png").write_bytes(b"")
        except (OSError, UnicodeError):
            pytest.skip("the file system takes UTF-8 names alone")
        assert _names(tmp_path) == ["caf\\xe9.png"]


class TestSeveral:
    def test_a_file_is_taken_whatever_its_suffix(self, tree: Path) -> None:
        assert _names(tree / "notes.txt") == ["notes.txt"]

    def test_files_keep_the_order_they_are_given_in(self, tree: Path) -> None:
        assert _names(tree / "b.JPG", tree / "a.png") == ["b.JPG", "a.png"]

    def test_folders_stand_before_their_images(self, tree: Path) -> None:
        assert _names(tree / "z", tree / "d") == ["z/1.tif", "z/y/2.webp", "d/3.bmp"]

    def test_equal_names_get_as_many_parts_as_tell_them_apart(self, tmp_path: Path) -> None:
        for name in ("x/d/1.png", "y/d/1.png"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_bytes(b"")
        assert _names(tmp_path / "x/d", tmp_path / "y/d") == ["x/d/1.png", "y/d/1.png"]
        assert _names(tmp_path / "x/d/1.png", tmp_path / "y/d/1.png") == ["x/d/1.png", "y/d/1.png"]

    def test_a_file_and_a_folder_never_share_a_name(self, tmp_path: Path) -> None:
        for name in ("p/d/a.png", "q/a.png", "r/d/a.png"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_bytes(b"")
        names = _names(tmp_path / "p/d/a.png", tmp_path / "q/a.png", tmp_path / "r/d")
        assert len(set(names)) == 3

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

    def test_standard_input_is_read_when_its_turn_comes(self, tree: Path) -> None:
        calls = []
        items = expand([tree / "a.png", "-"], read_input=lambda: calls.append(1) or b"data")
        next(items)
        assert not calls
        assert next(items) == Item("standard input", b"data")

    def test_too_much_on_standard_input_is_a_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dermfuse.analysis.inputs.MAX_BYTES", 3)
        assert "more than 3 bytes" in next(expand(["-"], read_input=lambda: b"data")).fault


class TestRefusals:
    def test_nothing_is_refused(self) -> None:
        with pytest.raises(DataError, match="no image is named"):
            expand([])

    @pytest.mark.parametrize("name", ["none.png", "a\0b"])
    def test_a_missing_path_is_refused_before_anything_is_read(self, tree: Path, name: str) -> None:
        with pytest.raises(DataError, match="is missing"):
            expand([tree, tree / name])


def test_a_folder_too_deep_to_be_read_is_one_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("top.png")
    for _ in range(20):  # of 240 bytes each: a path has 4,096 at most
        Path("d" * 240).mkdir()
        os.chdir("d" * 240)
    items = list(expand([tmp_path]))
    assert items[0].name == "top.png"
    assert [bool(item.fault) for item in items] == [False, True]
    assert "the folder cannot be read" in items[1].fault


def test_names_that_are_no_utf_8_are_told_from_those_that_read_like_them(tmp_path: Path) -> None:
    names = [
        b"a\xff.png",
        rb"a\xff.png",
        rb"a\\xff.png",
        b"a\xfe.png",
        rb"a\b.png",
        b"\xff/\xff.png",
    ]
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    for name in names:
        Path(tmp_path, os.fsdecode(name)).touch()
    items = list(expand([tmp_path]))
    assert len({item.name for item in items}) == len(items) == 6
    assert {item.name.encode() for item in items} == {
        rb"a\xff.png", rb"a\\xff.png", rb"a\\\\xff.png", rb"a\xfe.png", rb"a\b.png",
        rb"\xff/\xff.png",
    }  # fmt: skip


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
