"""HTTP/1.1 with a patience: uvicorn's protocol waits for a request's head for ever."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """Closes connections on which no request comes to its end.

    A clock runs while a request's head is awaited, and while the rest of a body arrives that was
    answered early (with 413, say): what is left of it is dropped meanwhile, for a client that is
    cut off while it sends may never read the answer.
    """

    patience_seconds = 10.0
    reading_seconds = 60.0
    _clock: asyncio.TimerHandle | None = None

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
        """Stops the clock."""
        self._stop()
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

    def _give_up(self) -> None:
        """Closes the connection, and cuts it off if its client does not read what is left."""
        self._clock = self.loop.call_later(self.reading_seconds, self.transport.abort)
        self.transport.close()
