"""The official archives of the ISIC 2016 challenge, fetched, verified and unpacked.

A download that is cut goes on where it stopped (``NAME.part``), in this run or the next. An
archive is unpacked only after every check that can be made of it:

    size        what the server says
    MD5         the server's ``ETag`` or ``Content-MD5``, where it is one
    SHA-256     the server's ``x-amz-checksum-sha256``, and the folder's own ``SHA256SUMS``:
                put one there to state what you expect; without one it is written after the
                first verified download, so that later ones are compared with it
    CRC-32      of every member of the archive

It is unpacked into a temporary folder and renamed, so a folder that exists is whole.

ZIP archives unpacked safely, and faults of the disk told in one line.

One file over HTTP, going on where an earlier attempt or an earlier run was cut.
"""

import base64
import hashlib
import http.client
import json
import re
import shutil
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Literal

from dermfuse.data.isic2016 import Split, load_labels, locate_split
from dermfuse.errors import DataError, StorageError
from dermfuse.folders import atomic_write
from dermfuse.imaging.masks import has_mask_name
from dermfuse.imaging.preprocess import image_files

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


Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, all bytes or None)."""

_TRANSFER_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0
_TRY_AGAIN_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206
_AGAIN = "Run the command again: it goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Published:
    """What the server says about a whole file; None where it says nothing.

    Args:
        etag: Its version.
        size_bytes: Its length.
        md5: Hexadecimal.
        sha256: Hexadecimal.
    """

    etag: str | None = None
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


class _InterruptedError(Exception):
    """A fault of the connection or the server that may pass."""


class Fetch:
    """One file on its way: ``path`` grows, ``path`` + ``.json`` says what it shall become.

    Args:
        url: http or https.
        path: The file, ``NAME.part``; what an earlier run left there is gone on with.
        progress: Told after each chunk.
    """

    def __init__(self, url: str, path: Path, progress: Progress | None) -> None:
        self.url = url
        self.path = path
        self.name = path.name.removesuffix(".part")
        self.notes = path.with_name(f"{path.name}.json")
        self.progress = progress

    def run(self, *, attempts: int, retry_seconds: float) -> Published:
        """Fetches the file, going on after interruptions, and returns what was published.

        Args:
            attempts: How often it is tried, at least once.
            retry_seconds: Wait after the first failure; it grows with each further one.

        Raises:
            DataError: The server refuses, or every attempt was interrupted.
            StorageError: The folder cannot be written or the disk is full.
        """
        reason = _InterruptedError()
        for attempt in range(max(attempts, 1)):
            if attempt:
                time.sleep(retry_seconds * attempt)
            try:
                return self._attempt()
            except _InterruptedError as error:
                reason = error
        raise DataError(
            f"{self.url} could not be fetched in {attempts} attempts ({reason})",
            expected="a connection to the server",
            action=_AGAIN,
        ) from reason

    def discard(self) -> None:
        """Removes what was fetched."""
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def _attempt(self) -> Published:
        published = self._read_notes()
        offset = self.path.stat().st_size if self.path.is_file() else 0
        if offset and offset == published.size_bytes:
            return published
        with self._response(offset, published) as response:
            resumed = response.status == _PARTIAL_CONTENT
            if resumed and not _continues(response.headers, offset, published):
                self.discard()
                raise _InterruptedError("the file on the server has changed")
            if not resumed:  # the first request, or a server that knows no ranges
                offset = 0
                self.path.unlink(missing_ok=True)  # never an old file beside new notes
            if not resumed or published == Published():
                published = _published(response.headers)
                with atomic_write(self.notes) as file:
                    file.write(json.dumps(asdict(published)).encode())
            self._stream(response, offset, published.size_bytes)
        return published

    @contextmanager
    def _response(self, offset: int, published: Published) -> Iterator[http.client.HTTPResponse]:
        # Without identity a server may compress, and lengths and sums would mean nothing.
        headers = {"Accept-Encoding": "identity", "x-amz-checksum-mode": "ENABLED"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if published.etag and not published.etag.startswith("W/"):
                headers["If-Range"] = published.etag
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 scheme is checked
        try:
            response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedError(str(error) or type(error).__name__) from error
        with response:
            yield response

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        answer = f"{error.code} {error.reason}"
        if error.code == _RANGE_NOT_SATISFIABLE:  # more is here than the server has
            self.discard()
            return _InterruptedError(answer)
        if error.code in _TRY_AGAIN_STATUSES:
            return _InterruptedError(answer)
        return DataError(
            f"{self.url}: the server answers {answer}",
            expected="the challenge's file",
            action="Check the address, or fetch the file by hand from challenge.isic-archive.com",
        )

    def _stream(self, response: http.client.HTTPResponse, offset: int, total: int | None) -> None:
        with storage_faults(self.path):
            if total is not None:
                check_space(self.path.parent, total - offset)
            file = self.path.open("ab" if offset else "wb")
        size = offset
        with file:
            while True:
                try:
                    chunk = response.read(_TRANSFER_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _InterruptedError(f"cut after {size:,} bytes: {error}") from error
                if not chunk:
                    break
                with storage_faults(self.path):
                    file.write(chunk)
                    file.flush()
                size += len(chunk)
                if self.progress:
                    self.progress(self.name, size, total)
        if total is not None and size > total:
            self.discard()
        if total is not None and size != total:
            raise _InterruptedError(f"cut after {size:,} of {total:,} bytes")

    def _read_notes(self) -> Published:
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
            return Published(**notes)
        except (OSError, ValueError, TypeError):  # without notes the final checks still hold
            return Published()


def _continues(headers: Message, offset: int, published: Published) -> bool:
    """Returns whether a partial answer begins where the file ends, and is of the same file."""
    start, size = _content_range(headers)
    if start != offset:
        return False
    return published == Published() or (
        headers.get("ETag") in {published.etag, None} and published.size_bytes in {size, None}
    )


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Returns where a partial answer starts and how long the whole file is."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2])) if match else (None, None)


def _published(headers: Message) -> Published:
    """Returns what the headers of an answer promise about the whole file's bytes."""
    is_partial = "Content-Range" in headers
    etag = headers.get("ETag")
    # Content-MD5 is of the bytes that were sent, which may be a part.
    md5 = None if is_partial else _hex(headers.get("Content-MD5"), 16)
    # Amazon's ETag is the MD5 of an object sent in one piece, unless its own keys encrypt it.
    from_amazon = "x-amz-request-id" in headers or headers.get("Server") == "AmazonS3"
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    if md5 is None and etag and from_amazon and not encrypted:
        match = re.fullmatch(r'"([0-9a-f]{32})"', etag)
        md5 = match[1] if match else None
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    return Published(
        etag=etag,
        size_bytes=_content_range(headers)[1] if is_partial else size,
        md5=md5,
        sha256=_hex(headers.get("x-amz-checksum-sha256"), 32),
    )


