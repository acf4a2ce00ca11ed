"""A server from its first connection to its last answer."""

import atexit
import math
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError
from dermfuse.server.app import create_app
from dermfuse.server.log import LOG_CONFIG, LOGGER, only_json
from dermfuse.server.metrics import MULTIPROCESS
from dermfuse.server.protocol import PatientProtocol
from dermfuse.server.settings import ServerSettings

_BACKLOG = 1_024
_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_START_SECONDS = 60  # a worker that loads for longer is ended and started again
_LAST_SECONDS = 5  # after the last accepted image, to send its answer


def serve(
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    workers: int = 1,
    announce: Callable[[str], None] = lambda _: None,
) -> None:
    """Serves until the process is told to end, then finishes what it has accepted.

    Args:
        settings: Of each process.
        host: Address to listen on.
        port: 0 for one that is free.
        workers: Processes, each with networks, threads, a queue and limits of its own.
        announce: Called with the server's address when it listens.

    Raises:
        ReleaseError: The release cannot be used.
        ConfigError: The address cannot be listened on, or a setting cannot be used.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}", expected="1 or more")
    alone = workers == 1
    app = create_app(settings) if alone else None
    if app is None:
        Analyzer(settings.release)  # a release that cannot be used is told here, once
    with listen(host, port) as listener, nullcontext() if alone else _shared_counts():
        config = server_config(settings, app or partial(_create_worker, settings), workers=workers)
        announce(_address(listener))
        if settings.token is None and host not in _LOCAL_HOSTS:
            LOGGER.warning(
                "listening on %s without a token: whoever reaches this machine may use it. "
                "Set one with --token-file, and put TLS before it.",
                host,
            )
        try:
            if alone:
                with only_json():
                    uvicorn.Server(config).run(sockets=[listener])
            else:
                Multiprocess(config, sockets=[listener]).run()
        except KeyboardInterrupt:  # raised again after everything is finished
            pass


def server_config(
    settings: ServerSettings, app: Callable[..., object], *, workers: int = 1
) -> uvicorn.Config:
    """Returns how uvicorn runs the application.

    Args:
        settings: Its limits.
        app: The application; where there are several workers, what makes it.
        workers: Processes.
    """
    limits = settings.limits
    return uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        http=partial(PatientProtocol, reading_seconds=limits.upload_seconds),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=LOG_CONFIG,
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_worker_healthcheck=_START_SECONDS,
        timeout_graceful_shutdown=math.ceil(limits.analysis_seconds) + _LAST_SECONDS,
    )


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Yields a socket that listens.

    Raises:
        ConfigError: The address is in use, not this machine's, or none.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host}, port {port}, cannot be listened on "
            f"({getattr(error, 'strerror', None) or error})",
            expected="an address of this machine and a free port",
            action="Choose another with --host and --port",
        ) from error
    with listener:
        yield listener


def _create_worker(settings: ServerSettings) -> FastAPI:
    """Returns the application of a process that serves beside others, until it ends."""
    for_good = ExitStack()
    for_good.enter_context(only_json())
    atexit.register(for_good.close)
    return create_app(settings)


@contextmanager
def _shared_counts() -> Iterator[None]:
    """Gives processes a folder to add up their counts in."""
    with tempfile.TemporaryDirectory(prefix="dermfuse-counts-") as folder:
        os.environ[MULTIPROCESS] = folder
        try:
            yield
        finally:
            del os.environ[MULTIPROCESS]


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
