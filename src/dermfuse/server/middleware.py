"""What surrounds every request: a safe head, an id, headers, a count, a line in the log; HEAD."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
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
    """Wraps the application: no fault reaches the client, and every request is reported.

    HEAD is answered as GET without the body, for the application knows GET alone.

    Heads of too many headers, or that say in two ways how long a body is, are answered here. The
    connection is closed after such an answer: a proxy may have seen another end of the request,
    and what follows may be somebody else's.

    Args:
        app: The application.
        metrics: Counts.
        root_path: Where a proxy shows the server, like ``/lesions``, whether it takes that off or
            leaves it on; empty where the server lies at the root.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, root_path: str) -> None:
        self._app = app
        self._metrics = metrics
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, receive, send, root_path=self._root_path)
        refused = _refusal(scope)
        app = error_response(refused, request_id=visit.id) if refused else self._app
        try:
            await app(visit.scope, visit.receive, visit.send)
        except ClientDisconnect:
            visit.status = visit.status or _DISCONNECTED
        except Exception:  # the last resort: what is raised here is a fault of ours
            LOGGER.exception("fault", extra={"facts": {"request_id": visit.id}})
            if visit.status:
                raise
            fault = RefusedError(500, "a fault of the server", action="Tell its operator the id")
            await error_response(fault, request_id=visit.id)(visit.scope, receive, visit.send)
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


def allow(methods: str) -> str:
    """Returns what an address allows, from what its route names.

    Example:
        >>> allow("GET"), allow("POST")
        ('GET, HEAD, OPTIONS', 'OPTIONS, POST')
    """
    named = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(named | {"OPTIONS"} | ({"HEAD"} if "GET" in named else set())))


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
    """One request as the application is asked it, and what is known of it so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, root_path: str) -> None:
        self.start = time.monotonic()
        self.id = request_id(Headers(scope=scope))
        self.status = 0
        self.received = 0
        self._method, self._receive, self._send = scope["method"], receive, send
        # A copy: the server beneath must still know that no body may follow HEAD.
        self.scope = {
            **scope,
            "method": "GET" if self._method == "HEAD" else self._method,
            "root_path": root_path,
            "state": {**scope.get("state", {}), "request_id": self.id},
        }

    @property
    def method(self) -> str:
        """A method that is known; others may be any word."""
        known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        return self._method if self._method in known else _UNKNOWN_ROUTE

    @property
    def route(self) -> str:
        """The path as it is written in the code."""
        path: str = getattr(self.scope.get("route"), "path", _UNKNOWN_ROUTE)
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
        elif self._method == "HEAD" and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


def _refusal(scope: Scope) -> RefusedError | None:
    """Returns why a head is refused, or None."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    names, is_old = {name for name, _ in headers}, scope["http_version"] == "1.0"
    close = {"Connection": "close"}
    if len(headers) > MOST_HEADERS:
        found, expected = f"{len(headers)} headers", f"{MOST_HEADERS} at most"
        return RefusedError(431, found, expected=expected, headers=close)
    if not is_old and scope["http_version"] != "1.1":
        return RefusedError(505, "another version of HTTP", expected="HTTP/1.1", headers=close)
    if b"transfer-encoding" not in names or not (is_old or b"content-length" in names):
        return None
    found = "Transfer-Encoding in HTTP/1.0, or beside Content-Length"
    return RefusedError(400, found, expected="one length, by Content-Length", headers=close)
