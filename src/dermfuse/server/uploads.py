"""From a request's body to the bytes of one file, in memory and within limits."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.datastructures import Headers
from starlette.requests import Request

from dermfuse.server.forms import file_of_form
from dermfuse.server.refusals import RefusedError, busy
from dermfuse.server.settings import Limits

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
