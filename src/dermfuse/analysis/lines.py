"""One image to one line of results: what a thread and a worker on another machine do alike."""

import base64
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.reading import Read, read_any
from dermfuse.analysis.sources import Item
from dermfuse.errors import DecoderError, DermfuseError, StorageError
from dermfuse.runs import NOTICE

_NAME_ERRNOS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}
_LOG = logging.getLogger(__name__)


class Record(Protocol):
    """What is known of one image."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values; ``thumbnail`` may be the bytes of a JPEG."""


Analyze = Callable[[NDArray[np.uint8], str], Record]


@dataclass(frozen=True, slots=True)
class Work:
    """An image that is to be analysed.

    Attributes:
        item: The image.
        facts: What tells whether it has changed; empty if it cannot be told.
    """

    item: Item
    facts: Mapping[str, Any]


LineSource = Callable[[Iterator[Work]], Generator[bytes, None, None]]
"""Turns images into their lines, in order; draws them as it needs them."""


def file_facts(item: Item) -> dict[str, Any]:
    """Returns what tells whether an image has changed; empty if it cannot be told."""
    if isinstance(item.source, bytes):
        digest = hashlib.sha256(item.source).hexdigest()
        return {"bytes": len(item.source), "sha256": digest}
    try:
        state = item.source.stat()
    except (OSError, ValueError):
        return {}
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def make_line(work: Work, analyze: Analyze, read: Read = read_any) -> bytes:
    """Returns an image's line; whatever is wrong with the image becomes its ``error``.

    Args:
        work: The image.
        analyze: Takes its pixels and name.
        read: Takes its source and name.

    Raises:
        StorageError: What is written for an image finds no room, or no folder.
    """
    item, start = work.item, _start(work)
    if item.fault:
        return error_line(work, item.fault)
    try:
        record = analyze(read(item.source, name=item.name), item.name).to_dict()
        return _encode({**start, **record, **start})
    except StorageError as error:
        if not _is_of_name(error):
            raise  # the disk is full, or the folder gone: so it is for every image
        return error_line(work, str(error))
    except DecoderError as error:
        return error_line(work, str(error), is_final=True)
    except DermfuseError as error:
        return error_line(work, str(error))
    except Exception as error:
        # One image must not end the work on 100,000, nor stand in the way of going on with it.
        _LOG.exception("%s: a fault of dermfuse itself", item.name)
        return error_line(work, describe_fault(error))


def _is_of_name(error: StorageError) -> bool:
    """Whether a file could not be written for its name alone: others can be."""
    cause = error.__cause__
    return isinstance(cause, ValueError) or getattr(cause, "errno", None) in _NAME_ERRNOS


def describe_fault(error: Exception) -> str:
    """Returns what is said of an image over which dermfuse itself fails.

    Example:
        >>> describe_fault(ZeroDivisionError())
        'A fault of dermfuse itself (ZeroDivisionError). Please report it.'
    """
    return f"A fault of dermfuse itself ({type(error).__name__}). Please report it."


def error_line(work: Work, error: str, *, is_final: bool = False) -> bytes:
    """Returns the line of an image that could not be analysed.

    Args:
        work: The image.
        error: Why, in one line.
        is_final: Whether it is not tried again as long as the file stays as it is.
    """
    final = {"final": True} if is_final else {}
    return _encode({**_start(work), "error": error, **final, "notice": NOTICE})


def plain(value: object) -> object:
    """Returns as JSON values what JSON has none for: bytes, NumPy's numbers, paths.

    Raises:
        TypeError: It is something else.

    Example:
        >>> plain(np.float32(0.5)), plain(b"ab")
        (0.5, 'YWI=')
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} has no JSON value")


def _start(work: Work) -> dict[str, Any]:
    return {"name": work.item.name, "file": dict(work.facts)}


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False, default=plain).encode()
