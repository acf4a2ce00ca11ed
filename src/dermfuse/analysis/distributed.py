"""Lines from workers on many machines: Ray Data maps one Analyzer per worker over the images.

The images' names and paths go to the workers in small blocks, and lines come back in order. A
worker that dies is started again and its block sent again; a block that has killed a worker each
time is given up, and its images are recorded as failed.
"""

# ruff: noqa: PLC0415 — Ray is an extra

import logging
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.isolation import PATIENT_SECONDS, DecoderLimits, Decoders
from dermfuse.analysis.lines import Analyze, LineSource, Work, error_line, make_line
from dermfuse.analysis.shipments import pack_works, unpack_works
from dermfuse.analysis.summaries import summarize_with
from dermfuse.decoding.limits import MAX_PIXELS
from dermfuse.errors import ReleaseError, RunError
from dermfuse.release.folder import bundled_release
from dermfuse.release.parcel import Parcel, pack_release

if TYPE_CHECKING:
    import pyarrow as pa

MOST_IN_BLOCK = 32
"""Images that are sent at once, and analysed again if their worker dies."""
DEATHS = 3
"""So many workers may die of a block before it is given up."""

_SHARES = 8  # blocks per worker, so that all finish at about the same time
_LOST = (
    f"Its worker died {DEATHS} times over this image or one that was sent with it. "
    "Call again to try it once more; with more memory per worker if that was short."
)

BuildAnalyze = Callable[[], Analyze]
"""Called once in each worker; must be something that pickle, or Ray's, can send."""


def from_workers(build: BuildAnalyze, *, workers: int, max_pixels: int = MAX_PIXELS) -> LineSource:
    """Returns a source of lines that has images read and analysed by Ray Data's actors.

    All images are drawn before the first is analysed. Ray is connected already.

    Args:
        build: Makes what analyses, in the worker.
        workers: How many actors, one processor each.
        max_pixels: Of an image.
    """

    def produce(works: Iterator[Work]) -> Generator[bytes, None, None]:
        sent = _send(works, workers=workers)
        done = 0
        lines = _score(sent.blocks, (build, max_pixels), workers=workers) if sent.blocks else ()
        for number, line in lines:
            yield from sent.lost(done, number)
            yield line
            done = number + 1
        yield from sent.lost(done, sent.count)

    return produce


def analyze_of(analyzer: Analyzer, *, thumbnail: bool) -> BuildAnalyze:
    """Returns what makes the same analyzer in a worker; its release goes to Ray's object store.

    Args:
        analyzer: Whose release, operating point and looks are used.
        thumbnail: Whether lines have one.

    Raises:
        ReleaseError: A file of the release is gone.
    """
    import ray

    parcel = pack_release(analyzer.folder)
    return _Recipe(
        ray.put(parcel),
        parcel.digest,
        analyzer.operating_point.name,
        looks=analyzer.looks,
        score_all=analyzer.score_all,
        thumbnail=thumbnail,
    )


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Makes an analyzer from a parcel that is fetched only where the release is not at hand."""

    parcel: Any
    digest: str
    operating_point: str
    looks: int
    score_all: bool
    thumbnail: bool

    def __call__(self) -> Analyze:
        import ray

        with TemporaryDirectory(prefix="dermfuse-release-") as temporary:
            folder = _own_release(self.digest)
            if folder is None:
                folder = Path(temporary)
                parcel: Parcel = ray.get(self.parcel)
                parcel.unpack(folder, digest=self.digest)
            analyzer = Analyzer(
                folder,
                operating_point=self.operating_point,
                looks=self.looks,
                score_all=self.score_all,
            )
        return summarize_with(analyzer, thumbnail=self.thumbnail)


def _own_release(digest: str) -> Path | None:
    """Returns the package's release if it is the one that is wanted."""
    try:
        folder = bundled_release()
        return folder if pack_release(folder).digest == digest else None
    except ReleaseError:
        return None


class _Scorer:
    """A worker: makes the lines of one block after the other."""

    def __init__(self, build: BuildAnalyze, max_pixels: int) -> None:
        limits = DecoderLimits(max_pixels=max_pixels, seconds=PATIENT_SECONDS)
        self._decoders = Decoders(1, limits=limits)
        self._decoders.start()
        self._analyze = build()

    def __call__(self, block: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        read = self._decoders.read
        lines = [make_line(work, self._analyze, read) for work in unpack_works(block)]
        return pa.table({"number": block["number"], "line": pa.array(lines, pa.large_binary())})


@dataclass(slots=True)
class _Sent:
    """What lies in the object store: the images in blocks, and the first number of each."""

    blocks: list[Any] = field(default_factory=list)
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    count: int = 0

    def lost(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields the lines of the images from one number to another, of which none came."""
        import ray

        while start < stop:
            index = bisect_right(self.starts, start) - 1
            for work in unpack_works(ray.get(self.blocks[index])):
                yield error_line(work, f"{work.item.name}: {_LOST}")
            start = self.starts[index + 1] if index + 1 < len(self.blocks) else self.count


def _send(works: Iterable[Work], *, workers: int) -> _Sent:
    """Returns the images in blocks: none is more than a small share of what a worker will do."""
    import ray

    sent = _Sent()
    waiting: list[Work] = []

    def put() -> None:
        sent.blocks.append(ray.put(pack_works(waiting, start=sent.count)))
        sent.starts.append(sent.count)
        sent.count += len(waiting)
        waiting.clear()

    for work in works:
        waiting.append(work)
        if len(waiting) >= min(MOST_IN_BLOCK, 1 + sent.count // (_SHARES * workers)):
            put()
    if waiting:
        put()
    return sent


def _score(
    blocks: list[Any], worker: tuple[BuildAnalyze, int], *, workers: int
) -> Iterator[tuple[int, bytes]]:
    """Yields numbers and lines in order; those of a block that was given up are left out."""
    import ray
    from ray.data import ActorPoolStrategy, from_arrow_refs

    images = from_arrow_refs(blocks)
    context = images.context
    context.execution_options.preserve_order = True
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # retries have no other place than ray_remote_args
        lines = images.map_batches(
            _Scorer,
            fn_constructor_args=worker,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(workers, len(blocks))),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=DEATHS - 1,
        )
    try:
        for batch in lines.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=1
        ):
            yield from zip(batch["number"].to_pylist(), batch["line"].to_pylist(), strict=True)
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the workers cannot go on ({_last_line(error)})",
            expected="dermfuse, in this version, at every node",
            action="Call again to go on with what is done",
        ) from error


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
