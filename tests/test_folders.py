import errno
import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dermfuse import folders
from dermfuse.errors import DataError, RunError, StorageError
from dermfuse.folders import (
    RunFolder,
    atomic_write,
    environment,
    folders_below,
    new_folder,
    read_json,
    remove_file,
    sweep_unfinished,
    whole_folder,
    write_json,
    write_text,
)


def test_a_file_that_is_not_finished_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("before")
    with suppress(ValueError), atomic_write(path) as handle:
        handle.write(b"half")
        raise ValueError
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.csv"]


def test_a_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        write_text(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "text")
    with pytest.raises(StorageError, match="cannot be written"):
        new_folder(tmp_path / "file" / "run")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_without_a_value_for_infinity_says_where_it_stands(
    value: float, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"rows.1.loss is {value}, so .*a.json is not written"):
        write_json(tmp_path / "a.json", {"rows": ({"loss": 1.0}, {"loss": value})})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[1]", "holds a list"), (None, r"run\.json is missing")],
)
def test_a_damaged_or_missing_record_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    write_json(tmp_path / "run.json", {"auc": 0.5})
    assert read_json(tmp_path / "run.json") == {"auc": 0.5}
    (tmp_path / "run.json").unlink()
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "run.json")


def test_a_new_folder_is_made_with_its_parents_and_never_touched_once_it_holds_something(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a" / "b"
    assert new_folder(folder) == new_folder(folder)  # an empty one may exist
    (folder / "old").write_text("kept")
    with pytest.raises(RunError, match=r"run folder .* exists and is not empty"):
        new_folder(folder, what="run")
    assert (folder / "old").read_text() == "kept"


def test_the_environment_names_what_a_number_must_name(monkeypatch: pytest.MonkeyPatch) -> None:
    record = environment()
    assert {"dermfuse", "numpy", "pillow"} <= set(record["versions"])
    assert json.dumps(record)
    monkeypatch.setenv("PATH", "")  # no git, no commit
    assert environment()["commit"] is None


def test_a_folder_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"is no run folder\. Expected: one of mine\. Train it\.$"):
        folder.require_run(expected="one of mine", action="Train it")
    folder.config.write_text("")
    folder.require_run()
    assert folder.is_run


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"seed": "x"}, r"run\.json: seed is 'x'\. Expected: a whole number\. Copy the run again"),
        ({"data": {"folders": 1}}, r"data\.folders is 1\. Expected: a list"),
        ({"commit": None, "seconds": 1, "other": 1}, r"run\.json has no epochs"),
    ],
)
def test_a_record_is_read_with_the_keys_that_are_needed(
    record: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.record, record)
    with pytest.raises(RunError, match=message):
        folder.read_record("epochs")
    write_json(folder.record, {"epochs": 2, "other": record})
    assert folder.read_record("epochs") == {"epochs": 2, "other": record}


def test_metrics_rows_may_have_different_columns(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "auc": 0.75}])
    assert folder.metrics.read_text() == "epoch,loss,auc\n1,0.5,\n2,,0.75\n"


class TestSweeping:
    def test_what_a_kill_left_goes_and_everything_else_stays(self, tmp_path: Path) -> None:
        (tmp_path / "masks" / "deep").mkdir(parents=True)
        others = [".a.csv.swp", ".a.csv.abcdefgh", "a.csv.abcdefgh.dermfuse", ".dermfuse", "a.csv"]
        ours = [".a.csv.k3_x9q2a.dermfuse", "masks/deep/.b.png.00000000.dermfuse"]
        for name in (*others, *ours):
            (tmp_path / name).touch()
        assert sweep_unfinished(tmp_path) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "masks"])
        assert not list((tmp_path / "masks" / "deep").iterdir())

    def test_a_folder_with_unfinished_files_alone_is_free(self, tmp_path: Path) -> None:
        (tmp_path / ".run.json.abcdefgh.dermfuse").touch()
        assert list(new_folder(tmp_path).iterdir()) == []
        (tmp_path / ".run.json.abcdefgh.dermfuse").mkdir()  # no file of ours
        with pytest.raises(RunError, match="not empty"):
            new_folder(tmp_path)

    def test_a_folder_that_is_missing_holds_nothing_to_sweep(self, tmp_path: Path) -> None:
        assert sweep_unfinished(tmp_path / "missing") == 0

    @pytest.mark.parametrize("name", ["a.csv", "x" * 255, "line\nend.png", "\udcff.png"])
    def test_the_file_that_is_being_written_is_known_by_its_name(
        self, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(StorageError, match="No such file"), atomic_write(tmp_path / name):
            assert sweep_unfinished(tmp_path) == 1
        assert list(tmp_path.iterdir()) == []

    def test_links_to_folders_are_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "loop").symlink_to(tmp_path)
        assert folders_below(tmp_path) == [tmp_path, tmp_path / "a"]

    def test_a_file_that_is_gone_or_below_a_file_needs_no_removal(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        remove_file(tmp_path / "none")
        remove_file(tmp_path / "file" / "below")
        with pytest.raises(StorageError, match="cannot be removed"):
            remove_file(tmp_path)

    def test_folders_of_processes_that_are_no_more_go(self, tmp_path: Path) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            pass
        gone = folders._staging(tmp_path / "out", ended.pid)
        kept = [
            folders._staging(tmp_path / "out", os.getppid()),
            folders._staging(tmp_path / "other", ended.pid),
            tmp_path / f".out.{ended.pid}",
        ]
        for folder in (gone, *kept):
            folder.mkdir()
            (folder / "scores.csv").touch()
        with whole_folder(tmp_path / "out") as staging:
            (staging / "scores.csv").write_text("whole")
        assert not gone.exists()
        assert all((folder / "scores.csv").exists() for folder in kept)
        assert (tmp_path / "out" / "scores.csv").read_text() == "whole"
