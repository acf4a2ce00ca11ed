import errno
import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dermfuse.errors import DataError, RunError, StorageError
from dermfuse.records import folders


def test_a_file_that_is_not_finished_never_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ordinary = tmp_path / "scores.csv", tmp_path / "ordinary"
    ordinary.write_text("")
    folders.write_text(path, "before")
    assert path.stat().st_mode == ordinary.stat().st_mode
    with suppress(ValueError), folders.atomic_write(path) as handle:
        handle.write(b"half")
        raise ValueError

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        folders.write_text(path, "text")
    assert path.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == [ordinary, path]


def test_a_record_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for value in (math.nan, -math.inf):
        with pytest.raises(DataError, match=rf"rows.1.loss is {value}, so .*json is not written"):
            folders.write_json(path, {"rows": ({"loss": 1.0}, {"loss": value})})
    with pytest.raises(RunError, match=r"run\.json is missing"):
        folders.read_json(path)
    folders.write_json(path, {"auc": 0.5})
    assert folders.read_json(path) == {"auc": 0.5}
    for text, message in (("{", "cannot be read"), ("[1]", "holds a list")):
        path.write_text(text)
        with pytest.raises(RunError, match=message):
            folders.read_json(path)
    for write in (folders.new_folder, lambda below: folders.write_text(below, "text")):
        with pytest.raises(StorageError, match="cannot be written"):
            write(path / "below a file")


def test_a_new_folder_is_made_with_its_parents_and_never_touched_once_it_holds_something(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a" / "b"
    assert folders.new_folder(folder) == folders.new_folder(folder)  # an empty one may exist
    (folder / ".run.json.abcdefgh.dermfuse").touch()  # what a kill left is nothing
    assert list(folders.new_folder(folder).iterdir()) == []
    (folder / "old").write_text("kept")
    with pytest.raises(RunError, match=r"run folder .* exists and is not empty"):
        folders.new_folder(folder, what="run")
    assert (folder / "old").read_text() == "kept"


def test_the_environment_names_what_a_number_must_name(monkeypatch: pytest.MonkeyPatch) -> None:
    record = folders.environment()
    assert {"dermfuse", "numpy", "pillow"} <= set(record["versions"])
    assert json.dumps(record)
    monkeypatch.setenv("PATH", "")  # no git, no commit
    assert folders.environment()["commit"] is None


def test_a_run_folder_has_a_configuration_a_record_and_metrics(tmp_path: Path) -> None:
    folder = folders.RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"is no run folder\. Expected: one of mine\. Train it\.$"):
        folder.require_run(expected="one of mine", action="Train it")
    folder.config.write_text("")
    folder.require_run()
    for record, message in (
        ({"seed": "x"}, r"run\.json: seed is 'x'\. Expected: a whole number\. Copy the run again"),
        ({"data": {"folders": 1}}, r"data\.folders is 1\. Expected: a list"),
        ({"commit": None, "seconds": 1, "other": 1}, r"run\.json has no epochs"),
    ):
        folders.write_json(folder.record, record)
        with pytest.raises(RunError, match=message):
            folder.read_record("epochs")
    folders.write_json(folder.record, {"epochs": 2, "other": record})
    assert folder.read_record("epochs") == {"epochs": 2, "other": record}
    folder.write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "auc": 0.75}])
    assert folder.metrics.read_text() == "epoch,loss,auc\n1,0.5,\n2,,0.75\n"


def test_what_a_kill_left_goes_and_everything_else_stays(tmp_path: Path) -> None:
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    (tmp_path / "masks" / "loop").symlink_to(tmp_path)
    others = [".a.csv.swp", ".a.csv.abcdefgh", "a.csv.abcdefgh.dermfuse", ".dermfuse", "a.csv"]
    ours = [".a.csv.k3_x9q2a.dermfuse", "masks/deep/.b.png.00000000.dermfuse"]
    for name in (*others, *ours):
        (tmp_path / name).touch()
    below = [path.name for path in folders.folders_below(tmp_path)]
    assert below[1:] == ["masks", "deep"]  # no loop
    assert folders.sweep_unfinished(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "masks"])
    assert not list((tmp_path / "masks" / "deep").iterdir())
    assert folders.sweep_unfinished(tmp_path / "missing") == 0
    folders.remove_file(tmp_path / "a.csv" / "below")
    with pytest.raises(StorageError, match="cannot be removed"):
        folders.remove_file(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "x" * 255, "line\nend.png", "\udcff.png"])
def test_the_file_that_is_being_written_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="No such file"), folders.atomic_write(tmp_path / name):
        assert folders.sweep_unfinished(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_becomes_whole_and_those_of_processes_that_are_no_more_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    gone = folders._staging(out, ended.pid)
    kept = [folders._staging(out, os.getppid()), folders._staging(tmp_path / "other", ended.pid)]
    for folder in (gone, *kept):
        folder.mkdir()
    with suppress(ValueError), folders.whole_folder(out) as staging:
        (staging / "scores.csv").write_text("half")
        raise ValueError
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    with folders.whole_folder(out) as staging:
        (staging / "scores.csv").write_text("whole")
    assert (out / "scores.csv").read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == sorted([*kept, out])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_a_lock_keeps_others_out_where_the_file_system_has_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    with (tmp_path / "lock").open("w") as ours, (tmp_path / "lock").open("w") as other:
        folders.lock(ours.fileno())
        with pytest.raises(BlockingIOError):
            folders.lock(other.fileno())

        def refuse(*_: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
        code = errno.ENOLCK
        folders.lock(other.fileno())
        code = errno.EBADF
        with pytest.raises(OSError, match="Bad file descriptor"):
            folders.lock(other.fileno())
