"""Files to pixels in processes of their own, which a file may exhaust, hang or crash.

A decoder (``-m dermfuse.analysis.isolation BYTES SECONDS PIXELS``) is started when none is free,
reads one file after the other, and is replaced after one that it did not survive. It is started as
a new program: a fork of a process with threads is not safe, and what runs networks is never loaded
into it. It may use so much memory, take so long for one file, and write none. On its standard input
come requests (``REQUEST``, a name, then the bytes of a file), on standard output go
answers (``ANSWER``, then pixels or JSON). What asks believes nothing of them: a file may have taken
the process over.
"""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse import errors
from dermfuse.errors import (
    ConfigError,
    DecoderError,
    DependencyError,
    DermfuseError,
    ImageError,
    StorageError,
)
from dermfuse.imaging.limits import MAX_PIXELS, PIXEL_BYTES, check_max_pixels
from dermfuse.imaging.preprocess import read_file
from dermfuse.imaging.reading import MAX_BYTES, Source, read_any, read_stream, source_name

REQUEST = struct.Struct("<IQ")
"""How many bytes the name has, and the file."""
ANSWER = struct.Struct("<BII")
"""What follows; of pixels height and width, else how many bytes of JSON, and 0."""
PIXELS, REFUSAL, NO_MEMORY, READY = range(4)
"""What an answer may be. After ``NO_MEMORY`` the process ends, and its memory is free."""

_MODULE = "dermfuse.analysis.isolation"
_REFUSALS = {each.__name__: each for each in (ImageError, DependencyError)}
_PARTS = ("found", "expected", "action")
_OWN_MB = 250  # its own code 70, a file of 25 MB and what looking through it takes
_LEAST_MB = 100
_MOST_JSON_BYTES = 1_000_000
_PIPE_BYTES = 2**18  # of 64 kB, a photograph would wait for the other side 40 times
_WALL_FACTOR = 3
_ORPHAN_FACTOR = 4  # of the seconds, by the clock: what asks would have ended the process before
_PATIENT_SECONDS = 60.0
_START_SECONDS = 60.0  # of a new process; a second where the machine has time for it
_OUT_OF_MEMORY = "out of memory"  # what Pillow says where C code finds none
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"
)
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONHOME", "LANG", "LC_ALL", "LC_CTYPE")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimits:
    """What decoding one file may take.

    Args:
        max_pixels: The most an image may have; more are refused from its header.
        seconds: Processor time; by the clock three times as long, for the machine may be busy.
        memory_mb: The most a decoder may take, where the system bounds it (Linux); what so many
            pixels take if left out.

    Raises:
        ConfigError: One is too little for any file, or too many pixels.
    """

    max_pixels: int = MAX_PIXELS
    seconds: float = 8.0
    memory_mb: int = 0

    def __post_init__(self) -> None:
        check_max_pixels(self.max_pixels)
        if not self.memory_mb:
            own = _OWN_MB + PIXEL_BYTES * self.max_pixels // 10**6
            object.__setattr__(self, "memory_mb", own)
        if self.memory_mb < _LEAST_MB:
            raise ConfigError(f"decoders of {self.memory_mb} MB", expected=f"{_LEAST_MB} or more")
        if not 0.1 <= self.seconds < 1e6:
            raise ConfigError(f"{self.seconds:g} s to decode a file", expected="0.1 or more")


