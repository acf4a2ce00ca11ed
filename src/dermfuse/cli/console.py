"""Where output goes: results to stdout, progress and errors to stderr.

On a terminal progress is a bar; elsewhere it is a line at the start and one at the end,
so that a log stays readable.

The core installs without torch and Matplotlib: commands that need them say so in one line, by
``require_extra``.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dermfuse.errors import DependencyError, installing
from dermfuse.records.folders import NOTICE

SOME_FAILED = 3
"""The exit status where some of the work failed or was left, and the rest was done."""
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "lightning", "safetensors", "tensorboard"),
    "export": ("torch", "lightning", "safetensors", "tensorboard", "onnx", "onnxruntime"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client"),
    "figures": ("matplotlib", "sklearn", "scipy"),
}
"""The packages that each extra of the installation brings, as they are imported."""

_PIPE_WIDTH = 110

Advance = Callable[[int, int], None]
"""Called with (done, all)."""
FileAdvance = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, all bytes or None)."""


def say(text: str = "") -> None:
    """Writes a line of the result to stdout."""
    sys.stdout.write(_printable(text) + "\n")


def say_notice() -> None:
    """Ends a result that a person reads with the research-only notice."""
    say()
    say(NOTICE)


def say_json(record: Mapping[str, Any]) -> None:
    """Writes a result as one JSON object, the notice in it; NaN becomes null."""
    plain = _without_nan({**record, "notice": NOTICE})
    say(json.dumps(plain, indent=2, allow_nan=False, default=str))


def finish(record: Mapping[str, Any], show: Callable[[], None], *, json: bool) -> None:
    """Ends a command with its result: as one JSON object, or shown to a person with the notice."""
    if json:
        say_json(record)
        return
    show()
    say_notice()


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table to stdout: the first column to the left, the others to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))  # Text: a path may hold [brackets]
    _console(stderr=False).print(table)


def say_progress(text: str) -> None:
    """Writes a line to stderr that is no error."""
    sys.stderr.write(f"{_printable(text)}\n")


def one_line(name: str) -> str:
    r"""Returns a file's name as it can stand in a line of the result.

    Example:
        >>> one_line("a\n0 failed\x1b[2K.jpg")
        'a\\x0a0 failed\\x1b[2K.jpg'
    """
    return _printable(name, kept="")


def say_error(message: str) -> None:
    """Writes one line to stderr."""
    sys.stderr.write(f"dermfuse: error: {_printable(' '.join(message.split()))}\n")


def require_extra(extra: str, command: str) -> None:
    """Raises DependencyError if what an extra brings is not installed; imports none of it.

    Args:
        extra: A key of ``EXTRAS``.
        command: Who asks, e.g. ``dermfuse train``.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{command} needs {', '.join(missing)}, not installed here", action=installing(extra)
        )


def on_terminal() -> bool:
    """Returns whether progress can be drawn as bars."""
    return sys.stderr.isatty()


@contextmanager
def progress(task: str) -> Iterator[Advance]:
    """Yields a callback that shows how far ``task`` has come.

    Example:
        ``with progress("Reading images") as advance: verify_isic2016(path, progress=advance)``
    """
    with _bar(task, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as (bar, number):

        def advance(done: int, total: int) -> None:
            bar.update(number, completed=done, total=total)
            if done >= total:
                bar.stop()  # a training draws its own bar next, and there can be one only

        yield advance


@contextmanager
def count_progress(task: str) -> Iterator[Callable[[], None]]:
    """Yields a callback that counts one more done, where nobody knows how many there are."""
    count = TextColumn("{task.completed}")
    with _bar(task, SpinnerColumn(), count, TimeElapsedColumn()) as (bar, number):
        yield lambda: bar.advance(number)


def announce_stage(what: str, number: int, total: int) -> None:
    """Writes to stderr that a stage begins."""
    say_progress(f"[{number}/{total}] {what} ...")


@contextmanager
def file_progress(task: str) -> Iterator[FileAdvance]:
    """Yields a callback that shows how much of each file has come."""
    known: dict[str, TaskID] = {}
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with _bars(*columns, transient=False) as bars:

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in known:
                known[name] = bars.add_task(name, total=total)
                if bars.disable:
                    say_progress(f"{task} {name} ...")
            bars.update(known[name], completed=done, total=total)

        yield advance


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Sends what the library logs to stderr meanwhile."""
    logger, handler = logging.getLogger("dermfuse"), _StderrHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _StderrHandler(logging.Handler):
    """Writes to stderr as it is at that moment: a progress bar may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        say_progress(record.getMessage())


def _bars(*columns: ProgressColumn, transient: bool) -> Progress:
    """Returns bars that are drawn on a terminal alone."""
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        console=_console(stderr=True),
        transient=transient,
        disable=not on_terminal(),
    )


@contextmanager
def _bar(task: str, *columns: ProgressColumn) -> Iterator[tuple[Progress, TaskID]]:
    """Yields a bar and its task; elsewhere than on a terminal a line says that the task begins."""
    with _bars(*columns, transient=True) as bar:
        if bar.disable:
            say_progress(f"{task} ...")
        yield bar, bar.add_task(task, total=None)


def _printable(text: str, *, kept: str = "\n\t") -> str:
    r"""Returns a text that steers no terminal and can be encoded: names of files may hold anything.

    Example:
        >>> _printable("a\x1b[31m\udcff.jpg")
        'a\\x1b[31m\\xff.jpg'
    """
    if text.isprintable():
        return text
    return "".join(each if each in kept or each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _console(*, stderr: bool) -> Console:
    """Returns a console on the stream as it is now; a pipe is wider than a narrow terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 — JSON values are of any type
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
