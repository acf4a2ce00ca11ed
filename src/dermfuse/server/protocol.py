"""A server from its first connection to its last answer, over HTTP/1.1 that is strict and patient.

uvicorn's protocol waits for a head, and for a reader, for ever, and takes heads that proxies may
read otherwise.
"""

import asyncio
import atexit
import math
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError
from dermfuse.server.app import create_app
from dermfuse.server.log import LOG_CONFIG, LOGGER, only_json
from dermfuse.server.metrics import MULTIPROCESS
from dermfuse.server.settings import ServerSettings

HEAD_BYTES = 16_384
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as h11 has it
# A line's end, or a folded line, that proxies read otherwise.
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\n[ \t]")
_FREE_CHUNKS = 1_000
_LEAST_CHUNK_BYTES = 64  # in the mean; clients send thousands
_BACKLOG = 1_024
_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_START_SECONDS = 60  # a worker that loads for longer is ended and started again
_Clock = Literal["head", "reader"]
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
        Analyzer(settings.release)  # a release that cannot be used is reported here, once
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


class StrictConnection(h11.Connection):
    """Refuses what h11 takes, and a server should not.

    That is a head of any size that comes at once; lines that end without a carriage return, and
    folded ones; and a body in chunks of a few bytes: 256 kB of them hold up everybody for a second.
    """

    _chunks = 0
    _chunked_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Returns what comes next from the client."""
        if self.their_state is h11.IDLE:
            _check_head(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunked_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunked_bytes += len(event.data)
            few = self._chunked_bytes < _LEAST_CHUNK_BYTES * self._chunks
            if few and self._chunks > _FREE_CHUNKS:
                raise h11.RemoteProtocolError("chunks of a few bytes")
        return event


class PatientProtocol(H11Protocol):
    """Closes connections on which no request, or no answer, comes to its end.

    A clock runs while a request's head is awaited, and while the rest of a body arrives that was
    answered early (with 413, say): what is left of it is dropped meanwhile, for a client that is
    cut off while it sends may never read the answer. Another runs while more waits to be read
    than the transport keeps without complaint (64 kB).

    Args:
        config: As uvicorn gives it; so are the next three.
        server_state: What connections share.
        app_state: What the lifespan made.
        _loop: The event loop.
        reading_seconds: After so long the client must have read what waits for it.
    """

    patience_seconds = 10.0

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        reading_seconds: float,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = StrictConnection(h11.SERVER, HEAD_BYTES)
        self._reading_seconds = reading_seconds
        self._clocks: dict[_Clock, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stops the clock when a request's head is there."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Starts the clock for the next head, or for what is left of a body."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Starts the clock of the reader: the application waits until it has read."""
        super().pause_writing()
        self._start("reader", self._reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops the clock of the reader."""
        self._stop("reader")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Ends a connection whose client breaks the protocol, be it in the middle of a body.

        What still works on an answer learns that nobody waits for it.
        """
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        state = self.conn.our_state
        if state is h11.IDLE or (state is h11.SEND_RESPONSE and not self._is_head()):
            super().send_400_response(msg)
            return
        if state is h11.SEND_RESPONSE:  # what answers HEAD has no body, which uvicorn would send
            bare = h11.Response(status_code=400, headers=[(b"connection", b"close")])
            self.transport.write(self.conn.send(bare))
        self.transport.close()  # in any other state an answer has begun

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        self._stop("head", "reader")
        super().connection_lost(exc)

    def _is_head(self) -> bool:
        return self.cycle is not None and self.cycle.scope["method"] == "HEAD"

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._stop("head")
        elif "head" not in self._clocks:
            self._start("head", self.patience_seconds, self._give_up)

    def _start(self, clock: _Clock, seconds: float, then: Callable[[], None]) -> None:
        self._clocks[clock] = self.loop.call_later(seconds, then)

    def _stop(self, *clocks: _Clock) -> None:
        for clock in clocks:
            if clock in self._clocks:
                self._clocks.pop(clock).cancel()

    def _give_up(self) -> None:
        """Closes the connection, and cuts it off if its client does not read what is left."""
        self._start("head", self._reading_seconds, self.transport.abort)
        self.transport.close()


def _check_head(received: bytes) -> None:
    """Refuses a head that is whole, before anything answers it."""
    end = _END_OF_HEAD.search(received)
    if end is None:
        return
    head = received[: end.end()]
    if len(head) > HEAD_BYTES:
        raise h11.RemoteProtocolError("a head that is too large")
    if _AMBIGUOUS.search(head):
        raise h11.RemoteProtocolError("a line that can be read in two ways")


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
