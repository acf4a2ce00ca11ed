"""Lines from workers on many machines: Ray Data maps one Analyzer per worker over the images.

The images' names and paths go to the workers in small blocks, and lines come back in order. A
worker that dies is started again and its block sent again; a block that has killed a worker each
time is given up, and its images are recorded as failed.

A connection to Ray: one that is started here, or a cluster that runs already.

Images that are to be analysed as an Arrow table, and back, on another machine.
"""

import json
import logging
import os
import socket
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.inputs import Item
from dermfuse.analysis.isolation import PATIENT_SECONDS, DecoderLimits, Decoders
from dermfuse.analysis.tables import (
    Analyze,
    LineSource,
    Work,
    error_line,
    make_line,
    summarize_with,
)
from dermfuse.errors import ConfigError, DependencyError, ReleaseError, RunError, installing
from dermfuse.imaging.limits import MAX_PIXELS
from dermfuse.release.folder import Parcel, bundled_release, pack_release

if TYPE_CHECKING:
    import pyarrow as pa

# ruff: noqa: PLC0415 — Ray is an extra


LOCAL = "local"
"""The address that starts Ray on this machine, for this call alone."""

_AUTO = "auto"
_EXPECTED = "local, auto or HOST:PORT of a running cluster"
_CLIENT = "ray://"
_ANSWER_SECONDS = 5.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
_FRAME_HEADER_BYTES, _SETTINGS_TYPE = 9, 4
_EMPTY_SETTINGS = bytes((0, 0, 0, _SETTINGS_TYPE, 0, 0, 0, 0, 0))
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


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
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(f"{address} is no address of a Ray cluster", expected=_EXPECTED)
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0") and not _speaks_grpc(connection):
                raise _unreachable(address, "what listens there is no Ray")
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _speaks_grpc(connection: socket.socket) -> bool:
    """Returns whether HTTP/2, on which gRPC runs, is answered as its server must: with SETTINGS."""
    connection.sendall(_HTTP2_PREFACE + _EMPTY_SETTINGS)
    answer = connection.recv(_FRAME_HEADER_BYTES, socket.MSG_WAITALL)
    return len(answer) == _FRAME_HEADER_BYTES and answer[3] == _SETTINGS_TYPE


def _unreachable(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address} ({reason})",
        expected=_EXPECTED,
        action="Check the address; of a cluster with a token also RAY_AUTH_MODE, RAY_AUTH_TOKEN",
    )


# ruff: noqa: PLC0415 — pyarrow is an extra


def pack_works(works: Sequence[Work], *, start: int) -> "pa.Table":
    """Returns one row per image: its number, name, path or bytes, fault, and facts.

    Args:
        works: The images; paths become absolute, for another process has another folder.
        start: Number of the first.
    """
    import pyarrow as pa

    sources = [work.item.source for work in works]
    return pa.table({
        "number": pa.array(range(start, start + len(works)), pa.int64()),
        "name": pa.array([work.item.name for work in works], pa.string()),
        "path": pa.array([_path_bytes(source) for source in sources], pa.binary()),
        "data": pa.array([s if isinstance(s, bytes) else None for s in sources], pa.large_binary()),
        "fault": pa.array([work.item.fault for work in works], pa.string()),
        "facts": pa.array([json.dumps(dict(work.facts)) for work in works], pa.string()),
    })  # fmt: skip


def unpack_works(table: "pa.Table") -> Iterator[Work]:
    """Yields the images of a table."""
    for row in table.to_pylist():
        data, path = row["data"], row["path"]
        source = data if path is None else Path(os.fsdecode(path))
        yield Work(Item(row["name"], source, row["fault"]), json.loads(row["facts"]))


def _path_bytes(source: Path | bytes) -> bytes | None:
    """Returns a path as the file system has it, which need not be UTF-8."""
    return None if isinstance(source, bytes) else os.fsencode(source.absolute())


# ruff: noqa: PLC0415 — Ray is an extra


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
