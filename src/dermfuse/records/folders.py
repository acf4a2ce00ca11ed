"""Run folders, and the one way a file is written: whole or not at all.

A run folder holds everything one training leaves behind:

    config.toml         the resolved configuration, written before the first batch
    run.json            versions, device, data fingerprint, progress, best validation metrics
                        (none with ``data.split = "all"``)
    split.csv           image_id,part with part train or validation
    metrics.csv         one row per epoch
    last.ckpt           the state of the training, for ``--resume``
    best.safetensors    the weights that validated best; of the last epoch if nothing is validated
    tensorboard/        the same curves for TensorBoard
"""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from dermfuse.errors import DataError, DermfuseError, RunError, StorageError
from dermfuse.records import (
    MOST_RECORD_BYTES,
    build_record,
    not_finite,
    parse_object,
    read_plain,
)

NOTICE = "dermfuse is research software, not a medical device: nothing it prints is a diagnosis."
"""Said with every output that a person may read."""

NAME_BYTES = 255
"""What file systems allow for one name."""
_UNFINISHED = ".dermfuse"  # what the name of an unfinished file ends in
_UNFINISHED_NAME = re.compile(rf"\..+\.[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}", re.DOTALL)
_TEMPORARY_BYTES = 10 + len(_UNFINISHED)  # what such a name has more: two points, 8 characters
_RECORD_ACTION = "Copy the run again, or train it into a new folder"
_MAKE_SPACE = "Choose another folder or free some space"
_LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # as file systems say
_VERSIONED = ("dermfuse", "numpy", "pillow", "torch", "lightning", "safetensors")


def _optional(name: str, kinds: Mapping[Any, str]) -> type:
    """Returns a record of keys that may be missing; the types of the keys, which spaces part."""
    keys = [(key, kind, None) for kind, named in kinds.items() for key in named.split()]
    return msgspec.defstruct(name, keys)


_RECORD = _optional(
    "Record",
    {
        str: "preset task init status device precision notice kept_by deployed_head python "
        "machine error",
        str | None: "commit",
        dict: "config start versions validation",
        int: "seed epochs kept_epoch threads devices",
        float: "seconds",
        _optional(
            "Data",
            {
                str | None: "summary fingerprint",
                int: "train_images validation_images malignant_images",
                list: "folders left_out",
                dict: "leave_out",
            },
        ): "data",
    },
)


@contextmanager
def storage_faults(found: str, *, action: str = _MAKE_SPACE) -> Iterator[None]:
    """Turns a fault of the disk into a StorageError.

    Args:
        found: What could not be done, without the system's reason.
        action: What the user can do.

    Raises:
        StorageError: For any OSError within.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{found} ({error.strerror or error})",
            expected="a writable folder with free space",
            action=action,
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a handle whose bytes appear at ``path`` only once all of them are written.

    Args:
        path: The file to write; missing parent folders are made.

    Raises:
        StorageError: If the folder cannot be written or the disk is full.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / "a.txt") as handle:
        ...         _ = handle.write(b"whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    name = short_name(path.name, most_bytes=NAME_BYTES - _TEMPORARY_BYTES)
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        with storage_faults(f"{path} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):  # there is none where all went well
            temporary.unlink()


def sweep_unfinished(folder: Path) -> int:
    """Removes what killed calls of ``atomic_write`` have left in a folder and those below it.

    Only for whoever alone writes there: what another process is writing would go, too. Files of
    other names are left alone, and links to folders are not followed.

    Args:
        folder: It may be missing.

    Returns:
        How many files were removed.

    Raises:
        StorageError: One cannot be removed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / ".a.txt.k3_x9q2a.dermfuse").touch()
        ...     (Path(folder) / ".a.txt.swp").touch()
        ...     sweep_unfinished(Path(folder)), [path.name for path in Path(folder).iterdir()]
        (1, ['.a.txt.swp'])
    """
    removed = 0
    for where in folders_below(folder):
        for path in _unfinished(where):
            remove_file(path)
            removed += 1
    return removed


def folders_below(folder: Path) -> list[Path]:
    """Returns a folder and all below it, each before its own; links to folders are not followed.

    Folders that cannot be read are left out.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "a" / "b").mkdir(parents=True)
        ...     [found.name for found in folders_below(Path(folder))][1:]
        ['a', 'b']
    """
    found, waiting = [], [folder]
    while waiting:  # no recursion: it ends at 1,000 levels
        where = waiting.pop()
        try:
            with os.scandir(where) as entries:
                waiting += [where / e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        found.append(where)
    return found


def remove_file(path: Path) -> None:
    """Removes a file if there is one.

    Raises:
        StorageError: It cannot be removed.
    """
    with (
        storage_faults(f"{path} cannot be removed", action="Correct its permissions"),
        suppress(FileNotFoundError, NotADirectoryError),
    ):
        path.unlink()


def short_name(name: str, *, most_bytes: int) -> str:
    """Returns a file name of so many bytes at most; a long one ends in the start of its SHA-256.

    Example:
        >>> short_name("lesion", most_bytes=40)
        'lesion'
        >>> short_name("x" * 50, most_bytes=20)
        'xxx-77cf12060d47183e'
    """
    written = name.encode(errors="surrogatepass")
    if len(written) <= most_bytes:
        return name
    digest = hashlib.sha256(written).hexdigest()[:16]
    kept = written[: most_bytes - len(digest) - 1].decode(errors="ignore")
    return f"{kept}-{digest}"


def core_count() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_write(path) as handle:
        handle.write(text.encode())


def write_json(path: Path, record: Mapping[str, Any], *, compact: bool = False) -> None:
    """Writes a JSON object atomically.

    Args:
        path: The file.
        record: Plain values.
        compact: On one line without spaces, for a program to read.

    Raises:
        DataError: A number in it is not finite: JSON has none such, and none is a measurement.
        StorageError: The file cannot be written.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 2}
    try:
        text = json.dumps(record, allow_nan=False, **layout)
    except ValueError as error:
        where, value = not_finite(record) or ("a value", error)
        raise DataError(
            f"{where} is {value}, so {path} is not written",
            expected="a finite number",
            action="Check what it is measured from: data, weights, predictions",
        ) from error
    write_text(path, text + "\n")


