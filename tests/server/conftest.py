"""What tests of the server share: a small release, an image, and servers that really listen."""

import http.client
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from dermfuse.server import service as service_module
from dermfuse.server import watch as log_module
from dermfuse.server.answers import Answer
from dermfuse.server.app import create_app
from dermfuse.server.protocol import listen, server_config
from dermfuse.server.settings import ServerSettings

from ..small_release import skin, write_small_release

OCTETS = {"Content-Type": "application/octet-stream"}
FORGED = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "ftp",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Prefix": "//evil.example",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=ftp",
}
"""What a client may claim about where it came from."""
HEAD = b"POST /v1/analyze HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
Client = Callable[..., TestClient]


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process."""

    port: int
    server: uvicorn.Server

    def post(self, body: bytes, path: str = "/v1/analyze") -> tuple[int, dict[str, str], Any]:
        """Returns the status, the headers and the JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, body, OCTETS)
            response = connection.getresponse()
            return response.status, dict(response.headers), json.loads(response.read())
        finally:
            connection.close()


@contextmanager
def running(settings: ServerSettings) -> Iterator[Running]:
    """Yields a server on a free port; it ends as it does on SIGTERM."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(settings, create_app(settings)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        port = listener.getsockname()[1]
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield Running(port, server)
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """Returns what comes until the server hangs up."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def send(sent: bytes, server: Running) -> bytes:
    """Returns what the server makes of some bytes."""
    with connect(server) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has hung up before it had heard all
            pass
        return read_all(connection)


def wait_until(true: Callable[[], bool], *, seconds: float = 10) -> None:
    """Returns once something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@dataclass
class Held:
    """Stands in for the analysis: it begins, and does not end before it may."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_end: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def __call__(self, *_: object) -> Answer:
        self.count += 1
        self.begun.release()
        assert self.may_end.wait(20)
        return Answer(b'{"held": true}', "benign")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Analyses that last until the test lets them go."""
    stand_in = Held()
    monkeypatch.setattr(service_module, "answer", stand_in)
    yield stand_in
    stand_in.may_end.set()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose answers can be followed by hand; read only."""
    return write_small_release(tmp_path_factory.mktemp("server") / "release")


@pytest.fixture(scope="module")
def no_faults() -> Iterator[None]:
    """Nothing that the tests do may make the server, uvicorn or asyncio log an error."""
    errors: list[str] = []
    render = log_module.render

    def render_and_look(record: logging.LogRecord) -> str:
        if record.levelno >= logging.ERROR:
            errors.append(render(record))
        return render(record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "render", render_and_look)
        yield
    assert errors == []


@pytest.fixture(scope="module")
def server(release: Path, no_faults: None) -> Iterator[Running]:
    with running(ServerSettings(release=release)) as found:
        yield found


@pytest.fixture(scope="session")
def image() -> bytes:
    """The bytes of a PNG file of 64 x 48 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(skin()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(release: Path) -> Iterator[Client]:
    """Makes clients of applications in this process, by settings."""
    opened: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        app = create_app(ServerSettings(**{"release": release} | settings))
        found = TestClient(app)
        opened.append(found)
        return found.__enter__()

    yield make
    for each in opened:
        each.__exit__(None, None, None)
