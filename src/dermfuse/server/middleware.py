"""What surrounds every request: its id and headers, its line in the log, and safe heads.

HTTP asks of every address: HEAD where there is GET, OPTIONS, and a true Allow.
"""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermfuse.server.answers import RefusedError, error_response
from dermfuse.server.log import LOGGER
from dermfuse.server.metrics import Metrics

ID_HEADER = "X-Request-ID"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self' blob: "
        "data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer. Isolated from other origins a page may use threads."""
MOST_HEADERS = 100

_DISCONNECTED = 499  # nobody was there to read an answer; as nginx counts it
_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")  # no words: an id is written into the log
_UNKNOWN_ROUTE = "other"


class Watch:
    """Wraps the application.

    Args:
        app: The application.
        metrics: Counts.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, receive, send)
        try:
            await self._app(scope, visit.receive, visit.send)
        except ClientDisconnect:
            visit.status = visit.status or _DISCONNECTED
        except Exception:  # the last resort: what is raised here is a fault of ours
            LOGGER.exception("fault", extra={"facts": {"request_id": visit.id}})
            if visit.status:
                raise
            fault = RefusedError(500, "a fault of the server", action="Tell its operator the id")
            await error_response(fault, request_id=visit.id)(scope, receive, visit.send)
        finally:
            self._report(visit)

    def _report(self, visit: "_Visit") -> None:
        seconds = time.monotonic() - visit.start
        status = visit.status or _DISCONNECTED
        self._metrics.count_request(visit.route, status, seconds)
        facts = {
            "request_id": visit.id,
            "method": visit.method,
            "route": visit.route,
            "status": status,
            "seconds": round(seconds, 4),
            "received_bytes": visit.received,
        }
        LOGGER.info("request", extra={"facts": facts})


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


class HeadAsGet:
    """Answers HEAD as GET without the body: wraps an application that knows GET alone.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server beneath must still know that no body may follow.
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_head)
        finally:
            scope["route"] = asked.get("route")


def allow(methods: str) -> str:
    """Returns what an address allows, from what its route names.

    Example:
        >>> allow("GET"), allow("POST")
        ('GET, HEAD, OPTIONS', 'OPTIONS, POST')
    """
    named = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(named | {"OPTIONS"} | ({"HEAD"} if "GET" in named else set())))


def options_response(allowed: str) -> Response:
    """Returns the answer to OPTIONS: what is allowed, and nothing else."""
    return Response(status_code=204, headers={"Allow": allowed})


class UnderPath:
    """Serves an application below a path, whether the proxy takes that off or leaves it on.

    Args:
        app: The application.
        root_path: Like ``/lesions``; empty where the server lies at the root.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


def request_id(headers: Headers) -> str:
    """Returns the id that a proxy gave a request, or a new one.

    Example:
        >>> request_id(Headers({"x-request-id": "0a1b2c3d-4e5f"}))
        '0a1b2c3d-4e5f'
        >>> len(request_id(Headers({"x-request-id": "a patient's name"})))
        32
    """
    given = headers.get(ID_HEADER, "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


class _Visit:
    """One request, and what is known of it so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.start = time.monotonic()
        self.id = request_id(Headers(scope=scope))
        self.status = 0
        self.received = 0
        self._scope, self._receive, self._send = scope, receive, send
        scope.setdefault("state", {})["request_id"] = self.id

    @property
    def method(self) -> str:
        """A method that is known; others may be any word."""
        method: str = self._scope["method"]
        known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        return method if method in known else _UNKNOWN_ROUTE

    @property
    def route(self) -> str:
        """The path as it is written in the code."""
        path: str = getattr(self._scope.get("route"), "path", _UNKNOWN_ROUTE)
        return path or "/"

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[ID_HEADER] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _refusal(scope: Scope) -> RefusedError | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MOST_HEADERS:
        return _refused(431, f"{len(headers)} headers", expected=f"{MOST_HEADERS} at most")
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
