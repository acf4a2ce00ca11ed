"""What a server counts, in the words of Prometheus."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: the folder in which several processes add up what they count."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BYTES = tuple(float(10**power) for power in range(3, 9))


class Metrics:
    """Counts requests, calls and seconds; of all processes where ``MULTIPROCESS`` names a folder.

    Memory and processor time are shown of a single process alone.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._requests = Counter(
            "dermfuse_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "dermfuse_request_seconds",
            "From a request's head to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._analysis_seconds = Histogram(
            "dermfuse_analysis_seconds",
            "From the last byte of an upload to its answer, the waiting included",
            buckets=_SECONDS,
            registry=registry,
        )
        self._upload_bytes = Histogram(
            "dermfuse_upload_bytes", "Sizes of files", buckets=_BYTES, registry=registry
        )
        self._calls = Counter(
            "dermfuse_calls", "Images by what was said of them", ["call"], registry=registry
        )
        self._waiting, self._running = (
            Gauge(name, what, multiprocess_mode="livesum", registry=registry)
            for name, what in (
                ("dermfuse_analyses_waiting", "Uploads that wait for a thread"),
                ("dermfuse_analyses_running", "Uploads that are analysed"),
            )
        )
        self._shown = registry
        if MULTIPROCESS in os.environ:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown)  # type: ignore[no-untyped-call]
        else:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer.

        Args:
            route: The path as the server knows it, never as a client wrote it.
            status: HTTP's.
            seconds: That it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_analysis(self, call: str, *, upload_bytes: int, seconds: float) -> None:
        """Counts an image that was analysed.

        Args:
            call: ``malignant``, ``benign`` or ``withheld``.
            upload_bytes: Of its file.
            seconds: That it took.
        """
        self._calls.labels(call).inc()
        self._upload_bytes.observe(upload_bytes)
        self._analysis_seconds.observe(seconds)

    def show_queue(self, waiting: int, running: int) -> None:
        """Shows how long the queue is."""
        self._waiting.set(waiting)
        self._running.set(running)

    def render(self) -> bytes:
        """Returns the counts in Prometheus's text format."""
        return generate_latest(self._shown)

    def close(self) -> None:
        """Takes this process out of sums over living processes."""
        if MULTIPROCESS in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
