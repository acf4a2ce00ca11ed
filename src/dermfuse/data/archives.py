"""ZIP archives unpacked safely, and faults of the disk told in one line."""

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dermfuse.errors import DataError, StorageError

FETCH_AFRESH = "Remove the file if it is still there, and run the command again"
"""What to do about a file that failed a check."""


def unpack_archive(archive: Path, target: Path, *, name: str) -> None:
    """Unpacks an archive into a folder that appears only once all of it is there.

    Args:
        archive: The ZIP file.
        target: The folder to make; the archive's only folder becomes it, if there is one.
        name: What to call the archive in errors.

    Raises:
        DataError: The archive is damaged, or would write outside the folder.
        StorageError: The disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        with zipfile.ZipFile(archive) as packed:
            _check_archive(packed, name)
            with storage_faults(target):
                check_space(target.parent, sum(info.file_size for info in packed.infolist()))
                temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
                names = [x for x in packed.namelist() if not x.startswith("__MACOSX/")]
                packed.extractall(temporary, names)
                entries = list(temporary.iterdir())
                # The challenge's archives hold one folder; others hold the files themselves.
                whole = entries[0] if len(entries) == 1 and entries[0].is_dir() else temporary
                whole.chmod(0o755)  # a temporary folder is its owner's alone
                whole.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _damaged(name, str(error)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_archive(packed: zipfile.ZipFile, name: str) -> None:
    for info in packed.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(info.external_attr >> 16)
        if is_link or path.is_absolute() or ".." in path.parts or ":" in info.filename:
            raise DataError(
                f"{name} holds {info.filename!r}, which would be written outside its folder",
                expected="images or masks only",
                action="Do not use this archive; check the address it came from",
            )
    if all(info.is_dir() for info in packed.infolist()):
        raise _damaged(name, "it is empty")
    damaged = packed.testzip()  # compares each member with its CRC-32
    if damaged is not None:
        raise _damaged(name, f"{damaged} differs from its CRC-32")


def _damaged(name: str, found: str) -> DataError:
    return DataError(
        f"{name} is damaged ({found})", expected="a whole ZIP archive", action=FETCH_AFRESH
    )


def check_space(folder: Path, needed_bytes: int) -> None:
    """Refuses to begin what the disk cannot hold.

    Raises:
        StorageError: Fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise StorageError(
            f"{folder} has {free / 1e6:,.0f} MB free",
            expected=f"{needed_bytes / 1e6:,.0f} MB or more",
            action="Free some space or choose another folder",
        )


@contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """Turns a fault of the disk into a StorageError.

    Args:
        path: What is being written.

    Raises:
        StorageError: For any OSError within.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error})",
            expected="a writable folder with free space",
            action="Free some space or choose another folder",
        ) from error
