"""What happens around every request: an id, headers, a line in the log, a count, a last resort."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermfuse.server.log import LOGGER
from dermfuse.server.metrics import Metrics
from dermfuse.server.refusals import RefusedError, error_response

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
        except Exception as error:  # the last resort: what is raised here is a fault of ours
            LOGGER.error("fault", exc_info=error, extra={"facts": {"request_id": visit.id}})
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
