"""From a request's body to the bytes of its one file: in memory, within limits, without a disk."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request

from dermfuse.server.answers import RefusedError, busy
from dermfuse.server.settings import Limits

FIELD = "file"
"""Name of the form's part."""
FORM = "multipart/form-data"
RAW = ("application/octet-stream", "application/dicom", "image/*")
"""Media types of a body that is the file itself."""

_RETRY_SECONDS = 5


class Uploads:
    """Reads bodies, and counts what of them, and of answers, is in memory.

    Args:
        limits: Of one body and of all together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """What is in memory now."""
        return self._held

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the file that a request carries; it counts as held until the block is left.

        Raises:
            RefusedError: The body is of a type that is not read (415), too large (413), too slow
                (408), no form with one file (400), or more than may be held now (503).
        """
        is_form = _check_type(request.headers)
        self._check_length(request.headers)
        body = bytearray()  # in a list, a body of single bytes would need many times its size
        try:
            await self._read(request, body)
            image = bytes(body)
            if is_form:
                content_type = request.headers["content-type"]
                image = await asyncio.to_thread(file_of_form, content_type, image)
            yield image
        finally:
            self._held -= len(body)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Counts the bytes of an answer as held until the block is left: when it has been read."""
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def require_room(self) -> None:
        """Raises RefusedError (503) if more is held than may be: it would become yet more."""
        if self._held > self._limits.held_bytes:
            raise busy(
                f"uploads and answers of {self._held:,} bytes are held",
                retry_seconds=_RETRY_SECONDS,
            )

    async def _read(self, request: Request, body: bytearray) -> None:
        """Adds what arrives to the body."""
        seconds = self._limits.upload_seconds
        try:
            async with asyncio.timeout(seconds):
                async for piece in request.stream():
                    body += piece
                    self._held += len(piece)
                    self._check_size(len(body))
        except TimeoutError as error:
            raise RefusedError(
                408,
                f"the body was not there after {seconds:g} s",
                action="Send it faster, or a smaller image",
            ) from error

    def _check_length(self, headers: Headers) -> None:
        """Refuses by what is announced, before a byte is read."""
        announced = headers.get("content-length", "0")
        if announced.isdecimal():  # anything else the protocol has refused
            self._check_size(int(announced))

    def _check_size(self, size: int) -> None:
        most = self._limits.upload_bytes
        if size > most:
            raise RefusedError(
                413,
                f"a body of more than {most:,} bytes",
                expected=f"{most:,} bytes or fewer",
                action="Shrink the image",
            )
        self.require_room()


def file_of_form(content_type: str, body: bytes) -> bytes:
    r"""Returns what the one part of a form holds.

    Args:
        content_type: ``multipart/form-data`` with its boundary.
        body: The form.

    Raises:
        RefusedError: The form is damaged or cut off, or holds anything but a part called ``file``.

    Example:
        >>> part = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nbytes\r\n--b--'
        >>> file_of_form("multipart/form-data; boundary=b", part)
        b'bytes'
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _refused("a form without a boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _refused("a damaged form") from error
    if not parts.complete:
        raise _refused("a form that is cut off")
    if parts.names != [FIELD.encode()]:
        raise _refused("a form without a part, or with one of another name")
    return b"".join(parts.pieces)


class _Parts:
    """What a parser met: the names of the parts, and the bytes of all together."""

    def __init__(self) -> None:
        self.names: list[bytes | None] = []
        self.pieces: list[bytes] = []
        self.complete = False
        self._field, self._value = b"", b""

    @property
    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self.pieces.append(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if self.names:  # at once: to read millions of parts takes a minute
            raise _refused("a form of several parts")
        self.names.append(None)

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self.names[-1] = parse_options_header(self._value)[1].get(b"name")
        self._field, self._value = b"", b""

    def _end(self) -> None:
        self.complete = True


def _refused(found: str) -> RefusedError:
    return RefusedError(
        400,
        found,
        expected=f"one file, in a part called {FIELD}",
        action=f"Send it as curl -F {FIELD}=@lesion.jpg does",
    )


def _check_type(headers: Headers) -> bool:
    """Returns whether the body is a form; refuses types that are not read."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RefusedError(415, "a compressed body", expected="no Content-Encoding")
    media_type = headers.get("content-type", RAW[0]).partition(";")[0].strip().lower()
    if media_type == FORM:
        return True
    if media_type not in RAW and not media_type.startswith("image/"):
        raise RefusedError(
            415,
            "a Content-Type that is not read here",
            expected=f"{', '.join(RAW)} or {FORM}",
            action=f"Send the file itself as {RAW[0]}",
        )
    return False
