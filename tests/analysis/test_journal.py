"""Lines are found again, torn ones are cut off, and their order can be mended."""

import json
from array import array
from pathlib import Path

import pytest

from dermfuse.analysis.journal import Journal, parse_line
from dermfuse.errors import RunError, StorageError

FACTS = {"bytes": 3, "mtime_ns": 5}


def _line(name: str, **more: object) -> bytes:
    return json.dumps({"name": name, "file": FACTS, **more}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_the_last_line_of_an_unchanged_image_is_found_and_lines_are_put_in_order(
    path: Path,
) -> None:
    with Journal(path) as journal:
        journal.append(_line("a", error="no image"))
        offsets = [journal.append(_line(name)) for name in "ab"]
    with Journal(path) as journal:
        assert [journal.find(name, FACTS) for name in "ab"] == offsets
        assert journal.find("a", {"bytes": 4, "mtime_ns": 5}) is None
        arranged = journal.arrange(array("q", reversed(offsets)))
        assert [journal.read(offset)["name"] for offset in arranged] == ["b", "a"]
        third = array("q", [journal.append(_line("c"))])
        before = path.stat().st_ino
        assert journal.arrange(arranged + third) == arranged + third
    assert path.stat().st_ino == before, "lines in order are left alone"
    assert [json.loads(line)["name"] for line in path.read_bytes().splitlines()] == ["b", "a", "c"]


class TestDamage:
    def test_a_torn_line_is_cut_off(self, path: Path) -> None:
        path.write_bytes(_line("a") + b"\n" + _line("b")[:-4])
        with Journal(path) as journal:
            journal.append(_line("c"))
        assert path.read_bytes() == _line("a") + b"\n" + _line("c") + b"\n"

    @pytest.mark.parametrize("damage", [b"\0\0\0", b"[1]", b"{}", b'{"name": 3}', b"\xff"])
    def test_a_damaged_line_is_passed_over_and_dropped(self, path: Path, damage: bytes) -> None:
        path.write_bytes(_line("a") + b"\n" + damage + b"\n" + _line("b") + b"\n")
        with Journal(path) as journal:
            offsets = array("q", [journal.find(name, FACTS) for name in "ab"])
            assert journal.count == 3
            journal.arrange(offsets)
        assert path.read_bytes() == _line("a") + b"\n" + _line("b") + b"\n"


class TestRefusals:
    def test_two_processes_do_not_write_the_same_file(self, path: Path) -> None:
        pytest.importorskip("fcntl")
        with Journal(path), pytest.raises(RunError, match="another process"):
            Journal(path)

    def test_a_folder_in_its_place(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(StorageError, match="cannot be written"):
            Journal(path)

    def test_a_full_disk(self, path: Path) -> None:
        with Journal(path) as journal:
            journal._file.close()
            full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 — the journal closes it
            journal._file = full  # type: ignore[assignment]
            with pytest.raises(StorageError, match="what is done is kept"):
                journal.append(_line("a"))

    def test_a_file_that_was_removed_or_replaced_takes_no_more_lines(self, path: Path) -> None:
        with Journal(path) as journal:
            journal.append(_line("a"))
            path.unlink()
            with pytest.raises(StorageError, match="was removed while results were written"):
                journal.append(_line("b"))
            path.write_bytes(b"of another")
            with pytest.raises(StorageError, match="was removed"):
                journal.arrange(array("q"))
        assert path.read_bytes() == b"of another"


@pytest.mark.parametrize(
    "line", [b"", b"[]\n", b"{}\n", b'{"name": 5}\n', b'{"name": "a"', b"\xff\x00\n", b"[" * 9999]
)
def test_a_damaged_line_is_none(line: bytes) -> None:
    assert parse_line(line) is None
