"""A bounded queue before a few threads."""

import asyncio
import math
import time
from bisect import insort
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from dermfuse.server.answers import RefusedError, busy

_T = TypeVar("_T")
_LONGEST_RETRY_SECONDS = 60
_FIRST_GUESS_SECONDS = 1.0
_NEWEST_SHARE = 0.1  # of a job's time in the running mean
_SECONDS_PER_BYTE = 1e-6  # what came so much later and is so much smaller goes first

_SLOW_SECONDS = 0.5  # a job that runs for longer is counted as a large one
_LARGE_BYTES = 1_000_000

SPARE = 2
"""Threads for small jobs while all others are held by large or slow ones."""


class AnalysisQueue:
    """Runs jobs in threads; of those that come when it is full it takes none.

    A large job waits longer than a small one: as if it had come a second later for each megabyte.
    Used from one event loop alone.

    Args:
        threads: Jobs that run side by side; while all of them are large or slow, ``SPARE`` small
            ones more.
        waiting: Jobs that may wait for a thread.
        seconds: A job that is not done so long after it came is given up.
        on_change: Called with (waiting, running) whenever one of them changes.
    """

    def __init__(
        self,
        *,
        threads: int,
        waiting: int,
        seconds: float,
        on_change: Callable[[int, int], None] = lambda _waiting, _running: None,
    ) -> None:
        self._threads = threads
        self._most = threads + waiting
        self._seconds = seconds
        self._on_change = on_change
        self._pool = ThreadPoolExecutor(threads + SPARE, thread_name_prefix="analysis")
        self._line: list[_Turn] = []
        self._called: list[_Turn] = []
        self._numbers = count()
        self._mean_seconds = _FIRST_GUESS_SECONDS

    @property
    def waiting(self) -> int:
        """Jobs that have no thread yet."""
        return len(self._line)

    @property
    def running(self) -> int:
        """Jobs that have one, those included that nobody waits for any more."""
        return len(self._called)

    @property
    def retry_seconds(self) -> int:
        """When to try again: how long all that it has to do takes, at the pace so far."""
        expected = self._mean_seconds * (self.waiting + self.running) / self._threads
        return min(max(math.ceil(expected), 1), _LONGEST_RETRY_SECONDS)

    def require_room(self) -> None:
        """Raises RefusedError (503) if a job would not be taken now."""
        accepted = self.waiting + self.running
        if accepted >= self._most:
            raise busy(
                f"{accepted} images are being analysed or wait", retry_seconds=self.retry_seconds
            )

    async def run(self, job: Callable[[], _T], *, size: int = 0) -> _T:
        """Returns what a job returns.

        A job that is cancelled or given up before it has begun never runs; one that has begun
        keeps its thread until it is done.

        Args:
            job: Runs in a thread.
            size: Of what it works on, in bytes.

        Raises:
            RefusedError: The queue is full, or the job did not begin (503) or end (504) in time.
        """
        self.require_room()
        turn = self._take_turn(size)
        running: asyncio.Future[_T] | None = None
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await turn.called
                running = self._begin(job, turn)
                return await asyncio.shield(running)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if running is None:
                raise busy(
                    f"no thread was free for {self._seconds:g} s", retry_seconds=self.retry_seconds
                ) from error
            raise RefusedError(
                504,
                f"the analysis took longer than {self._seconds:g} s",
                action="Send a smaller image",
            ) from error
        finally:
            if running is None:
                self._leave(turn)

    async def close(self) -> None:
        """Returns when the last job is done."""
        await asyncio.to_thread(self._pool.shutdown)

    def _take_turn(self, size: int) -> "_Turn":
        """Returns the place in the line of a job of so many bytes; its thread may be there."""
        due = time.monotonic() + size * _SECONDS_PER_BYTE
        called = asyncio.get_running_loop().create_future()
        turn = _Turn(due, next(self._numbers), size > _LARGE_BYTES, called)
        insort(self._line, turn)
        self._on_change(self.waiting, self.running)
        self._call_next()
        return turn

    def _leave(self, turn: "_Turn") -> None:
        (self._line if turn in self._line else self._called).remove(turn)
        self._on_change(self.waiting, self.running)
        self._call_next()

    def _call_next(self) -> None:
        """Calls those first in line for whom there is a thread."""
        for turn in list(self._line):
            if turn.called.cancelled():  # it leaves the line by itself
                continue
            if len(self._called) >= self._threads and (turn.is_large or not self._has_spare()):
                continue
            self._line.remove(turn)
            self._called.append(turn)
            self._on_change(self.waiting, self.running)
            turn.slow_from = time.monotonic() + (0 if turn.is_large else _SLOW_SECONDS)
            turn.called.set_result(None)
            asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._call_next)

    def _has_spare(self) -> bool:
        """Whether a thread is free that small jobs may have."""
        now = time.monotonic()
        slow = sum(turn.slow_from <= now for turn in self._called)
        return slow >= self._threads and len(self._called) < self._threads + SPARE

    def _begin(self, job: Callable[[], _T], turn: "_Turn") -> asyncio.Future[_T]:
        start = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._pool, job)

        def finish(done: asyncio.Future[_T]) -> None:
            if not done.cancelled():
                done.exception()  # seen, even where nobody waits for it any more
            newest = time.monotonic() - start
            self._mean_seconds += _NEWEST_SHARE * (newest - self._mean_seconds)
            self._leave(turn)

        future.add_done_callback(finish)
        return future


@dataclass(slots=True, order=True)
class _Turn:
    """A job's place in the line, and from when on it counts as slow."""

    due: float
    number: int
    is_large: bool = field(compare=False)
    called: "asyncio.Future[None]" = field(compare=False)
    slow_from: float = field(default=0.0, compare=False)