def _hex(encoded: str | None, length: int) -> str | None:
    """Returns a base64 digest as hexadecimal; None for another length (a sum of parts)."""
    try:
        digest = base64.b64decode(encoded or "", validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == length else None


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

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DownloadedPart:
    """One part after ``download_isic2016``.

    Args:
        name: As in ``PARTS``.
        file_name: The challenge's file.
        was_present: Whether it lay there already and nothing was fetched.
        size_bytes: Of the file that was fetched, else 0.
        sha256: Of the file that was fetched, else empty.
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
    attempts: int = 5,
    retry_seconds: float = 2.0,
) -> tuple[DownloadedPart, ...]:
    """Fetches the challenge's archives into a folder in the official layout.

    Args:
        folder: Where the data shall be; parts that are there already are left alone.
        base_url: Where the archives lie, http or https.
        parts: Which of ``PARTS``.
        progress: Called with (file name, bytes so far, all bytes or None).
        attempts: How often one file is tried in this run.
        retry_seconds: Wait before the second attempt; it grows with each further one.

    Raises:
        DataError: An unknown part; the server does not have a file or cannot be reached; a
            file fails a check.
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
    with storage_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    read_sums(folder / SUMS_NAME)  # refuses a damaged one before hours of fetching
    return tuple(
        _obtain(folder, part, base_url, progress, attempts=attempts, retry_seconds=retry_seconds)
        for part in parts
    )


def _obtain(
    folder: Path,
    part: PartName,
    base_url: str,
    progress: Progress | None,
    *,
    attempts: int,
    retry_seconds: float,
) -> DownloadedPart:
    name = PARTS[part]
    if _is_present(folder, part):
        return DownloadedPart(part, name, was_present=True)
    if (folder / name).is_file():  # an archive that was fetched by hand
        return _install(folder, part, folder / name, Published())
    fetch = Fetch(f"{base_url.rstrip('/')}/{name}", folder / f"{name}.part", progress)
    published = fetch.run(attempts=attempts, retry_seconds=retry_seconds)
    try:
        installed = _install(folder, part, fetch.path, published)
    except DataError:
        fetch.discard()
        raise
    fetch.discard()
    return installed


def _is_present(folder: Path, part: PartName) -> bool:
    split: Split = "train" if part.startswith("train-") else "test"
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


def _install(folder: Path, part: PartName, path: Path, published: Published) -> DownloadedPart:
    """Checks a fetched file, puts it or what it holds in place, and notes its SHA-256."""
    name = PARTS[part]
    size_bytes = path.stat().st_size
    sums = read_sums(folder / SUMS_NAME)
    sha256, checks = _check_sums(path, published, sums.get(name), name)
    if name.endswith(".zip"):
        unpack_archive(path, folder / name.removesuffix(".zip"), name=name)
        checks = (*checks, "CRC-32")
    else:
        load_labels(path)  # a proxy's sign-in page, say, is no label file
        with storage_faults(folder / name):
            path.replace(folder / name)
    if name not in sums:
        _write_sums(folder / SUMS_NAME, {**sums, name: sha256})
    return DownloadedPart(part, name, False, size_bytes, sha256, checks)


def _check_sums(
    path: Path, published: Published, stated: str | None, name: str
) -> tuple[str, tuple[str, ...]]:
    """Returns a file's SHA-256 and the names of the checks it passed."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    size = path.stat().st_size
    comparisons = (
        ("size", published.size_bytes, size, "the server"),
        ("MD5", published.md5, md5.hexdigest(), "the server"),
        ("SHA-256", published.sha256, sha256.hexdigest(), "the server"),
        (SUMS_NAME, stated, sha256.hexdigest(), f"{SUMS_NAME} in the folder"),
    )
    passed = []
    for check, wanted, got, source in comparisons:
        if wanted is None:
            continue
        if wanted != got:
            raise DataError(
                f"{name}: its {check.replace(SUMS_NAME, 'SHA-256')} is {got}",
                expected=f"{wanted}, as {source} states",
                action=FETCH_AFRESH,
            )
        passed.append(check)
    return sha256.hexdigest(), tuple(passed)


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


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    with atomic_write(path) as file:
        file.write("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
