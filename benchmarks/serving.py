"""How fast a server answers, beside the bare Analyzer in the same minutes."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.turns import compare, describe_machine
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError

TURNS = 5
"""Blocks of requests, each after a block of the bare Analyzer."""

_WAITING = 1_000  # room in the queue: a load of many clients shall not be refused
_PATIENCE_SECONDS = 120


def bench_serving(
    images: Sequence[str | Path],
    *,
    release: Path | None = None,
    requests: int = 1_000,
    clients: int = 16,
    threads: int = 2,
) -> dict[str, Any]:
    """Measures a server of its own, on a free port, and the bare Analyzer; returns JSON values.

    Clients and server share the machine's cores.

    Args:
        images: That are sent, one after the other.
        release: The release folder; the package's own networks if left out.
        requests: How many are sent in all; ``TURNS`` or more.
        clients: How many wait for one answer each at any time.
        threads: Images that are analysed side by side.

    Raises:
        ConfigError: A count is out of range, or the server did not start.
        ReleaseError: The release cannot be used.
        OSError: An image cannot be read.
    """
    for name, value, low in (
        ("requests", requests, TURNS),
        ("clients", clients, 1),
        ("threads", threads, 1),
        ("the number of images", len(images), 1),
    ):
        if value < low:
            raise ConfigError(f"{name} is {value}", expected=f"{low} or more")
    bodies = [Path(path).read_bytes() for path in images]
    analyzer = Analyzer(release)
    blocks = [(requests + turn) // TURNS for turn in range(TURNS)]
    turns, memory = [], []
    with _server(release, threads) as server:
        _Turn.take(analyzer, server.port, bodies, clients, threads)  # warms up
        for block in blocks:
            load = list(islice(cycle(bodies), block))
            turns.append(_Turn.take(analyzer, server.port, load, clients, threads))
            memory.append(server.memory_mb())
    return _report(turns, memory) | {"clients": clients, "threads": threads}


@dataclass(frozen=True, slots=True)
class _Turn:
    """A block of the bare Analyzer, and the same of the server."""

    bare_rate: float
    rate: float
    seconds: tuple[float, ...]
    errors: int

    @classmethod
    def take(
        cls, analyzer: Analyzer, port: int, load: Sequence[bytes], clients: int, threads: int
    ) -> "_Turn":
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda body: json.dumps(analyzer.analyze(body).to_dict()), load))
        between = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            shares = [load[first::clients] for first in range(clients)]
            answers = [each for share in pool.map(_Client(port).send, shares) for each in share]
        end = time.perf_counter()
        return cls(
            bare_rate=len(load) / (between - start),
            rate=len(load) / (end - between),
            seconds=tuple(seconds for _, seconds in answers),
            errors=sum(status != 200 for status, _ in answers),
        )


@dataclass(frozen=True, slots=True)
class _Client:
    port: int

    def send(self, bodies: Sequence[bytes]) -> list[tuple[int, float]]:
        """Returns the status (0 for a broken connection) and the seconds of each answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
        found = []
        for body in bodies:
            start = time.perf_counter()
            try:
                headers = {"Content-Type": "application/octet-stream"}
                connection.request("POST", "/v1/analyze", body, headers)
                response = connection.getresponse()
                response.read()
                status = response.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            found.append((status, time.perf_counter() - start))
        connection.close()
        return found


@dataclass(frozen=True, slots=True)
class _Server:
    port: int
    process: int

    def memory_mb(self) -> float:
        """Returns what the process has in memory; 0 where nobody tells."""
        status = Path(f"/proc/{self.process}/status")
        if not status.exists():
            return 0.0
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return round(int(line.split()[1]) / 1024, 1)


@contextmanager
def _server(release: Path | None, threads: int) -> Iterator[_Server]:
    """Yields a server that runs as users run it."""
    command = [sys.executable, "-m", "dermfuse", "serve", "--port", "0"]
    command += ["--threads", str(threads), "--waiting", str(_WAITING)]
    command += ["--analysis-seconds", str(_PATIENCE_SECONDS)]
    command += ["--release", str(release)] if release else []
    process = subprocess.Popen(  # noqa: S603 — this program
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        first = process.stdout.readline() if process.stdout else ""
        if "http://" not in first:
            raise ConfigError("the server did not start", action="Start it with: dermfuse serve")
        yield _Server(urlsplit(first.split()[-1]).port or 0, process.pid)
    finally:
        process.terminate()
        process.communicate()


def _report(turns: Sequence[_Turn], memory: Sequence[float]) -> dict[str, Any]:
    seconds = np.concatenate([turn.seconds for turn in turns])
    served, bare = [turn.rate for turn in turns], [turn.bare_rate for turn in turns]
    return {
        "requests": len(seconds),
        "errors": sum(turn.errors for turn in turns),
        "p50_seconds": round(float(np.percentile(seconds, 50)), 4),
        "p99_seconds": round(float(np.percentile(seconds, 99)), 4),
        "images_per_second": round(float(np.median(served)), 2),
        "bare_images_per_second": round(float(np.median(bare)), 2),
        **compare(served, bare, "served"),
        "memory_mb": [each for each in memory if each],
        "machine": describe_machine("onnxruntime"),
    }
