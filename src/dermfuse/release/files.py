"""The files of a release folder: plain names, plain files, and the content that was vouched for."""

import hashlib
import re
from pathlib import Path

from dermfuse.errors import DermfuseError, ReleaseError
from dermfuse.records import read_plain, show_value
from dermfuse.runs import NAME_BYTES

MOST_FILE_BYTES = 2 << 30
"""Of one file of a release: what ONNX allows for a network."""

_DAMAGED = "Do not use it: it is damaged or was changed. Copy the release again"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')
_ENDING_BYTES = len(".json")


def require_file_name(
    name: str, *, source: str, ending: str = "", error: type[DermfuseError] = ReleaseError
) -> str:
    """Returns ``name`` if it is that of a file in its folder, on any system, and no path.

    Args:
        name: As a record, or a user, says it.
        source: Which record and key, for the message.
        ending: What it ends in.
        error: What is raised.

    Raises:
        DermfuseError: ``error``: it is empty or too long, begins with a dot or ends in another
            ending, or holds a slash, a backslash, a colon or what cannot be printed.

    Example:
        >>> require_file_name("net.onnx", source="file")
        'net.onnx'
    """
    is_plain = name.isprintable() and name.strip() == name and not set(name) & _NOT_IN_NAMES
    is_file = is_plain and name.endswith(ending) and not name.startswith(".")
    if is_file and 0 < len(name.encode()) <= NAME_BYTES - _ENDING_BYTES:
        return name
    ends = f" that ends in {ending}" if ending else ""
    raise error(
        f"{source} is {show_value(name)}",
        expected=f"the name of a file{ends} beside the record, no path",
    )


def require_digest(digest: str, *, source: str) -> str:
    """Returns ``digest`` if it is a SHA-256 in hexadecimal.

    Raises:
        ReleaseError: It is none.
    """
    if _SHA256.fullmatch(digest) is None:
        raise ReleaseError(
            f"{source} is {show_value(digest)}", expected="a SHA-256: 64 hexadecimal digits"
        )
    return digest


def read_file(
    folder: Path,
    name: str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    most_bytes: int = MOST_FILE_BYTES,
    action: str = _DAMAGED,
) -> bytes:
    """Returns the content of a file of a release.

    Args:
        folder: The release.
        name: Of the file.
        sha256: What its digest must be; None where nothing vouches for it, as for the record.
        size: How many bytes it must have; None as for ``sha256``.
        most_bytes: That it may have.
        action: What the user can do where it is missing.

    Raises:
        ReleaseError: The name is a path; the file is missing, leads out of the folder, is no
            plain file, is too large, or is another than the one whose digest is known.
    """
    path = folder / require_file_name(name, source=f"the name of a file in {folder}")
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        is_inside = False
    if not is_inside:
        raise ReleaseError(
            f"{path} is a link that leads out of its folder",
            expected="the file itself",
            action="Copy the release with its files",
        )
    content = read_plain(path, most_bytes=most_bytes, error=ReleaseError, action=action)
    if size is not None and len(content) != size:
        raise ReleaseError(
            f"{path} has {len(content):,} bytes",
            expected=f"{size:,}, as its record says",
            action="Copy it again",
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ReleaseError(
            f"{path} has SHA-256 {found[:16]}...",
            expected=f"{sha256[:16]}..., as its record says",
            action=_DAMAGED,
        )
    return content
