"""HTTP/1.1 with a patience: uvicorn's protocol waits for a head, and for a reader, for ever."""

import asyncio
import re
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD_BYTES = 16_384
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as h11 has it
_AMBIGUOUS = re.compile(
    rb"(?<!\r)\n|\n[ \t]"
)  # a line's end, or a folded line, that proxies read otherwise
_FREE_CHUNKS = 1_000
_LEAST_CHUNK_BYTES = 64  # in the mean; clients send thousands


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
        self._clock: asyncio.TimerHandle | None = None
        self._reading_clock: asyncio.TimerHandle | None = None

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
        self._reading_clock = self.loop.call_later(self._reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops the clock of the reader."""
        self._stop_reading_clock()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Ends a connection whose client breaks the protocol, be it in the middle of a body.

        What still works on an answer is told that nobody waits for it.
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
        self._stop()
        self._stop_reading_clock()
        super().connection_lost(exc)

    def _is_head(self) -> bool:
        return self.cycle is not None and self.cycle.scope["method"] == "HEAD"

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(self.patience_seconds, self._give_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _stop_reading_clock(self) -> None:
        if self._reading_clock is not None:
            self._reading_clock.cancel()
            self._reading_clock = None

    def _give_up(self) -> None:
        """Closes the connection, and cuts it off if its client does not read what is left."""
        self._clock = self.loop.call_later(self._reading_seconds, self.transport.abort)
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
