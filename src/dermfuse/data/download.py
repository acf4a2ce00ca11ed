"""The official archives of the ISIC 2016 challenge, fetched, verified and unpacked.

An archive is unpacked only after every check that can be made of it:

    size        what the server says
    SHA-256     what the folder's own ``SHA256SUMS`` states, or the server's
                ``x-amz-checksum-sha256``; put a file there to state what you expect; without one
                it is written after the first verified download, so that later ones are compared
                with it
    MD5         the server's ``ETag``, where it is one and no SHA-256 is known
    CRC-32      of every member of the archive

It is unpacked into a temporary folder and renamed, so a folder that exists is whole.
"""

import base64
import hashlib
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dermfuse.data.isic2016 import SplitName, load_labels, locate_split
from dermfuse.errors import DataError, DependencyError, StorageError, installing
from dermfuse.imaging.masks import has_mask_name
from dermfuse.imaging.preprocess import image_files
from dermfuse.records.folders import storage_faults, write_text

BASE_URL = "https://isic-challenge-data.s3.amazonaws.com/2016/"
"""Where the challenge keeps its archives."""

PartName = Literal[
    "train-images", "train-masks", "train-labels", "test-images", "test-masks", "test-labels"
]
PARTS: Mapping[PartName, str] = {
    "train-images": "ISBI2016_ISIC_Part1_Training_Data.zip",
    "train-masks": "ISBI2016_ISIC_Part1_Training_GroundTruth.zip",
    "train-labels": "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
    "test-images": "ISBI2016_ISIC_Part1_Test_Data.zip",
    "test-masks": "ISBI2016_ISIC_Part1_Test_GroundTruth.zip",
    "test-labels": "ISBI2016_ISIC_Part3_Test_GroundTruth.csv",
}
"""What can be fetched, and the challenge's file of each."""

