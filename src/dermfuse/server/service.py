"""The part of a request that computes: from the bytes of an upload to the JSON of its analysis."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect

from dermfuse import __version__
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.records import Analysis
from dermfuse.errors import ConfigError
from dermfuse.imaging.overlays import encode_png
from dermfuse.records.folders import NOTICE
from dermfuse.release.folder import OperatingPoint
from dermfuse.server.forms import Uploads
from dermfuse.server.metrics import Metrics
from dermfuse.server.queue import AnalysisQueue

OVERLAYS: Mapping[str, Callable[[Analysis], NDArray[np.uint8] | None]] = {
    "outline": Analysis.contour_overlay,
    "activation": Analysis.activation_overlay,
}
"""What can be asked for, and how it is drawn; of what is withheld nothing is."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about an image.

    Args:
        point: The operating point of the call.
        overlays: Names of pictures to answer with.
    """

    point: OperatingPoint
    overlays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said about an image.

    Args:
        body: JSON.
        call: ``malignant``, ``benign``, or ``withheld`` where there is no probability.
    """

    body: bytes
    call: str


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

    async def close(self) -> None:
        """Finishes what was accepted, then ends what the process has besides itself."""
        await self.queue.close()
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


def read_question(analyzer: Analyzer, *, operating_point: str, overlays: str) -> Question:
    """Returns what the parameters of a request ask.

    Args:
        analyzer: Whose release has the operating points.
        operating_point: A name; the release's own default if empty.
        overlays: Names with commas between them, or empty.

    Raises:
        ReleaseError: There is no such operating point.
        ConfigError: There is no such overlay.
    """
    names = tuple(dict.fromkeys(name.strip() for name in overlays.split(",") if name.strip()))
    unknown = [name for name in names if name not in OVERLAYS]
    if unknown:
        raise ConfigError(
            f'no overlay is called "{unknown[0]}"',
            expected=f"{' or '.join(OVERLAYS)}, or both with a comma between them",
        )
    return Question(analyzer.release.classes.point(operating_point or None), names)


def answer(analyzer: Analyzer, image: bytes, question: Question) -> Answer:
    """Returns what is said about an image: ``Analysis.to_dict`` as JSON, and the overlays.

    Args:
        analyzer: Says it.
        image: The bytes of a file.
        question: What is asked.

    Raises:
        ImageError: The image cannot be read.
        DependencyError: It is a DICOM file, and pydicom is not installed.
    """
    analysis = replace(analyzer.analyze(image), operating_point=question.point)
    record = analysis.to_dict()
    if question.overlays:
        record["overlays"] = {name: _packed(OVERLAYS[name](analysis)) for name in question.overlays}
    body = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return Answer(body, record["predicted"] or "withheld")


def _packed(drawn: NDArray[np.uint8] | None) -> str | None:
    """Returns a picture as a PNG file in base64."""
    return None if drawn is None else base64.b64encode(encode_png(drawn)).decode()


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
