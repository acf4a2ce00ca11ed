"""What the routes share: the networks, the queue before them, and the counts."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from dermfuse import __version__
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.folders import NOTICE
from dermfuse.server.answers import Answer, Question, answer
from dermfuse.server.forms import Uploads
from dermfuse.server.metrics import Metrics
from dermfuse.server.queue import AnalysisQueue

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Service:
    """One process's networks and what it has to do.

    Args:
        analyzer: Says what is in an image.
        queue: Before the threads.
        uploads: Reads bodies.
        metrics: Counts.
    """

    analyzer: Analyzer
    queue: AnalysisQueue
    uploads: Uploads
    metrics: Metrics

    async def analyze(self, request: Request, question: Question) -> bytes:
        """Returns the JSON of an answer.

        Args:
            request: Carries the image.
            question: What is asked about it.

        Raises:
            RefusedError: The request is past a limit.
            DermfuseError: The image cannot be read.
            ClientDisconnect: Nobody waits for the answer any more.
        """
        self.queue.require_room()
        async with self.uploads.receive(request) as image:
            start = time.monotonic()
            job = partial(self._answer, image, question)
            found = await _while_connected(request, self.queue.run(job, size=len(image)))
            self.metrics.count_analysis(
                found.call, upload_bytes=len(image), seconds=time.monotonic() - start
            )
        return found.body

    def _answer(self, image: bytes, question: Question) -> Answer:
        self.uploads.require_room()  # answers that nobody read may have filled it meanwhile
        return answer(self.analyzer, image, question)

    def start(self) -> None:
        """Starts what no image has to wait for then."""
        if self.analyzer.decoders is not None:
            self.analyzer.decoders.start(self.analyzer.decoders.count)

    def close(self) -> None:
        """Ends what the process has besides itself."""
        if self.analyzer.decoders is not None:
            self.analyzer.decoders.close()
        self.metrics.close()

    def health(self) -> dict[str, Any]:
        """Returns that the server runs, what with, and what it has to do."""
        return {
            "status": "ok",
            "version": __version__,
            "release": self.analyzer.release.name,
            "looks": self.analyzer.looks,
            "waiting": self.queue.waiting,
            "running": self.queue.running,
            "notice": NOTICE,
        }

    def model(self) -> dict[str, Any]:
        """Returns the record of the release, and the SHA-256 of each network's file."""
        return {**self.analyzer.release.to_dict(), "digests": self.analyzer.digests}


async def _while_connected(request: Request, work: Awaitable[_T]) -> _T:
    """Returns what work comes to; cancels it when the client hangs up."""
    working = asyncio.ensure_future(work)
    hanging_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        hanging_up.cancel()


async def _hang_up(request: Request) -> None:
    """Returns when the client has hung up; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
