"""What happens around every request: an id, headers, a line in the log, a count, a last resort.

Lines of JSON on stderr that say what happened, and nothing of what was in an upload.

Neither file names nor query strings, addresses or the messages of unexpected exceptions are
written: each may say something about a patient. The trace of an exception is. Of what other
libraries log or warn of, only the place is written: their words may quote an upload.
"""

import json
import logging
import os
import re
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermfuse.server.answers import RefusedError, error_response
from dermfuse.server.metrics import Metrics

LOGGER = logging.getLogger("dermfuse.server")
_PLAIN_LOGGERS = (LOGGER.name, "uvicorn.error")
"""Whose words hold nothing of a request."""
_STDERR = 2


class JsonHandler(logging.Handler):
    """Writes each record as one line of JSON to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record: its message is the event, its ``facts`` are keys of the line."""
        with suppress(OSError):  # a log that nobody reads any more ends no request
            sys.stderr.write(render(record) + "\n")


LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"json": {"class": f"{__name__}.{JsonHandler.__name__}"}},
    "loggers": {
        name: {"handlers": ["json"], "level": level, "propagate": False}
        for name, level in ((LOGGER.name, "INFO"), ("uvicorn", "WARNING"))
    },
}
"""For ``logging.config.dictConfig``; uvicorn's processes each apply it."""


@contextmanager
def only_json() -> Iterator[None]:
    """Lets only lines of JSON reach stderr while it lasts.

    What other libraries log or warn of, and exceptions that nobody catches, become such lines.
    What native libraries write past Python is dropped.
    """
    loggers = logging.getLogger(), logging.getLogger("dermfuse")
    handlers = [logger.handlers for logger in loggers]
    before = sys.stderr, warnings.showwarning, sys.unraisablehook, threading.excepthook
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    with os.fdopen(os.dup(kept), "w", buffering=1, encoding="utf-8") as stderr:
        loggers[0].handlers, loggers[1].handlers = [JsonHandler()], []
        sys.stderr = stderr
        warnings.showwarning = _log_warning
        sys.unraisablehook = _log_uncaught
        threading.excepthook = _log_uncaught
        try:
            yield
        finally:
            sys.stderr, warnings.showwarning, sys.unraisablehook, threading.excepthook = before
            loggers[0].handlers, loggers[1].handlers = handlers
            os.dup2(kept, _STDERR)
            os.close(kept)


def render(record: logging.LogRecord) -> str:
    """Returns a record as one line of JSON."""
    if record.name in _PLAIN_LOGGERS:
        event = record.getMessage().strip().partition("\n")[0]
    else:
        event = f"logged at {_place(record.pathname, record.lineno)}"
    line = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event,
        **getattr(record, "facts", {}),
    }
    if record.exc_info and record.exc_info[1]:
        line["trace"] = trace(record.exc_info[1])
    return json.dumps(line)


def trace(error: BaseException) -> list[str]:
    """Returns where an exception came from, and its causes, without what they say.

    Example:
        >>> try:
        ...     {}["secret"]
        ... except KeyError as error:
        ...     trace(error)[-1]
        'KeyError'
    """
    lines: list[str] = []
    known: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in known:
        known.add(id(link))
        frames = traceback.extract_tb(link.__traceback__)
        lines += [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
        lines.append(type(link).__qualname__)
        link = link.__cause__ or link.__context__
    return lines


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    LOGGER.warning("%s at %s", category.__name__, _place(filename, lineno))


def _log_uncaught(uncaught: "sys.UnraisableHookArgs | threading.ExceptHookArgs") -> None:
    if uncaught.exc_value is not None:
        LOGGER.error("an exception that nobody caught", exc_info=uncaught.exc_value)


def _place(filename: str, lineno: int) -> str:
    """Returns the module and the line: the last two parts of a path tell libraries apart."""
    return f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"


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