def read_json(
    path: Path, *, error: type[DermfuseError] = RunError, action: str = ""
) -> dict[str, Any]:
    """Returns the JSON object in ``path``.

    Args:
        path: The file.
        error: What is raised.
        action: What the user can do.

    Raises:
        DermfuseError: ``error``: the file is missing, damaged, or holds no object of unique keys.
    """
    content = read_plain(path, most_bytes=MOST_RECORD_BYTES, error=error, action=action)
    return parse_object(content, str(path), error=error, action=action)


def new_folder(path: Path, *, what: str = "output") -> Path:
    """Makes ``path`` and returns it; a folder that already holds something is never touched.

    Args:
        path: The folder; it may exist if it is empty.
        what: What it is for, in the error's words.

    Raises:
        RunError: If the folder exists and is not empty, or is a file.
        StorageError: If it cannot be made or written.
    """
    require_free(path, what=what)
    sweep_unfinished(path)
    with storage_faults(f"the {what} folder {path} cannot be written"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


@contextmanager
def whole_folder(out: Path, *, what: str = "output") -> Iterator[Path]:
    """Yields a folder to write into that becomes ``out`` at the end, whole or not at all.

    It lies beside ``out``; what a process that was killed over the same has left there goes.

    Args:
        out: The folder; it may exist if it is empty.
        what: What it is for, in the error's words.

    Raises:
        RunError: ``out`` exists and is not empty.
        StorageError: The folder cannot be written.
    """
    is_new = not out.exists()
    out = new_folder(out, what=what).resolve()
    staging = _staging(out, os.getpid())
    done = False
    try:
        with storage_faults(f"the {what} folder {out} cannot be written"):
            _sweep_staging(out)
            staging.mkdir()
            yield staging
            out.rmdir()
            staging.replace(out)
        done = True
    finally:
        if not done:
            shutil.rmtree(staging, ignore_errors=True)
            if is_new:
                shutil.rmtree(out, ignore_errors=True)


def require_free(path: Path, *, what: str = "output") -> None:
    """Refuses a folder that already holds something, before any work is done for it.

    What a killed call left unfinished is nothing.

    Raises:
        RunError: If the folder exists and is not empty, or is a file.
    """
    if path.exists() and (not path.is_dir() or set(path.iterdir()) - set(_unfinished(path))):
        raise RunError(
            f"the {what} folder {path} exists and is not empty",
            expected="a new or an empty folder",
            action="Choose another folder or remove this one",
        )


def lock(handle: int) -> None:
    """Keeps other processes out of an open file until each process that inherits it has ended.

    Windows, and a file system that has no such locks (some cluster's), keep nobody out.

    Args:
        handle: A file that is open for writing; over NFS no other can be locked.

    Raises:
        BlockingIOError: Another process is in it.
    """
    if sys.platform == "win32":
        return
    import fcntl  # noqa: PLC0415 — POSIX alone has it

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise


def is_fresh(made: Path, made_from: Sequence[Path]) -> bool:
    """Returns whether a file is there and no older than those that it is made from."""
    if not made.is_file():
        return False
    made_at = made.stat().st_mtime_ns
    return all(path.is_file() and path.stat().st_mtime_ns <= made_at for path in made_from)


def environment() -> dict[str, Any]:
    """Returns what a number must name: versions, Python, processor count and commit."""
    versions = {}
    for package in _VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} logical cores",
        "commit": _commit(),
    }


