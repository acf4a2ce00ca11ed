"""Lines from the threads of this process."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from dermfuse.analysis.lines import Analyze, LineSource, Work, make_line
from dermfuse.analysis.reading import Read, read_any
from dermfuse.errors import DermfuseError

_WINDOW = 2  # images in flight per thread: the next ones wait read, no more


def in_threads(analyze: Analyze, *, threads: int = 1, read: Read = read_any) -> LineSource:
    """Returns a source of lines that reads and analyses images in threads of this process.

    Args:
        analyze: Takes pixels and a name; called from several threads at once.
        threads: How many; each holds one image.
        read: Takes a source and a name.

    Raises:
        DermfuseError: ``threads`` is below 1.
    """
    if threads < 1:
        raise DermfuseError(f"{threads} threads", expected="1 or more")

    def produce(works: Iterator[Work]) -> Generator[bytes, None, None]:
        waiting: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="dermfuse-analysis")
        try:
            for work in works:
                waiting.append(pool.submit(make_line, work, analyze, read))
                if len(waiting) >= _WINDOW * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an interrupt waits for the images in work, not for those in line
            pool.shutdown(wait=True, cancel_futures=True)

    return produce
