"""A release as bytes, for a machine that does not have its folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dermfuse.errors import ReleaseError
from dermfuse.records import MOST_RECORD_BYTES
from dermfuse.release.files import read_file, require_file_name
from dermfuse.release.folder import RELEASE_NAME, parse_release, read_networks
from dermfuse.runs import atomic_write


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
            ReleaseError: It is another, or a name is a path; nothing is written.
            StorageError: The folder cannot be written.
        """
        if self.digest != digest:
            raise ReleaseError(
                f"the release came with SHA-256 {self.digest[:16]}...",
                expected=f"{digest[:16]}..., as it was sent",
                action="Run it again",
            )
        for name in self.files:
            require_file_name(name, source="a file of the release")
        for name, data in self.files.items():
            with atomic_write(folder / name) as file:
                file.write(data)


def pack_release(folder: Path) -> Parcel:
    """Returns the files that a release needs, each checked, and no others of its folder.

    Raises:
        ReleaseError: The record or a file that it names is missing, damaged or not the one meant.
    """
    record = read_file(folder, RELEASE_NAME, most_bytes=MOST_RECORD_BYTES)
    release = parse_release(record, str(folder / RELEASE_NAME))
    files = {RELEASE_NAME: record}
    networks = read_networks(folder, release)
    for member, (card, network) in zip(release.members, networks, strict=True):
        files[member.card_name] = read_file(folder, member.card_name, most_bytes=MOST_RECORD_BYTES)
        files[card.file] = network
    if (gate := release.gate) is not None:
        files[gate.file] = read_file(folder, gate.file, sha256=gate.sha256)
    return Parcel(files)
