"""Lines are found again, torn ones are cut off, and their order can be mended."""

import json
from array import array
from pathlib import Path

import pytest

from dermfuse.analysis.journal import Journal
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
        assert journal.find("a", FACTS | {"bytes": 4}) is None
        arranged = journal.arrange(array("q", reversed(offsets)))
        assert [journal.read(offset)["name"] for offset in arranged] == ["b", "a"]
        third = array("q", [journal.append(_line("c"))])
        before = path.stat().st_ino
        assert journal.arrange(arranged + third) == arranged + third
    assert path.stat().st_ino == before, "lines in order are left alone"
    assert [json.loads(line)["name"] for line in path.read_bytes().splitlines()] == ["b", "a", "c"]


@pytest.mark.parametrize("damage", [b"\0\0\0", b"[1]", b'{"name": 3}', b"\xff", b"[" * 9999])
def test_a_damaged_line_is_passed_over_and_dropped_and_a_torn_one_cut_off(
    path: Path, damage: bytes
) -> None:
    whole = _line("a") + b"\n" + damage + b"\n" + _line("b") + b"\n"
    path.write_bytes(whole + _line("c", error="longer than the next line")[:-4])
    with Journal(path) as journal:
        offsets = array("q", [journal.find(name, FACTS) for name in "ab"])
        assert (journal.count, journal.find("c", FACTS)) == (3, None)
        journal.append(_line("d"))
        assert path.read_bytes() == whole + _line("d") + b"\n"
        journal.arrange(offsets)
    assert path.read_bytes() == _line("a") + b"\n" + _line("b") + b"\n"


def test_a_place_that_cannot_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(path)
    path.rmdir()
    with Journal(path) as journal:
        with pytest.raises(RunError, match="another process"):
            Journal(path)
        with Path("/dev/full").open("r+b", buffering=0) as full, monkeypatch.context() as patched:
            patched.setattr(journal, "_file", full)
            with pytest.raises(StorageError, match="what is done is kept"):
                journal.append(_line("a"))
        journal.append(_line("a"))
        path.unlink()
        with pytest.raises(StorageError, match="was removed while results were written"):
            journal.append(_line("b"))
        path.write_bytes(b"of another")
        with pytest.raises(StorageError, match="was removed"):
            journal.arrange(array("q"))
    assert path.read_bytes() == b"of another"