class Decoders:
    """Reads files in other processes, for as many threads as like; they end with this object.

    Args:
        count: Processes at most, each with the memory that the limits allow.
        limits: What decoding one file may take.

    Raises:
        ConfigError: ``count`` is below 1.
    """

    def __init__(self, count: int, *, limits: DecoderLimits | None = None) -> None:
        if count < 1:
            raise ConfigError(f"{count} decoders", expected="1 or more")
        self.count = count
        self.limits = limits or DecoderLimits()
        self._free = threading.Semaphore(count)
        self._idle: list[_Decoder] = []
        self._end = weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def patient(cls, count: int, *, max_pixels: int = MAX_PIXELS) -> Self:
        """Returns decoders of a folder, starting: nobody waits, and a slow file is better read.

        Args:
            count: How many.
            max_pixels: The most an image may have.
        """
        limits = DecoderLimits(max_pixels=max_pixels, seconds=_PATIENT_SECONDS)
        decoders = cls(count, limits=limits)
        decoders.start(count)
        return decoders

    def start(self, count: int = 1) -> None:
        """Starts so many now, that none has to be waited for later."""
        fresh = [_Decoder(self.limits) for _ in range(min(count, self.count) - len(self._idle))]
        self._idle.extend(fresh)

    def close(self) -> None:
        """Ends the processes; a later reading starts new ones."""
        _end_all(self._idle)

    def read(self, source: Source, *, name: str = "") -> NDArray[np.uint8]:
        """Returns what ``read_any`` returns; pixels, which need no decoder, are read here.

        Args:
            source: Whatever ``read_any`` takes.
            name: For messages; by default the path or the open file's name.

        Raises:
            DecoderError: It takes more memory or time than it may, or ends its decoder.
            ImageError: It cannot be read.
            DependencyError: A package that reads it is not installed.
            StorageError: No decoder can be started.
        """
        named = name or source_name(source)
        content = _content(source, named)
        if content is None:
            return read_any(source, name=name, max_pixels=self.limits.max_pixels)
        with self._free:
            with suppress(_GoneError):  # a decoder may also be ended for what others use
                return self._ask(named, content)
            try:
                return self._ask(named, content)
            except _GoneError as gone:
                raise _refusal(named, f"it ended its decoder twice ({gone})") from None

    def _ask(self, name: str, content: bytes) -> NDArray[np.uint8]:
        one = self._take()
        try:
            pixels = one.ask(name, content)
        except BaseException as error:
            if isinstance(error, DermfuseError) and not isinstance(error, DecoderError):
                self._idle.append(one)
            else:
                one.end()
            if isinstance(error, DecoderError):  # the next file need not wait for another start
                self._idle.append(_Decoder(self.limits))
            raise
        self._idle.append(one)
        return pixels

    def _take(self) -> "_Decoder":
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                one = self._idle.pop()
                if one.is_alive:
                    return one
                one.end()
        return _Decoder(self.limits)


class _GoneError(Exception):
    """A decoder ended before it answered."""


def _content(source: Source, name: str) -> bytes | None:
    """Returns the bytes of a file; None of what holds pixels, or is nothing that can be read."""
    if isinstance(source, str | os.PathLike):
        return read_file(Path(source), name, max_bytes=MAX_BYTES)
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, np.ndarray | Image.Image) or not hasattr(source, "read"):
        return None
    return read_stream(source, name)


def _refusal(name: str, found: str) -> DecoderError:
    return DecoderError(
        f"{name}: {found}",
        expected="an image that takes little more than its pixels to decode",
        action="Save it as PNG, or smaller",
    )


class _Decoder:
    """One process that decodes, and the pipes to it."""

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        self._is_ready = self._is_late = False
        command = [sys.executable, "-P", *(["-B"] if sys.dont_write_bytecode else [])]
        command += ["-m", _MODULE, str(limits.memory_mb * 10**6), str(limits.seconds)]
        command += [str(limits.max_pixels)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 — this Python, and a module of ours
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what C code remarks may quote the file
                pipesize=_PIPE_BYTES,
                env=_environment(),
            )
        except OSError as error:
            raise _not_started(error.strerror or str(error)) from error
        self._requests = cast(io.RawIOBase, self._process.stdin)
        self._answers = io.BufferedReader(cast(io.RawIOBase, self._process.stdout))

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Ends the process and returns its exit status; below 0 it is a signal."""
        self._process.kill()
        self._requests.close()
        self._answers.close()
        return self._process.wait()

    def ask(self, name: str, content: bytes) -> NDArray[np.uint8]:
        """Returns the pixels of a file, which messages call by a name.

        Raises:
            DermfuseError: They are refused; after a ``DecoderError`` the process has ended.
            StorageError: It did not start.
            _GoneError: It ended.
        """
        if not self._is_ready:
            self._wait_until_ready()
        try:
            with self._within(_WALL_FACTOR * self._limits.seconds):
                return self._exchange(name, content)
        except (EOFError, BrokenPipeError):
            status = self._end_by_itself()
            if self._is_late or status == -getattr(signal, "SIGPROF", 0):
                found = f"decoding it takes longer than {self._limits.seconds:g} s"
                raise _refusal(name, found) from None
            raise _GoneError(_describe(status)) from None

    def _wait_until_ready(self) -> None:
        try:
            with self._within(_START_SECONDS):
                self._is_ready = ANSWER.unpack(self._read(ANSWER.size))[0] == READY
        except EOFError:
            why = "it takes too long" if self._is_late else _describe(self._end_by_itself())
            raise _not_started(why) from None

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Ends the process if what is done within takes longer."""
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _exchange(self, name: str, content: bytes) -> NDArray[np.uint8]:
        written = name.encode(errors="surrogatepass")
        for part in (REQUEST.pack(len(written), len(content)) + written, content):
            rest = memoryview(part)
            while rest:
                rest = rest[self._requests.write(rest) :]
        kind, first, second = ANSWER.unpack(self._read(ANSWER.size))
        if kind == PIXELS and min(first, second) > 0 and first * second <= self._limits.max_pixels:
            pixels = np.empty((first, second, 3), dtype=np.uint8)
            if self._answers.readinto(pixels.data.cast("B")) < pixels.size:
                raise EOFError
            return pixels
        if kind == NO_MEMORY:
            raise _refusal(name, f"decoding it takes more than {self._limits.memory_mb} MB")
        if kind != REFUSAL or first > _MOST_JSON_BYTES:
            raise EOFError
        raise _said(self._read(first))

    def _give_up(self) -> None:
        self._is_late = True
        self._process.kill()

    def _end_by_itself(self) -> int:
        """Returns the exit status of a process that has closed a pipe: it ends, or is ended."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.5)
        self._process.kill()
        return self._process.wait()

    def _read(self, size: int) -> bytes:
        found = self._answers.read(size)
        if len(found) < size:
            raise EOFError
        return found


def _said(found: bytes) -> Exception:
    """Returns the error that a decoder reports: nothing is made of it but one of ours."""
    try:
        kind, *parts = (str(json.loads(found)[key]) for key in ("kind", *_PARTS))
    except (ValueError, KeyError, TypeError, RecursionError):
        return EOFError()
    made = _REFUSALS.get(kind)
    if made is None:
        return RuntimeError(f"{kind} in a decoder: {parts[0]}")
    return made(parts[0], expected=parts[1], action=parts[2])


def _describe(status: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"exit status {status}"


def _not_started(why: str) -> StorageError:
    return StorageError(
        f"no process that decodes can be started ({why})",
        expected="room for another process, and dermfuse as it was installed",
        action="Free some memory, and call again",
    )


def _environment() -> dict[str, str]:
    """Returns what a decoder needs to start: nothing secret, and no thread that it has no use for.

    Its modules are found where this process has found its own, never in the folder it is in.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    ours = str(Path(errors.__file__).parents[1])
    paths = [path for path in sys.path if os.path.isabs(path)]  # noqa: PTH117
    return kept | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join([*paths, ours])}