SUMS_NAME = "SHA256SUMS"
"""The folder's own checksums, in the format of ``sha256sum``."""

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, all bytes or None)."""

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30
_AFRESH = "Remove the file if it is still there, and run the command again"
# Without identity a server may compress, and lengths and sums would mean nothing.
_HEADERS = {"Accept-Encoding": "identity", "x-amz-checksum-mode": "ENABLED"}
_REFUSALS = {401, 403, 404, 410}  # trying again would not change them


@dataclass(frozen=True, slots=True)
class DownloadedPart:
    """One part after ``download_isic2016``.

    Args:
        name: As in ``PARTS``.
        file_name: The challenge's file.
        was_present: Whether it lay there already and nothing was fetched.
        size_bytes: The size of the file if it was fetched, else 0.
        sha256: The digest of the file if it was fetched, else empty.
        checks: The checks it passed.
    """

    name: PartName
    file_name: str
    was_present: bool = False
    size_bytes: int = 0
    sha256: str = ""
    checks: tuple[str, ...] = ()


def download_isic2016(
    folder: str | Path,
    *,
    base_url: str = BASE_URL,
    parts: Sequence[PartName] = tuple(PARTS),
    progress: Progress | None = None,
    attempts: int = 3,
) -> tuple[DownloadedPart, ...]:
    """Fetches the challenge's archives into a folder in the official layout.

    Args:
        folder: Where the data shall be; parts that are there already are left alone, and archives
            that were fetched by hand are unpacked.
        base_url: Where the archives lie, http or https.
        parts: Which of ``PARTS``.
        progress: Called with (file name, bytes so far, all bytes or None).
        attempts: How often one file is tried.

    Raises:
        DataError: An unknown part; the server does not have a file or cannot be reached; a
            file fails a check.
        DependencyError: Pooch is not installed.
        StorageError: The folder cannot be written or the disk is full.
    """
    folder = Path(folder)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not base_url.startswith(("https://", "http://")):
        raise DataError(
            f"unknown part {unknown[0]!r}" if unknown else f"the address is {base_url!r}",
            expected=", ".join(PARTS) if unknown else "one that starts with https:// or http://",
            action="Correct it",
        )
    with storage_faults(f"{folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
    read_sums(folder / SUMS_NAME)  # refuses a damaged one before hours of fetching
    return tuple(_obtain(folder, part, base_url, progress, attempts) for part in parts)


def published_sum(headers: Mapping[str, str]) -> str:
    """Returns the checksum that a server states of a whole file, as pooch has it; or nothing.

    Example:
        >>> published_sum({"Server": "AmazonS3", "ETag": '"0123456789abcdef0123456789abcdef"'})
        'md5:0123456789abcdef0123456789abcdef'
    """
    try:
        digest = base64.b64decode(headers.get("x-amz-checksum-sha256", ""), validate=True)
    except ValueError:
        digest = b""
    if len(digest) == 32:  # others are sums of parts
        return f"sha256:{digest.hex()}"
    # Amazon's ETag is the MD5 of an object sent in one piece, unless its own keys encrypt it.
    from_amazon = "x-amz-request-id" in headers or headers.get("Server") == "AmazonS3"
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    match = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("ETag", ""))
    return f"md5:{match[1]}" if match and from_amazon and not encrypted else ""


def read_sums(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file name in a file that ``sha256sum`` wrote, if it exists.

    Raises:
        DataError: A line is no sum and name.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if match:
            sums[match[2]] = match[1].lower()
        elif line.strip():
            raise DataError(
                f"{path}, line {number}: {line.strip()[:40]!r}",
                expected="64 hexadecimal digits, two spaces and a file name",
                action="Correct the line, or remove the file",
            )
    return sums


def _obtain(
    folder: Path, part: PartName, base_url: str, progress: Progress | None, attempts: int
) -> DownloadedPart:
    """Fetches a part if it is not there, checks it, and puts it or what it holds in place."""
    name = PARTS[part]
    if _is_present(folder, part):
        return DownloadedPart(part, name, was_present=True)
    sums, path, checks = read_sums(folder / SUMS_NAME), folder / name, []
    with (
        storage_faults(f"{folder} cannot be written"),
        tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary,
    ):
        if not path.is_file():
            url = f"{base_url.rstrip('/')}/{name}"
            path = Path(temporary, name)
            checks = _fetch(url, path, progress, attempts)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if name in sums:
            _compare(name, "SHA-256", sha256, sums[name], f"{SUMS_NAME} in the folder")
            checks.append(SUMS_NAME)
        size_bytes = path.stat().st_size
        if name.endswith(".zip"):
            _unpack(path, folder / name.removesuffix(".zip"), Path(temporary))
            checks.append("CRC-32")
        else:
            load_labels(path)  # a proxy's sign-in page, say, is no label file
            path.replace(folder / name)
    if name not in sums:
        sums[name] = sha256
        lines = (f"{sums[each]}  {each}\n" for each in sorted(sums))
        write_text(folder / SUMS_NAME, "".join(lines))
    return DownloadedPart(part, name, False, size_bytes, sha256, tuple(checks))


def _is_present(folder: Path, part: PartName) -> bool:
    split: SplitName = "train" if part.startswith("train-") else "test"
    paths = locate_split(folder, split)
    if part.endswith("-labels"):
        return paths.labels_csv is not None
    masks = part.endswith("-masks")
    folders = paths.mask_folders if masks else paths.image_folders
    return any(
        path.name.upper().startswith("ISIC_") and has_mask_name(path) is masks
        for found in folders
        for path in image_files(found)
    )


def _fetch(url: str, path: Path, progress: Progress | None, attempts: int) -> list[str]:
    """Fetches a file and returns the names of the checks it passed."""
    try:
        import pooch  # noqa: PLC0415 — a core installation has none
        import requests  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError("pooch is not installed", action=installing("train")) from error
    pooch.get_logger().setLevel("ERROR")
    with _network_faults(url, attempts):
        head = requests.head(url, headers=_HEADERS, timeout=_TIMEOUT_SECONDS, allow_redirects=True)
        if head.status_code in _REFUSALS:
            head.raise_for_status()
        headers = head.headers if head.ok else {}
        size_bytes, known = int(headers.get("Content-Length", 0)), published_sum(headers)
        _check_space(path.parent, size_bytes)
        registry = {path.name: known or None}
        source = pooch.create(
            path.parent,
            url.removesuffix(path.name),
            registry=registry,
            retry_if_failed=attempts - 1,
        )
        bar = _Bar(path.name, progress) if progress else False
        transfer = pooch.HTTPDownloader(
            bar, _CHUNK_BYTES, headers=_HEADERS, timeout=_TIMEOUT_SECONDS
        )
        source.fetch(path.name, downloader=transfer)
    if size_bytes:
        _compare(path.name, "size", path.stat().st_size, size_bytes, "the server")
    sums = {"sha256": "SHA-256", "md5": "MD5"}
    checks = ["size"] if size_bytes else []
    return checks + [name for kind, name in sums.items() if known.startswith(kind)]


@contextmanager
def _network_faults(url: str, attempts: int) -> Iterator[None]:
    """Turns what requests and pooch raise into a DataError."""
    import requests  # noqa: PLC0415

    try:
        yield
    except requests.HTTPError as error:
        raise DataError(
            f"{url}: the server answers {str(error).partition(' for url')[0]}",
            expected="the challenge's file",
            action="Check the address, or fetch the file by hand from challenge.isic-archive.com",
        ) from error
    except requests.RequestException as error:
        raise DataError(
            f"{url} could not be fetched in {attempts} attempts ({error})",
            expected="a connection to the server",
            action="Run the command again",
        ) from error
    except ValueError as error:  # raised by pooch for another sum
        raise DataError(
            str(error).partition(". ")[0],
            expected="the file that the server states",
            action=_AFRESH,
        ) from error


class _Bar:
    """What pooch says of a file, passed on as ``Progress``."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name = name
        self.progress = progress
        self.total = 0
        self.done = 0

    def update(self, count: int) -> None:
        """Adds what has come; the last piece is counted as a whole one."""
        self.done = min(self.done + count, self.total or self.done + count)
        self.progress(self.name, self.done, self.total or None)

    def reset(self) -> None:
        """Starts again."""
        self.done = 0

    def close(self) -> None:
        """Leaves the last count as it is."""


