"""A connection to Ray: one that is started here, or a cluster that runs already."""

# ruff: noqa: PLC0415 — Ray is an extra

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from dermfuse.errors import ConfigError, DependencyError, installing

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
