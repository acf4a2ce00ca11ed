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
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermfuse.data.archives import FETCH_AFRESH, storage_faults, unpack_archive
from dermfuse.data.isic2016 import Split, load_labels, locate_split
from dermfuse.data.transfer import Fetch, Progress, Published
from dermfuse.errors import DataError
from dermfuse.masks import has_mask_name
from dermfuse.preprocess import image_files
from dermfuse.runs import atomic_write

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
