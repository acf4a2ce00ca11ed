"""Lines from workers on many machines: Ray Data maps one Analyzer per worker over the images.

The images' names and paths go to the workers in small blocks, and lines come back in order. A
worker that dies is started again and its block sent again; a block that has killed a worker each
time is given up, and its images are recorded as failed.
"""

import logging
import os
import pickle
import socket
import warnings
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.isolation import Decoders
from dermfuse.analysis.journal import Analyze, LineSource, Work, error_line, make_line
from dermfuse.analysis.tables import summarize_with
from dermfuse.errors import ConfigError, DependencyError, RunError, installing
from dermfuse.imaging.limits import MAX_PIXELS
from dermfuse.release.folder import Parcel, pack_release

if TYPE_CHECKING:
    import pyarrow as pa

# ruff: noqa: PLC0415 — Ray is an extra

LOCAL = "local"
"""The address that starts Ray on this machine, for this call alone."""
MOST_IN_BLOCK = 32
"""Images that are sent at once, and analysed again if their worker dies."""
DEATHS = 3
"""So many workers may die of a block before it is given up."""

_AUTO = "auto"
_EXPECTED = "local, auto or HOST:PORT of a running cluster"
_CLIENT = "ray://"
_ANSWER_SECONDS = 5.0
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_SHARES = 8  # blocks per worker, so that all finish at about the same time
_LOST = (
    f"Its worker died {DEATHS} times over this image or one that was sent with it. "
    "Call again to try it once more; with more memory per worker if that was short."
)
_NEW = -1  # no line's place

BuildAnalyze = Callable[[], Analyze]
"""Called once in each worker; must be something that pickle, or Ray's, can send."""


def require_ray() -> None:
    """Raises DependencyError if Ray Data is not installed; imports nothing of it."""
    missing = [name for name in ("ray", "pyarrow", "pandas") if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"scoring with Ray needs {', '.join(missing)}, not installed here",
            action=installing("ray"),
        )


@contextmanager
def connect(address: str, *, workers: int | None = None) -> Iterator[int]:
    """Connects to Ray meanwhile and yields how many workers there can be.

    A connection that exists is used, whatever the address, and left as it is.

    Args:
        address: ``local``, ``auto`` or ``HOST:PORT``. Ray's client (``ray://``) is refused: Ray
            Data does not run over it (2.60).
        workers: How many are wanted; one per processor if left out.

    Raises:
        DependencyError: Ray is not installed.
        ConfigError: Nothing answers at the address.
    """
    require_ray()
    for name, value in _QUIET.items():  # before the import: Ray reads some of them there
        os.environ.setdefault(name, value)
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        _start(address, workers)
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if is_ours:
            ray.shutdown()


def from_workers(build: BuildAnalyze, *, workers: int, max_pixels: int = MAX_PIXELS) -> LineSource:
    """Returns a source of lines that has images read and analysed by Ray Data's actors.

    All images are drawn before the first is analysed. Ray is connected already.

    Args:
        build: Makes what analyses, in the worker.
        workers: How many actors, one processor each.
        max_pixels: The most pixels that an image may have.
    """

    def produce(works: Iterator[Work]) -> Generator[bytes | int, None, None]:
        import ray

        places = array("q")
        new = enumerate(_new(works, places, workers=workers))
        blocks = [ray.put(_pack(block, number)) for number, block in new]
        lines = _score(blocks, (build, max_pixels), workers=workers)
        for place in places:
            yield next(lines) if place == _NEW else place

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
    stored, digest = ray.put(parcel), parcel.digest
    settings: dict[str, Any] = {
        "operating_point": analyzer.operating_point.name,
        "looks": analyzer.looks,
        "score_all": analyzer.score_all,
    }

    def build() -> Analyze:
        with TemporaryDirectory(prefix="dermfuse-release-") as folder:
            parcel: Parcel = ray.get(stored)
            parcel.unpack(Path(folder), digest=digest)
            return summarize_with(Analyzer(folder, **settings), thumbnail=thumbnail)

    return build


def _start(address: str, workers: int | None) -> None:
    import ray

    if address not in (LOCAL, _AUTO):
        _knock(address)
    own = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray about itself
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unreachable(address, str(error).strip().splitlines()[0]) from error


