"""What a request's head may hold: HTTP's own parser takes more than is safe."""

from starlette.types import ASGIApp, Receive, Scope, Send

from dermfuse.server.refusals import RefusedError, error_response

HEADERS = 100


class SafeHeads:
    """Answers heads of too many headers, or that say in two ways how long a body is.

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
    if len(headers) > HEADERS:
        return _refused(431, f"{len(headers)} headers", expected=f"{HEADERS} at most")
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


def _refused(status: int, found: str, *, expected: str) -> RefusedError:
    return RefusedError(status, found, expected=expected, headers={"Connection": "close"})
