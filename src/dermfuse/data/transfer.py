"""One file over HTTP, going on where an earlier attempt or an earlier run was cut."""

import base64
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path

from dermfuse.data.archives import check_space, storage_faults
from dermfuse.errors import DataError
from dermfuse.runs import atomic_write

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, all bytes or None)."""

_CHUNK_BYTES = 1 << 20
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
                    chunk = response.read(_CHUNK_BYTES)
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
