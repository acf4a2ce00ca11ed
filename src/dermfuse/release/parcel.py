"""A release as bytes, for a machine that does not have its folder."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dermfuse.errors import ReleaseError
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import RELEASE_NAME, read_release
from dermfuse.runs import atomic_write, read_json


@dataclass(frozen=True, slots=True)
class Parcel:
    """The files of a release.

    Attributes:
        files: The bytes of each file by its name; those alone that the release names.
    """

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The SHA-256 of all names and bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name}\0{hashlib.sha256(self.files[name]).hexdigest()}\n".encode())
        return digest.hexdigest()

    def unpack(self, folder: Path, *, digest: str) -> None:
        """Writes the files into a folder.

        Args:
            folder: Where to; it exists.
            digest: What the parcel's must be.

        Raises:
            ReleaseError: It is another; nothing is written.
            StorageError: The folder cannot be written.
        """
        if self.digest != digest:
            raise ReleaseError(
                f"the release came with SHA-256 {self.digest[:16]}...",
                expected=f"{digest[:16]}..., as it was sent",
                action="Run it again",
            )
        for name, data in self.files.items():
            with atomic_write(folder / name) as file:
                file.write(data)


def pack_release(folder: Path) -> Parcel:
    """Returns the files that a release needs, and no others of its folder.

    Raises:
        ReleaseError: The record is missing or damaged, or a file that it names is missing.
    """
    files = {}
    for name in _names(folder):
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ReleaseError(
                f"{folder / name} cannot be read ({error.strerror})",
                expected=f"every file that {RELEASE_NAME} names",
                action="Copy the release again",
            ) from error
    return Parcel(files)


def _names(folder: Path) -> Iterator[str]:
    release = read_release(folder)
    yield RELEASE_NAME
    for name in dict.fromkeys(member.card_name for member in release.members):
        yield name
        yield NetworkCard.from_mapping(read_json(folder / name), source=name).file
    if release.gate is not None:
        yield release.gate.file
