"""Servers that really listen: what a client over TCP can do to them."""

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.errors import ConfigError
from dermfuse.server import protocol
from dermfuse.server import service as service_module
from dermfuse.server.middleware import MOST_HEADERS
from dermfuse.server.protocol import HEAD_BYTES, PatientProtocol, listen, serve
from dermfuse.server.service import Answer
from dermfuse.server.settings import Limits, ServerSettings

from .conftest import HEAD, Held, Running, read_all, running, serving, wait_until

pytestmark = pytest.mark.usefixtures("no_faults")
NEXT = b"GET /v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /v1/analyze HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"
LARGE = 20_000_000  # more than the buffers of both ends of a connection keep
LIMITS = Limits(upload_seconds=3.0, upload_bytes=LARGE, held_bytes=LARGE)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for a head for a fraction of a second."""
    monkeypatch.setattr(PatientProtocol, "patience_seconds", 0.3)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


def test_who_hangs_up_leaves_a_full_queue_and_what_is_accepted_is_finished(
    release: Path, image: bytes, held: Held, pool: ThreadPoolExecutor
) -> None:
    with running(ServerSettings(release=release, limits=Limits(waiting=1))) as server:
        accepted = [pool.submit(server.post, image)]
        held.begun.acquire()
        with server.connect() as second:
            second.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            wait_until(lambda: server.health()["waiting"] == 1)
            status, headers, record = server.post(image)
            assert (status, "2 images" in record["error"]["found"]) == (503, True)
            assert int(headers["retry-after"]) >= 1
        wait_until(lambda: server.health()["waiting"] == 0)
        accepted.append(pool.submit(server.post, image))
        wait_until(lambda: server.health()["waiting"] == 1)
        server.server.should_exit = True
        wait_until(lambda: not _listens(server))
        assert not any(each.done() for each in accepted)
        held.may_end.set()
        assert [each.result()[::2] for each in accepted] == [(200, {"held": True})] * 2
    assert held.count == 2


def _listens(server: Running) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.usefixtures("impatient")
def test_slow_senders_are_cut_off_and_block_nobody(release: Path, image: bytes) -> None:
    limits = Limits(upload_seconds=0.3, waiting=1, upload_bytes=1_000_000)
    begun = {
        b"": b"",
        HEAD[:20]: b"",
        HEAD + b"Content-Length: 1000\r\n\r\nx": b"HTTP/1.1 408 ",
        # A body that is refused is dropped, and its connection closed.
        HEAD + b"Content-Length: 5000000\r\n\r\n" + bytes(500_000): b"HTTP/1.1 413 ",
    }
    with running(ServerSettings(release=release, limits=limits)) as server, ExitStack() as stack:
        slow = [(stack.enter_context(server.connect()), sent) for sent in begun for _ in range(10)]
        for connection, sent in slow:
            connection.sendall(sent)
        assert server.post(image)[0] == 200
        for connection, sent in slow:
            answer = read_all(connection)
            assert answer.startswith(begun[sent]) if begun[sent] else answer == b""


def test_a_body_that_breaks_the_protocol_is_refused(server: Running) -> None:
    for start in (b"POST /v1/analyze", b"HEAD /nothing"):
        head = HEAD.replace(b"POST /v1/analyze", start) + CHUNKED + b"\r\n"
        for sent in (head + b"no length\r\n", head + b"3\r\nabc\r\n-1\r\n"):
            assert server.send(sent, end=True).startswith(b"HTTP/1.1 400 ")


def test_a_connection_serves_one_request_after_the_other(server: Running, image: bytes) -> None:
    bodies = (image, b"no image", image)
    answers = server.ask(
        *(("POST", "/v1/analyze", body, {"Content-Type": "image/png"}) for body in bodies)
    )
    assert [status for status, _, _ in answers] == [200, 422, 200]


def head_of(size: int, *, letter: bytes = b"x") -> bytes:
    """Returns a head of so many bytes."""
    bare = NEXT[:-2] + b"X: \r\n\r\n"
    return bare.replace(b"X: ", b"X: " + letter * (size - len(bare)))


def test_a_head_of_the_limit_is_taken_and_a_larger_one_refused_wherever_it_comes(
    server: Running,
) -> None:
    head = head_of(HEAD_BYTES)
    assert len(head) == HEAD_BYTES
    for pieces in ((head,), (head[:9_000], head[9_000:])):
        assert server.send(*pieces).startswith(b"HTTP/1.1 200 ")
    for size in (HEAD_BYTES + 1, 200_000):
        target = NEXT.replace(b"/v1/health", b"/?" + b"x" * size)
        for sent in (head_of(size), target, head_of(size, letter=b" ")):
            answer = server.send(sent)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1
    answer = server.send(NEXT.replace(CLOSE, b"") + head_of(HEAD_BYTES + 1) + NEXT)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer


def test_many_small_headers_are_refused(server: Running) -> None:
    of_100 = NEXT[:-2] + b"a:\r\n" * (MOST_HEADERS - 2)
    assert server.send(of_100 + b"\r\n").startswith(b"HTTP/1.1 200 ")
    answer = server.send(of_100 + b"a:\r\n\r\n" + NEXT)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert f"{MOST_HEADERS + 1} headers".encode() in answer
    assert answer.count(b"HTTP/1.1 ") == 1


LENGTHS = (
    b": 5, 6", b": +5", b": -5", b": 0x5", b": 5 5", b":", b" : 5", b": 5\r\nContent-Length: 6",
)  # fmt: skip
ENCODINGS = (
    b" : chunked", b": gzip, chunked", b": chunked, identity", b": identity", b": xchunked",
    b": \x0bchunked", b":", b":\r\n chunked",
)  # fmt: skip
AMBIGUOUS = (
    *(POST + b"Content-Length" + value + b"\r\n" for value in LENGTHS),
    *(POST + b"Transfer-Encoding" + value + b"\r\n" for value in ENCODINGS),
    POST + b"Content-Length: 5\r\n" + CHUNKED,
    POST + CHUNKED + b"Content-Length: 5\r\n",
    POST + CHUNKED + CHUNKED,
    POST + b"X: a\rContent-Length: 5\r\n",
    POST + b"X: a\x00\r\n",
    POST + b"Host: b\r\n",
    POST.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED,
    POST.replace(b"HTTP/1.1", b"HTTP/1.9"),
    POST.replace(b"HTTP/1.1", b"HTTP/2.0"),
    POST.replace(b" /v1", b"  /v1"),
    POST.replace(b" HTTP", b"\tHTTP"),
    b" " + POST,
    POST.replace(b"a\r\n", b"a\n") + b"Content-Length: 5\r\n",
    POST + b"X: a\nContent-Length: 5\r\n",
    POST + b"X: a\r\n\tContent-Length: 5\r\n",
    POST.replace(b"POST", b"HEAD") + b"Content-Length: 5\r\n" + CHUNKED,
)


@pytest.mark.parametrize("head", AMBIGUOUS)
def test_a_head_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed(
    server: Running, head: bytes
) -> None:
    answer = server.send(head + b"\r\n0\r\n\r\n" + NEXT)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


def test_chunks_that_can_be_read_in_two_ways_close_the_connection(server: Running) -> None:
    for body in (
        b"0x3\r\nabc\r\n0\r\n", b"3 3\r\nabc\r\n0\r\n", b"-3\r\nabc\r\n0\r\n", b"3\nabc\n0\n\n",
        b"3;a\nb\r\nabc\r\n0\r\n", b"3\r\nabcXX0\r\n", b"1" * 30 + b"\r\nabc\r\n0\r\n", b"\r\n",
    ):  # fmt: skip
        answer = server.send(POST + CHUNKED + b"\r\n" + body + b"\r\n" + NEXT)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_in_crumbs_is_refused(server: Running, image: bytes) -> None:
    head = POST + CHUNKED + b"Content-Type: image/png\r\n" + CLOSE + b"\r\n"
    pieces = (image * 5)[:1_000]  # of a byte each: as many as are free
    crumbs = b"".join(b"1\r\n" + pieces[at : at + 1] + b"\r\n" for at in range(1_000))
    assert server.send(head, crumbs, b"0\r\n\r\n").startswith(b"HTTP/1.1 422 ")
    assert server.send(head, crumbs, b"1\r\nx\r\n0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    coarse = (b"40\r\n" + bytes(64) + b"\r\n") * 1_500
    assert server.send(head, coarse, b"0\r\n\r\n").startswith(b"HTTP/1.1 422 ")


_NAMES = st.sampled_from(
    [b"Content-Type", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"X-A"]
)
_VALUES = st.one_of(
    st.sampled_from(
        [b"chunked", b"100-continue", b"websocket", b"multipart/form-data; boundary=b", b"-1"]
    ),
    st.binary(max_size=20),
    st.integers(0, 100).map(lambda number: str(number).encode()),
    st.just(b"x" * 20_000),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes that look more or less like a request."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(min_size=1, max_size=200)) + b"\r\n\r\n"
    target = draw(st.sampled_from([b"/v1/analyze", b"/", b"/%00", b"/v1/model?%ff", b"*", b"x"]))
    headers = draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=4))
    method = draw(st.sampled_from([b"POST", b"GET", b"HEAD", b"\x00", b"OPTIONS"]))
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: a", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    parts = st.sampled_from([b"--b\r\n", b"--b--", b'Content-Disposition: form-data; name="file"'])
    body = draw(st.lists(st.one_of(parts, st.binary(max_size=50)), max_size=4))
    return b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(body)


@settings(max_examples=60, deadline=None)
@given(sent=requests())
def test_no_request_is_a_fault_of_the_server(sent: bytes, server: Running) -> None:
    assert not server.send(sent, end=True).startswith(b"HTTP/1.1 5")


def test_good_requests_are_answered_after_all_of_these(server: Running, image: bytes) -> None:
    assert server.post(image)[0] == 200
    wait_until(lambda: not server.server.server_state.tasks)


def ask(server: Running, *, sent: bytes) -> socket.socket:
    """Returns a connection with a small window that has asked for something."""
    connection = socket.socket()
    connection.settimeout(20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(sent)
    return connection


def test_answers_that_nobody_reads_are_held_within_the_limit_and_cut_off(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "answer", lambda *_: Answer(bytes(LARGE), "benign"))
    with running(ServerSettings(release=release, limits=LIMITS)) as server:
        sent = HEAD + b"Content-Length: 1\r\n\r\nx"
        with ask(server, sent=sent) as idle, server.connect() as other:
            assert idle.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
            other.sendall(sent)
            assert other.recv(12) == b"HTTP/1.1 503"
            wait_until(lambda: not server.server.server_state.tasks)
            assert len(read_all(idle)) < LARGE
        wait_until(lambda: not server.server.server_state.connections)
        with ask(server, sent=sent.replace(b"Host", CLOSE + b"Host")) as reader:
            assert len(read_all(reader)) > LARGE


def test_a_slow_reader_of_the_app_gets_all_of_a_file(release: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(bytes(3_000_000))
    limits = Limits(upload_seconds=0.5, held_bytes=LARGE, upload_bytes=1)
    with running(ServerSettings(release=release, app=tmp_path, limits=limits)) as server:
        sent = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        with ask(server, sent=sent) as connection:
            read, start = 0, time.monotonic()
            while piece := connection.recv(300_000):
                read += len(piece)
                time.sleep(0.05)
    assert time.monotonic() - start > 1.0
    assert read > 3_000_000


def test_an_address_that_is_taken_is_refused(release: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}, cannot be listened on"):
            serve(ServerSettings(release=release), host="127.0.0.1", port=port)
    with pytest.raises(ConfigError, match="workers is 0"):
        serve(ServerSettings(release=release), host="127.0.0.1", port=0, workers=0)


def test_one_process_or_several_serve_on_one_socket(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran, announced = list[tuple[int, bool, bool]](), list[str]()

    class Stub:
        def __init__(self, config: uvicorn.Config, sockets: object = None) -> None:
            self.config = config

        def run(self, sockets: object = None) -> None:
            shared = protocol.MULTIPROCESS in os.environ
            ran.append((self.config.workers, self.config.factory, shared))
            raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn, "Server", Stub)
    monkeypatch.setattr(protocol, "Multiprocess", Stub)
    for workers, host in ((1, "127.0.0.1"), (2, "0.0.0.0")):
        one = ServerSettings(release=release)
        serve(one, host=host, port=0, workers=workers, announce=announced.append)
    logged = json.loads(capsys.readouterr().err)
    assert logged["event"].startswith("listening on 0.0.0.0 without a token")
    assert ran == [(1, False, False), (2, True, True)]
    assert [each.rpartition(":")[0] for each in announced] == ["http://127.0.0.1", "http://0.0.0.0"]
    assert protocol.MULTIPROCESS not in os.environ


@pytest.mark.slow
def test_workers_share_an_address_and_add_up_what_they_count(release: Path, image: bytes) -> None:
    with serving(release, "--workers", "2") as (server, _):
        for _ in range(12):
            assert server.post(image)[0] == 200
        counts = server.get("/metrics").decode()
    assert 'dermfuse_requests_total{route="/v1/analyze",status="200"} 12.0' in counts
    assert "dermfuse_analyses_running 0.0" in counts