def _knock(address: str) -> None:
    """Refuses an address where no Ray listens: Ray itself would wait for minutes."""
    if address.startswith(_CLIENT):
        raise ConfigError(
            f"{address} is for Ray's client, over which Ray Data does not run",
            expected=_EXPECTED,
            action="Call on a node of the cluster, or there through: ray job submit",
        )
    try:
        parts = urlsplit(f"tcp://{address}")
        place = parts.hostname, parts.port
    except ValueError:
        place = None, None
    if not all(place):
        raise ConfigError(f"{address} is no address of a Ray cluster", expected=_EXPECTED)
    try:
        socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    if os.environ.get("RAY_USE_TLS", "0") in ("", "0") and not _speaks_grpc(address):
        raise _unreachable(address, "what listens there is no Ray")


def _speaks_grpc(address: str) -> bool:
    """Returns whether gRPC, which Ray's nodes speak, is answered."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            return False
    return True


def _unreachable(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address} ({reason})",
        expected=_EXPECTED,
        action="Check the address; of a cluster with a token also RAY_AUTH_MODE, RAY_AUTH_TOKEN",
    )


class _Scorer:
    """A worker: makes the lines of one block after the other."""

    def __init__(self, build: BuildAnalyze, max_pixels: int) -> None:
        self._decoders = Decoders.patient(1, max_pixels=max_pixels)
        self._analyze = build()

    def __call__(self, block: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        works = _unpack(block)
        lines = [make_line(work, self._analyze, self._decoders.read) for work in works]
        return pa.table({"block": block["block"], "line": pa.array(lines, pa.large_binary())})


def _new(works: Iterator[Work], places: "array[int]", *, workers: int) -> Iterator[list[Work]]:
    """Yields what has to be analysed in blocks, none more than a small share of a worker's.

    Args:
        works: All images.
        places: Is given where the line of each lies already, or ``_NEW``.
        workers: How many there are.
    """
    waiting: list[Work] = []
    sent = 0
    for work in works:
        places.append(_NEW if work.place is None else work.place)
        if work.place is None:
            waiting.append(work)
        if len(waiting) >= min(MOST_IN_BLOCK, 1 + sent // (_SHARES * workers)):
            sent += len(waiting)
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _pack(works: list[Work], block: int) -> "pa.Table":
    """Returns a row per image, its path absolute: another process has another folder."""
    import pyarrow as pa

    rows = []
    for work in works:
        source = work.item.source
        there = source if isinstance(source, bytes) else source.absolute()
        rows.append(pickle.dumps(replace(work, item=replace(work.item, source=there))))
    numbers = pa.array([block] * len(works), pa.int64())
    return pa.table({"block": numbers, "work": pa.array(rows, pa.large_binary())})


def _unpack(block: "pa.Table") -> list[Work]:
    return [pickle.loads(row) for row in block["work"].to_pylist()]  # noqa: S301 — our own


def _score(blocks: list[Any], worker: tuple[BuildAnalyze, int], *, workers: int) -> Iterator[bytes]:
    """Yields the lines of the blocks in order; of one that was given up, those that say so."""
    import ray

    done = 0
    try:
        made = _map(blocks, worker, workers=workers) if blocks else iter(())
        for number, rows in groupby(made, key=itemgetter(0)):
            for block in blocks[done:number]:
                yield from _lost(block)
            yield from (line for _, line in rows)
            done = number + 1
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the workers cannot continue ({str(error).strip().splitlines()[-1].strip()})",
            expected="dermfuse, in this version, at every node",
            action="Call again to continue after what is done",
        ) from error
    for block in blocks[done:]:
        yield from _lost(block)


def _map(
    blocks: list[Any], worker: tuple[BuildAnalyze, int], *, workers: int
) -> Iterator[tuple[int, bytes]]:
    """Yields each line after the number of its block, in order; blocks that failed are left out."""
    from ray.data import ActorPoolStrategy, from_arrow_refs

    images = from_arrow_refs(blocks)
    context = images.context
    context.execution_options.preserve_order = True
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # No block waits at a worker: one that kills it would take that one with it.
    pool = ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # retries have no other place than ray_remote_args
        lines = images.map_batches(
            _Scorer,
            fn_constructor_args=worker,
            batch_size=None,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=DEATHS - 1,
        )
    for batch in lines.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield from zip(batch["block"].to_pylist(), batch["line"].to_pylist(), strict=True)


def _lost(block: Any) -> Iterator[bytes]:  # noqa: ANN401 — Ray's reference to a table
    """Yields the lines of a block that was given up."""
    import ray

    for work in _unpack(ray.get(block)):
        yield error_line(work, f"{work.item.name}: {_LOST}")
