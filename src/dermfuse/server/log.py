"""The log: lines of JSON on stderr that say what happened, and nothing of what was in an upload.

Neither file names nor query strings, addresses or the messages of unexpected exceptions are
written: each may say something about a patient. The trace of an exception is. Of what other
libraries log or warn of, only the place is written: their words may quote an upload.
"""

import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
