"""Clients that do not read what they asked for, or read it slowly."""

import socket
import time
from pathlib import Path

import pytest

from dermfuse.server import service as service_module
from dermfuse.server.answers import Answer
from dermfuse.server.settings import Limits, ServerSettings

from .conftest import HEAD, Running, connect, read_all, running, wait_until

pytestmark = pytest.mark.usefixtures("no_faults")
LARGE = 20_000_000  # more than the buffers of both ends of a connection keep
LIMITS = Limits(upload_seconds=3.0, upload_bytes=LARGE, held_bytes=LARGE)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are large."""
    monkeypatch.setattr(service_module, "answer", lambda *_: Answer(bytes(LARGE), "benign"))


def ask(server: Running, *, sent: bytes) -> socket.socket:
    """Returns a connection with a small window that has asked for something."""
    connection = socket.socket()
    connection.settimeout(20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(sent)
    return connection


@pytest.mark.usefixtures("large")
def test_answers_that_nobody_reads_are_held_within_the_limit_and_cut_off(release: Path) -> None:
    with running(ServerSettings(release=release, limits=LIMITS)) as server:
        sent = HEAD + b"Content-Length: 1\r\n\r\nx"
        with ask(server, sent=sent) as idle, connect(server) as other:
            assert idle.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
            other.sendall(sent)
            assert other.recv(12) == b"HTTP/1.1 503"
            wait_until(lambda: not server.server.server_state.tasks)
            assert len(read_all(idle)) < LARGE
        wait_until(lambda: not server.server.server_state.connections)
        with ask(server, sent=sent.replace(b"Host", b"Connection: close\r\nHost")) as reader:
            assert len(read_all(reader)) > LARGE


def test_a_slow_reader_of_the_app_gets_all_of_a_file(release: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(bytes(3_000_000))
    settings = ServerSettings(
        release=release,
        app=tmp_path,
        limits=Limits(upload_seconds=0.5, held_bytes=LARGE, upload_bytes=1),
    )
    with running(settings) as server:
        asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        with ask(server, sent=asked) as connection:
            read, start = 0, time.monotonic()
            while piece := connection.recv(300_000):
                read += len(piece)
                time.sleep(0.05)
        assert time.monotonic() - start > 1.0
        assert read > 3_000_000


def test_a_file_of_the_app_that_nobody_reads_is_cut_off(release: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(bytes(LARGE))
    settings = ServerSettings(release=release, app=tmp_path, limits=LIMITS)
    with (
        running(settings) as server,
        ask(server, sent=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as idle,
    ):
        wait_until(lambda: bool(server.server.server_state.tasks))
        wait_until(lambda: not server.server.server_state.connections)
        assert len(read_all(idle)) < LARGE
