import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from starlette.requests import Request

from dermfuse.server.answers import RefusedError
from dermfuse.server.forms import Uploads
from dermfuse.server.settings import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def request(receive: Receive, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def never() -> MutableMapping[str, Any]:
    await asyncio.sleep(100)
    raise AssertionError


def sending(*chunks: bytes, then: Receive | None = None) -> Receive:
    """Returns what a client sends; the last chunk ends the body unless something follows."""
    left = list(chunks)

    async def receive() -> MutableMapping[str, Any]:
        if not left:
            assert then is not None
            return await then()
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or then is not None}

    return receive


def refusal(uploads: Uploads, asked: Request) -> RefusedError:
    async def go() -> None:
        async with uploads.receive(asked):
            pass

    with pytest.raises(RefusedError) as refused:
        asyncio.run(go())
    assert uploads.held_bytes == 0
    return refused.value


def test_an_upload_counts_as_held_until_it_is_done_with() -> None:
    uploads = Uploads(Limits())

    async def go() -> None:
        async with uploads.receive(request(sending(b"ab", b"cde"))) as data:
            assert data == b"abcde"
            assert uploads.held_bytes == 5
        assert uploads.held_bytes == 0

    asyncio.run(go())


def test_an_announced_length_is_refused_before_a_byte_is_read() -> None:
    asked = request(never, content_length="11")
    assert refusal(Uploads(Limits(upload_bytes=10)), asked).status == 413


def test_a_body_is_refused_where_it_passes_the_limit() -> None:
    asked = request(sending(bytes(6), bytes(6), then=never))
    assert refusal(Uploads(Limits(upload_bytes=10)), asked).status == 413


def test_a_slow_body_is_given_up() -> None:
    asked = request(sending(b"a", then=never))
    refused = refusal(Uploads(Limits(upload_seconds=0.02)), asked)
    assert refused.status == 408
    assert "after 0.02 s" in refused.found


def test_bodies_that_arrive_together_share_what_may_be_held() -> None:
    uploads = Uploads(Limits(upload_bytes=10, held_bytes=15))

    async def go() -> None:
        async with uploads.receive(request(sending(bytes(10)))):
            with pytest.raises(
                RefusedError, match="uploads and answers of 20 bytes are held"
            ) as refused:
                async with uploads.receive(request(sending(bytes(10)))):
                    pass
            assert refused.value.status == 503
            assert refused.value.headers["Retry-After"] == "5"
            async with uploads.receive(request(sending(bytes(5)))) as data:
                assert len(data) == 5

    asyncio.run(go())


def test_a_large_file_of_a_form_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = bytes(3_000_000)
    asked = request(
        sending(head, body, b"\r\n--b--\r\n"), content_type="multipart/form-data; boundary=b"
    )

    async def go() -> None:
        async with Uploads(Limits()).receive(asked) as data:
            assert data == body

    asyncio.run(go())