def _compare(name: str, check: str, found: object, wanted: object, source: str) -> None:
    if found != wanted:
        raise DataError(
            f"{name}: its {check} is {found}",
            expected=f"{wanted}, as {source} states",
            action=_AFRESH,
        )


def _unpack(archive: Path, target: Path, temporary: Path) -> None:
    """Unpacks a ZIP file into a folder that appears only once all of it is there.

    Args:
        archive: The ZIP file.
        target: The folder to make; the archive's only folder becomes it, if there is one.
        temporary: An empty folder beside it.

    Raises:
        DataError: The archive is damaged, or would write outside the folder.
        StorageError: The disk is full.
    """
    unpacked = temporary / "unpacked"
    try:
        with zipfile.ZipFile(archive) as packed:
            _check_archive(packed, archive.name)
            _check_space(temporary, sum(info.file_size for info in packed.infolist()))
            packed.extractall(
                unpacked, [name for name in packed.namelist() if not name.startswith("__MACOSX/")]
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _damaged(archive.name, str(error)) from error
    entries = list(unpacked.iterdir())
    # The challenge's archives hold one folder; others hold the files themselves.
    whole = entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked
    whole.replace(target)


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
    return DataError(f"{name} is damaged ({found})", expected="a whole ZIP archive", action=_AFRESH)


def _check_space(folder: Path, needed_bytes: int) -> None:
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
