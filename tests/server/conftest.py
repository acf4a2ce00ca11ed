"""What tests of the server share: an image, clients, and servers that really listen."""

import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from dermfuse.imaging.overlays import encode_png
from dermfuse.server import log as log_module
from dermfuse.server import service as service_module
from dermfuse.server.app import create_app
from dermfuse.server.protocol import listen, server_config
from dermfuse.server.service import Answer
from dermfuse.server.settings import ServerSettings

from ..small_release import skin, write_small_release

TOKEN = "0123456789abcdef"
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
    """A server that listens, in a thread of this process unless it is another's."""

    port: int
    server: Any = None

    def ask(
        self, *requests: tuple[str, str, bytes, dict[str, str]]
    ) -> list[tuple[int, dict[str, str], bytes]]:
        """Returns status, headers and body of every answer on one connection."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            answers = []
            for request in requests:
                connection.request(*request)
                answer = connection.getresponse()
                headers = {name.lower(): value for name, value in answer.headers.items()}
                answers.append((answer.status, headers, answer.read()))
            return answers

    def get(self, path: str) -> bytes:
        return self.ask(("GET", path, b"", {}))[0][2]

    def post(self, body: bytes) -> tuple[int, dict[str, str], Any]:
        """Returns the status, the headers and the JSON of an analysis."""
        ((status, headers, found),) = self.ask(("POST", "/v1/analyze", body, OCTETS))
        return status, headers, json.loads(found)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/v1/health"))
        return found

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, *pieces: bytes, end: bool = False) -> bytes:
        """Returns all that the server answers to pieces that arrive one after the other."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:  # it has hung up before it had heard all
                pass
            return read_all(connection)


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


@contextmanager
def serving(release: Path, *options: str) -> Iterator[tuple[Running, list[dict[str, Any]]]]:
    """Yields a server of the command line, and the lines of its log, filled once it has ended."""
    command = [sys.executable, "-m", "dermfuse", "serve", "--port", "0", "--threads", "1"]
    command += ["--release", str(release), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines: list[dict[str, Any]] = []
    try:
        assert process.stdout is not None
        yield Running(int(process.stdout.readline().rpartition(":")[2])), lines
    finally:
        process.terminate()
        _, logged = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)  # uvicorn ends by the signal it finished on
    lines += map(json.loads, logged.splitlines())


def read_all(connection: socket.socket) -> bytes:
    """Returns what comes until the server hangs up."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


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
def anyio_backend() -> str:
    return "asyncio"


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
    return encode_png(skin())


@pytest.fixture
def client(release: Path) -> Iterator[Client]:
    """Makes clients of applications in this process, by settings."""
    opened: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        app = create_app(ServerSettings(**{"release": release} | settings))
        opened.append(TestClient(app, follow_redirects=False))
        return opened[-1].__enter__()

    yield make
    for each in opened:
        each.__exit__(None, None, None)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The folder of a browser app."""
    folder = tmp_path / "app"
    for name in (
        "index.html", "sw.js", "model.onnx", "assets/ort.mjs", "assets/ort.wasm", "more/index.html",
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder
