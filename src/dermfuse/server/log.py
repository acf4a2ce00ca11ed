"""Lines of JSON on stderr that say what happened, and nothing of what was in an upload.

Neither file names nor query strings, addresses or the messages of unexpected exceptions are
written: each may say something about a patient. The trace of an exception is.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("dermfuse.server")


class JsonHandler(logging.Handler):
    """Writes each record as one line of JSON to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record: its message is the event, its ``facts`` are keys of the line."""
        sys.stderr.write(render(record) + "\n")


LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"json": {"class": f"{__name__}.{JsonHandler.__name__}"}},
    "loggers": {
        name: {"handlers": ["json"], "level": level, "propagate": False}
        for name, level in ((LOGGER.name, "INFO"), ("uvicorn", "WARNING"), ("asyncio", "WARNING"))
    },
}
"""For ``logging.config.dictConfig``; uvicorn's processes each apply it."""


def render(record: logging.LogRecord) -> str:
    """Returns a record as one line of JSON."""
    line = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage().strip().partition("\n")[0],  # asyncio adds what was said
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