class _File:
    """Where a file of a folder lies: an attribute that its name makes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder", _: type) -> Path:
        return folder.path / self.name


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names the files of one run folder.

    Attributes:
        path: The folder.
        config: The resolved configuration.
        record: What was run, where, how far, and how well.
        split: Which image was trained on and which validated on.
        metrics: One row per epoch.
        state: The training's state after the last whole epoch.
        weights: The weights that are kept: those that validated best, or of the last epoch.
        tensorboard: TensorBoard's event files.
    """

    path: Path
    config = _File("config.toml")
    record = _File("run.json")
    split = _File("split.csv")
    metrics = _File("metrics.csv")
    state = _File("last.ckpt")
    weights = _File("best.safetensors")
    tensorboard = _File("tensorboard")

    @property
    def is_run(self) -> bool:
        """Whether the folder is a run: nothing else has a resolved configuration."""
        return self.config.is_file()

    def require_run(
        self,
        *,
        expected: str = "a folder with config.toml and best.safetensors",
        action: str = "Train one with: dermfuse train",
    ) -> None:
        """Refuses a folder that is no run.

        Args:
            expected: What kind of run is needed.
            action: What the user can do.

        Raises:
            RunError: If it is none.
        """
        if not self.is_run:
            raise RunError(f"{self.path} is no run folder", expected=expected, action=action)

    def read_record(self, *needed: str) -> dict[str, Any]:
        """Returns what ``run.json`` says, its values of the types that dermfuse writes.

        Args:
            needed: Keys that must be there.

        Raises:
            RunError: The file is missing or damaged, a key is missing, or a value of another type.
        """
        record = read_json(self.record, action=_RECORD_ACTION)
        build_record(
            _RECORD,
            record,
            str(self.record),
            error=RunError,
            open_ended=True,
            action=_RECORD_ACTION,
        )
        if missing := [key for key in needed if key not in record]:
            raise RunError(
                f"{self.record} has no {', '.join(missing)}",
                expected="the record of a run",
                action=_RECORD_ACTION,
            )
        return record

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes ``metrics.csv``: the columns are the union over the rows, in order."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(columns)]
        lines += [",".join(_cell(row.get(column)) for column in columns) for row in rows]
        write_text(self.metrics, "\n".join(lines) + "\n")


def _unfinished(folder: Path) -> list[Path]:
    try:
        named = [path for path in folder.iterdir() if _UNFINISHED_NAME.fullmatch(path.name)]
        return [path for path in named if not path.is_dir()]
    except OSError:  # it is missing, or closed to us: writing into it says so
        return []


def _staging(out: Path, process: int) -> Path:
    """Returns where a process of this machine writes what becomes a folder."""
    machine = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40]
    name = short_name(out.name, most_bytes=NAME_BYTES - 70)
    return out.parent / f".{name}.{machine}-{process}{_UNFINISHED}"


def _sweep_staging(out: Path) -> None:
    """Removes what processes of this machine that are no more have left beside a folder."""
    start = _staging(out, 0).name.removesuffix(f"0{_UNFINISHED}")
    ours = re.compile(rf"{re.escape(start)}([0-9]+){re.escape(_UNFINISHED)}")
    for path in out.parent.iterdir():
        found = ours.fullmatch(path.name)
        if found and path.is_dir() and not _is_running(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if sys.platform == "win32":  # where asking ends it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def _commit() -> str | None:
    """Returns the source tree's git commit, with ``-dirty`` if it has changes, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
