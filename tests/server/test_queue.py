import asyncio
import gc
import threading
import time
from asyncio import ensure_future
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest

from dermfuse.server.answers import RefusedError
from dermfuse.server.queue import SPARE, AnalysisQueue

pytestmark = pytest.mark.anyio
Make = Callable[..., AnalysisQueue]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes queues of one thread, which are closed with nothing left in them."""
    made: list[AnalysisQueue] = []

    def make_queue(**options: Any) -> AnalysisQueue:
        made.append(AnalysisQueue(**{"threads": 1, "waiting": 9, "seconds": 10} | options))
        return made[-1]

    yield make_queue
    for queue in made:
        await queue.close()
        await asyncio.sleep(0.01)
        assert (queue.waiting, queue.running, queue._line) == (0, 0, [])


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


async def begin(queue: AnalysisQueue, gate: threading.Event) -> "asyncio.Task[object]":
    """Occupies the queue's only thread until the gate opens."""
    task = ensure_future(queue.run(lambda: gate.wait(10)))
    await until(lambda: queue.running > 0)
    return task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_a_job_returns_or_raises_what_it_does(make: Make) -> None:
    changes: list[tuple[int, int]] = []
    queue = make(on_change=lambda *counts: changes.append(counts))
    assert await queue.run(lambda: 7) == 7
    await until(lambda: len(changes) == 3)
    assert changes == [(1, 0), (0, 1), (0, 0)]
    with pytest.raises(TimeoutError, match="its own"):
        await queue.run(lambda: (_ for _ in ()).throw(TimeoutError("its own")))


async def test_a_full_queue_takes_none_and_says_when_to_try_again(
    make: Make, gate: threading.Event
) -> None:
    queue = make(waiting=1)
    first = await begin(queue, gate)
    second = ensure_future(queue.run(lambda: 2))
    await until(lambda: queue.waiting == 1)
    with pytest.raises(RefusedError, match="2 images are being analysed or wait") as refused:
        await queue.run(lambda: 3)
    assert refused.value.status == 503
    assert refused.value.headers == {"Retry-After": "2"}  # two jobs of a second, one thread
    gate.set()
    assert await asyncio.gather(first, second) == [True, 2]
    assert await queue.run(lambda: 4) == 4


async def test_a_job_that_is_given_up_while_it_waits_never_runs_and_the_next_has_its_turn(
    make: Make, gate: threading.Event
) -> None:
    queue, ran = make(), list[int]()
    first = await begin(queue, gate)
    second = ensure_future(queue.run(lambda: ran.append(2)))
    await asyncio.sleep(0)
    third = ensure_future(queue.run(lambda: ran.append(3)))
    second.cancel()  # it leaves the line after the third has come
    queue._threads = 2
    await third
    with pytest.raises(asyncio.CancelledError):
        await second
    assert queue.waiting == 0
    gate.set()
    assert (await first, ran) == (True, [3])


async def test_time_runs_out_before_a_job_begins_or_while_it_runs_and_nothing_is_logged(
    make: Make, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> NoReturn:
        gate.wait(10)
        raise ValueError("patient")

    queue = make(seconds=0.05)
    first = ensure_future(queue.run(fail))
    await until(lambda: queue.running > 0)
    for job, status in ((first, 504), (queue.run(lambda: 2), 503)):
        with pytest.raises(RefusedError) as refused:
            await job
        assert refused.value.status == status
    assert (queue.waiting, queue.running) == (0, 1)  # the thread is not free
    gate.set()
    await until(lambda: not queue.running)
    gc.collect()
    assert not caplog.records
    assert await queue.run(lambda: 3) == 3


@pytest.mark.parametrize(("count", "size", "least"), [(1, 2_000_000, 0), (SPARE, 0, 0.4)])
async def test_a_small_job_has_a_thread_while_large_or_slow_ones_hold_theirs(
    make: Make, gate: threading.Event, count: int, size: int, least: float
) -> None:
    queue = make()
    others = [ensure_future(queue.run(lambda: gate.wait(10), size=size)) for _ in range(count)]
    await until(lambda: queue.running > 0)
    start = time.monotonic()
    assert await queue.run(lambda: 7, size=1_000) == 7
    assert time.monotonic() - start > least  # until then no job is slow
    gate.set()
    assert await asyncio.gather(*others) == [True] * count


async def test_the_smaller_of_two_that_wait_goes_first_unless_the_larger_waits_long(
    make: Make, gate: threading.Event
) -> None:
    queue, order = make(), list[str]()
    first = await begin(queue, gate)
    jobs = [
        ensure_future(queue.run(lambda name=name: order.append(name), size=size))
        for name, size in (("large", 9_000_000), ("middle", 2_000_000), ("soon", 1_500_000))
    ]
    await until(lambda: queue.waiting == 3)
    gate.set()
    await asyncio.gather(first, *jobs)
    assert order == ["soon", "middle", "large"]
