import asyncio
import gc
import threading
import time
from typing import NoReturn

import pytest

from dermfuse.server.answers import RefusedError
from dermfuse.server.queue import SPARE, AnalysisQueue


def make_queue(*, waiting: int = 1, seconds: float = 10) -> AnalysisQueue:
    return AnalysisQueue(threads=1, waiting=waiting, seconds=seconds)


async def begin(queue: AnalysisQueue, gate: threading.Event) -> "asyncio.Task[object]":
    """Occupies the queue's only thread until the gate opens."""
    task = asyncio.ensure_future(queue.run(lambda: gate.wait(10)))
    while not queue.running:
        await asyncio.sleep(0)
    return task


def test_a_job_returns_or_raises_what_it_does() -> None:
    async def go() -> None:
        queue = make_queue()
        assert await queue.run(lambda: 7) == 7
        with pytest.raises(TimeoutError, match="its own"):
            await queue.run(lambda: (_ for _ in ()).throw(TimeoutError("its own")))
        assert (queue.waiting, queue.running) == (0, 0)
        await queue.close()

    asyncio.run(go())


def test_a_full_queue_takes_none_and_says_when_to_come_again() -> None:
    async def go() -> None:
        queue, gate = make_queue(waiting=1), threading.Event()
        first = await begin(queue, gate)
        second = asyncio.ensure_future(queue.run(lambda: 2))
        await asyncio.sleep(0)
        assert (queue.waiting, queue.running) == (1, 1)
        with pytest.raises(RefusedError, match="2 images are being analysed or wait") as refused:
            await queue.run(lambda: 3)
        assert refused.value.status == 503
        assert refused.value.headers == {"Retry-After": "2"}  # two jobs of a second, one thread
        gate.set()
        assert await first is True
        assert await second == 2
        assert await queue.run(lambda: 4) == 4
        await queue.close()

    asyncio.run(go())


def test_a_job_that_is_given_up_while_it_waits_never_runs() -> None:
    async def go() -> None:
        queue, gate = make_queue(), threading.Event()
        ran: list[int] = []
        first = await begin(queue, gate)
        second = asyncio.ensure_future(queue.run(lambda: ran.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert queue.waiting == 0
        gate.set()
        await first
        await queue.close()
        assert ran == []

    asyncio.run(go())


def test_time_runs_out_before_a_job_begins_or_while_it_runs() -> None:
    async def go() -> None:
        queue, gate = make_queue(seconds=0.05), threading.Event()
        first = await begin(queue, gate)
        statuses = []
        for job in (first, queue.run(lambda: 2)):
            with pytest.raises(RefusedError) as refused:
                await job
            statuses.append(refused.value.status)
        assert statuses == [504, 503]
        assert (queue.waiting, queue.running) == (0, 1)  # the thread is not free
        gate.set()
        while queue.running:
            await asyncio.sleep(0)
        assert await queue.run(lambda: 3) == 3
        await queue.close()

    asyncio.run(go())


def test_closing_waits_for_the_last_job() -> None:
    async def go() -> None:
        queue = make_queue()
        done: list[int] = []

        def work() -> None:
            time.sleep(0.05)
            done.append(1)

        running = asyncio.ensure_future(queue.run(work))
        while not queue.running:
            await asyncio.sleep(0)
        await queue.close()
        assert done == [1]
        await running

    asyncio.run(go())


def test_changes_are_told() -> None:
    told: list[tuple[int, int]] = []
    queue = AnalysisQueue(
        threads=1, waiting=0, seconds=1, on_change=lambda *counts: told.append(counts)
    )

    async def go() -> None:
        await queue.run(lambda: 1)
        await queue.close()

    asyncio.run(go())
    assert told == [(1, 0), (0, 1), (0, 0)]


def test_what_a_job_raises_after_it_was_given_up_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def go() -> None:
        queue, gate = make_queue(seconds=0.02), threading.Event()

        def fail() -> NoReturn:
            gate.wait(10)
            raise ValueError("patient")

        with pytest.raises(RefusedError):
            await queue.run(fail)
        gate.set()
        while queue.running:
            await asyncio.sleep(0)
        await queue.close()

    asyncio.run(go())
    gc.collect()
    assert not caplog.records


def test_a_small_job_has_a_thread_while_large_ones_hold_theirs() -> None:
    async def go() -> None:
        queue, gate = make_queue(waiting=9), threading.Event()
        large = asyncio.ensure_future(queue.run(lambda: gate.wait(10), size=2_000_000))
        while not queue.running:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(queue.run(lambda: gate.wait(10), size=2_000_000))
        assert await queue.run(lambda: 7, size=1_000) == 7
        assert (queue.waiting, queue.running) == (1, 1)
        gate.set()
        assert await large
        assert await second
        await queue.close()

    asyncio.run(go())


def test_a_small_job_has_a_thread_while_slow_ones_hold_theirs() -> None:
    async def go() -> None:
        queue, gate = make_queue(waiting=9), threading.Event()
        slow = [asyncio.ensure_future(queue.run(lambda: gate.wait(10))) for _ in range(SPARE)]
        await asyncio.sleep(0)
        start = time.monotonic()
        assert await queue.run(lambda: 7) == 7
        assert time.monotonic() - start > 0.4  # until then no job is slow
        gate.set()
        assert all([await each for each in slow])
        await queue.close()

    asyncio.run(go())


def test_the_smaller_of_two_that_wait_goes_first_unless_the_larger_waits_long() -> None:
    async def go() -> None:
        queue, gate, order = make_queue(waiting=9), threading.Event(), list[str]()
        first = await begin(queue, gate)
        jobs = [
            asyncio.ensure_future(queue.run(lambda name=name: order.append(name), size=size))
            for name, size in (("large", 9_000_000), ("middle", 2_000_000), ("soon", 1_500_000))
        ]
        await asyncio.sleep(0)
        gate.set()
        await first
        await asyncio.gather(*jobs)
        assert order == ["soon", "middle", "large"]
        await queue.close()

    asyncio.run(go())


def test_a_thread_that_is_free_as_a_job_is_given_up_goes_to_the_next() -> None:
    async def go() -> None:
        queue, gate = make_queue(waiting=2), threading.Event()
        first = await begin(queue, gate)
        second = asyncio.ensure_future(queue.run(lambda: 2))
        await asyncio.sleep(0)
        third = asyncio.ensure_future(queue.run(lambda: 3))
        second.cancel()  # it leaves the line after the third has come
        queue._threads = 2
        assert await third == 3
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        assert await first is True
        assert (queue.waiting, queue.running) == (0, 0)
        await queue.close()

    asyncio.run(go())