def _end_all(idle: list[_Decoder]) -> None:
    while idle:
        idle.pop().end()


def _serve() -> None:
    """Answers requests until there are no more."""
    memory, seconds, max_pixels = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    requests, answers = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who asks will say when
    _limit(memory)
    answers.write(ANSWER.pack(READY, 0, 0))
    answers.flush()
    while head := requests.read(REQUEST.size):
        name_bytes, size = REQUEST.unpack(head)
        name = requests.read(name_bytes).decode(errors="surrogatepass")
        content = requests.read(size)
        _count_time(seconds)
        kind, found = _decode(content, name, max_pixels)
        del content
        _count_time(0)
        if isinstance(found, bytes):
            answers.write(ANSWER.pack(kind, len(found), 0) + found)
        else:
            answers.write(ANSWER.pack(kind, *found.shape[:2]))
            answers.write(found.data)
        answers.flush()
        if kind == NO_MEMORY:
            return


def _decode(content: bytes, name: str, max_pixels: int) -> tuple[int, NDArray[np.uint8] | bytes]:
    """Returns the kind of an answer and its content."""
    try:
        return PIXELS, read_any(content, name=name, max_pixels=max_pixels)
    except Exception as error:
        if _is_of_memory(error):
            return NO_MEMORY, b""
        places = traceback.extract_tb(error.__traceback__)
        parts = [" ".join(f"{Path(each.filename).name}:{each.lineno}" for each in places), "", ""]
        kind = type(error).__name__
        if isinstance(error, DermfuseError):
            kind = kind if kind in _REFUSALS else ImageError.__name__
            parts = [getattr(error, part) for part in _PARTS]
        return REFUSAL, json.dumps({"kind": kind, **dict(zip(_PARTS, parts, strict=True))}).encode()


def _is_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes of an allocation that failed, however it was wrapped."""
    while error is not None:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Returns standard input and output, and keeps them from whatever C code writes there."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 — for its descriptor
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    return requests, answers


def _limit(memory: int) -> None:
    """Bounds what this process may do; where the system has no such limits, it does not."""
    with suppress(OSError):  # when memory is short, Linux ends this process first
        Path("/proc/self/oom_score_adj").write_text("900")
    with suppress(ImportError):
        import resource  # noqa: PLC0415 — POSIX alone has it

        for limit, most in (
            (resource.RLIMIT_DATA, memory),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            with suppress(OSError, ValueError):  # a lower one stands already
                resource.setrlimit(limit, (most, most))


def _count_time(seconds: float) -> None:
    """Ends the process after so much processor time from now on; 0 lets it live."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, _ORPHAN_FACTOR * seconds)


if __name__ == "__main__":
    _serve()
