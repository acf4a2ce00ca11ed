"""The process that decodes for another: ``-m dermfuse.analysis.decoder BYTES SECONDS PIXELS``.

It may use so much memory, take so long for one file, and write none. On standard input come
requests (``REQUEST``, a name, then a path or the bytes of a file), on standard output go answers
(``ANSWER``, then pixels or JSON). What asks (``dermfuse.analysis.isolation``) believes nothing of
them: a file may have taken this process over. NumPy, Pillow and pydicom; no networks.
"""

import json
import os
import signal
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import DermfuseError
from dermfuse.imaging.reading import read_any

REQUEST = struct.Struct("<?IQ")
"""Whether a path follows, or the file itself; bytes of the name; bytes of path or file."""
ANSWER = struct.Struct("<BII")
"""What follows; of pixels height and width, else how many bytes of JSON, and 0."""
PIXELS, REFUSAL, FAULT, NO_MEMORY, READY = range(5)
"""What an answer may be. After ``NO_MEMORY`` the process ends, and its memory is free."""

_ORPHAN_FACTOR = 4  # of the seconds, by the clock: what asks would have ended this process before
_OUT_OF_MEMORY = "out of memory"  # what Pillow says where C code finds none


def main() -> None:
    """Answers requests until there are no more."""
    memory, seconds, max_pixels = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    requests, answers = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; who asks will say when
    _limit(memory)
    _send(answers, ANSWER.pack(READY, 0, 0))
    while head := requests.read(REQUEST.size):
        is_path, name_bytes, size = REQUEST.unpack(head)
        name = requests.read(name_bytes).decode(errors="surrogatepass")
        source = requests.read(size)
        _count_time(seconds)
        kind, found = _read(Path(os.fsdecode(source)) if is_path else source, name, max_pixels)
        del source
        _count_time(0)
        if isinstance(found, np.ndarray):
            _send(answers, ANSWER.pack(kind, *found.shape[:2]), found.data.cast("B"))
        else:
            _send(answers, ANSWER.pack(kind, len(found), 0), found)
        if kind == NO_MEMORY:
            return


def _read(
    source: Path | bytes, name: str, max_pixels: int
) -> tuple[int, NDArray[np.uint8] | bytes]:
    """Returns the kind of an answer and its content."""
    try:
        return PIXELS, read_any(source, name=name, max_pixels=max_pixels)
    except Exception as error:
        if _is_of_memory(error):
            return NO_MEMORY, b""
        if isinstance(error, DermfuseError):
            parts = {key: getattr(error, key) for key in ("found", "expected", "action")}
            return REFUSAL, json.dumps({"kind": type(error).__name__, **parts}).encode()
        places = traceback.extract_tb(error.__traceback__)
        trace = [f"{Path(place.filename).name}:{place.lineno}" for place in places]
        return FAULT, json.dumps({"kind": type(error).__name__, "trace": trace}).encode()


def _is_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes of an allocation that failed, however it was wrapped."""
    while error is not None:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _own_streams() -> tuple[BinaryIO, int]:
    """Returns standard input and output, and keeps them from whatever C code writes there."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
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


def _send(answers: int, *parts: bytes | memoryview) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(answers, rest) :]


if __name__ == "__main__":
    main()
