import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from dermfuse.server.answers import RefusedError
from dermfuse.server.forms import Uploads
from dermfuse.server.settings import Limits

pytestmark = pytest.mark.anyio


async def never() -> Any:
    await asyncio.sleep(100)


def sending(*chunks: bytes, then: Callable[[], Any] | None = None, **headers: str) -> Request:
    """Returns a client's request; its last chunk ends the body unless something follows."""
    left = list(chunks)

    async def receive() -> Any:
        if not left:
            return await then()
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or then is not None}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def test_bodies_count_as_held_and_share_what_may_be() -> None:
    uploads = Uploads(Limits(upload_bytes=10, held_bytes=15))
    async with uploads.receive(sending(b"ab", b"cde", bytes(5))) as data:
        assert data == b"abcde" + bytes(5)
        assert uploads.held_bytes == 10
        with pytest.raises(RefusedError, match="answers of 20 bytes are held") as refused:
            async with uploads.receive(sending(bytes(10))):
                pass
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})
        async with uploads.receive(sending(bytes(5))) as small:
            assert len(small) == 5
    assert uploads.held_bytes == 0


async def test_what_is_announced_too_large_grows_so_or_is_slow_is_refused() -> None:
    uploads = Uploads(Limits(upload_bytes=10, upload_seconds=0.02))
    for asked, status, found in (
        (sending(then=never, content_length="11"), 413, "more than 10 bytes"),
        (sending(bytes(6), bytes(6), then=never), 413, "more than 10 bytes"),
        (sending(b"a", then=never), 408, r"after 0\.02 s"),
    ):
        with pytest.raises(RefusedError, match=found) as refused:
            async with uploads.receive(asked):
                pass
        assert (refused.value.status, uploads.held_bytes) == (status, 0)


async def test_a_large_file_of_a_form_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body, form = bytes(3_000_000), "multipart/form-data; boundary=b"
    asked = sending(head, body, b"\r\n--b--\r\n", content_type=form)
    async with Uploads(Limits()).receive(asked) as data:
        assert data == body
