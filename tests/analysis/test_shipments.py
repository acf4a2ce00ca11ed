"""Images travel as an Arrow table and arrive as they were."""

import os
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the ray extra is not installed")

from dermfuse.analysis.inputs import Item
from dermfuse.analysis.ray import pack_works, unpack_works
from dermfuse.analysis.tables import Work


def test_paths_bytes_faults_and_facts_arrive(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    works = [
        Work(Item("odd", odd), {"bytes": 3, "mtime_ns": 2**62}),
        Work(Item("stdin", b""), {"sha256": "0"}),
        Work(Item("gone", tmp_path, "gone: no file."), {}),
    ]
    table = pack_works(works, start=7)
    assert table["number"].to_pylist() == [7, 8, 9]
    assert list(unpack_works(table)) == works


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (work,) = unpack_works(pack_works([Work(Item("a", Path("a.png")), {})], start=0))
    assert work.item.source == tmp_path / "a.png"
