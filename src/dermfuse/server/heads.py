"""What a request's head may be: h11 takes larger ones that come at once, and more than is safe."""

from starlette.types import ASGIApp, Receive, Scope, Send

from dermfuse.server.refusals import RefusedError, error_response

HEAD_BYTES = 16_384
HEADERS = 100


class SafeHeads:
    """Answers heads that are too large, or that say in two ways how long a body is.

    The connection is closed after such an answer: a proxy may have seen another end of the
    request, and what follows may be somebody else's.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        refused = _refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        response = error_response(refused, request_id=scope["state"]["request_id"])
        await response(scope, receive, send)


def _refusal(scope: Scope) -> RefusedError | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > HEADERS or _size(scope) > HEAD_BYTES:
        return _refused(
            431,
            f"a head of {len(headers)} headers and {_size(scope):,} bytes",
            expected=f"{HEADERS} headers and {HEAD_BYTES:,} bytes at most",
        )
    if scope["http_version"] not in ("1.0", "1.1"):
        return _refused(505, "another version of HTTP", expected="HTTP/1.1")
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            return _refused(
                400, "Content-Length and Transfer-Encoding in one head", expected="one of them"
            )
        if scope["http_version"] == "1.0":
            return _refused(400, "Transfer-Encoding in HTTP/1.0", expected="Content-Length")
    return None


def _size(scope: Scope) -> int:
    """Returns how long a head is: its first line, its headers, and the empty line."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    line = len(f"{scope['method']}  HTTP/1.1\r\n") + len(target)
    return line + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + 2


def _refused(status: int, found: str, *, expected: str) -> RefusedError:
    return RefusedError(status, found, expected=expected, headers={"Connection": "close"})
