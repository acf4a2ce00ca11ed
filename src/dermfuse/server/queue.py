"""A bounded queue before a few threads."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dermfuse.server.refusals import RefusedError, busy

_T = TypeVar("_T")
_LONGEST_RETRY_SECONDS = 60
_FIRST_GUESS_SECONDS = 1.0
_NEWEST_SHARE = 0.1  # of a job's time in the running mean


class AnalysisQueue:
    """Runs jobs in threads; of those that come when it is full it takes none.

    Used from one event loop alone.

    Args:
        threads: Jobs that run side by side.
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
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="analysis")
        self._idle = asyncio.Semaphore(threads)
        self._accepted = 0
        self._running = 0
        self._mean_seconds = _FIRST_GUESS_SECONDS

    @property
    def waiting(self) -> int:
        """Jobs that have no thread yet."""
        return self._accepted - self._running

    @property
    def running(self) -> int:
        """Jobs that have one, those included that nobody waits for any more."""
        return self._running

    @property
    def retry_seconds(self) -> int:
        """After which it is worth to come again: what it has to do, at the pace so far."""
        expected = self._mean_seconds * self._accepted / self._threads
        return min(max(math.ceil(expected), 1), _LONGEST_RETRY_SECONDS)

    def require_room(self) -> None:
        """Raises RefusedError (503) if a job would not be taken now."""
        if self._accepted >= self._most:
            raise busy(f"{self._accepted} images are being analysed or wait", **self._retry())

    async def run(self, job: Callable[[], _T]) -> _T:
        """Returns what a job returns.

        A job that is cancelled or given up before it has begun never runs; one that has begun
        keeps its thread until it is done.

        Raises:
            RefusedError: The queue is full, or the job did not begin (503) or end (504) in time.
        """
        self.require_room()
        self._count(accepted=1)
        began = False
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self._idle.acquire()
                began = True
                return await asyncio.shield(self._begin(job))
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if not began:
                raise busy(
                    f"no thread was free for {self._seconds:g} s", **self._retry()
                ) from error
            raise RefusedError(
                504,
                f"the analysis took longer than {self._seconds:g} s",
                action="Send a smaller image",
            ) from error
        finally:
            if not began:
                self._count(accepted=-1)

    async def close(self) -> None:
        """Returns when the last job is done."""
        await asyncio.to_thread(self._pool.shutdown)

    def _begin(self, job: Callable[[], _T]) -> asyncio.Future[_T]:
        self._count(running=1)
        start = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._pool, job)

        def finish(done: asyncio.Future[_T]) -> None:
            if not done.cancelled():
                done.exception()  # seen, even where nobody waits for it any more
            newest = time.monotonic() - start
            self._mean_seconds += _NEWEST_SHARE * (newest - self._mean_seconds)
            self._count(accepted=-1, running=-1)
            self._idle.release()

        future.add_done_callback(finish)
        return future

    def _count(self, *, accepted: int = 0, running: int = 0) -> None:
        self._accepted += accepted
        self._running += running
        self._on_change(self.waiting, self._running)

    def _retry(self) -> dict[str, int]:
        return {"retry_seconds": self.retry_seconds}
