"""Servers that really listen: what a client over TCP can do to them."""

import http.client
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dermfuse.errors import ConfigError
from dermfuse.server import protocol as running_module
from dermfuse.server.protocol import PatientProtocol, listen, serve
from dermfuse.server.settings import Limits, ServerSettings

from .conftest import HEAD, Held, Running, connect, read_all, running, send, wait_until

pytestmark = pytest.mark.usefixtures("no_faults")


def test_a_full_queue_answers_503_and_when_to_come_again(
    release: Path, image: bytes, held: Held
) -> None:
    limits = Limits(waiting=1)
    with (
        running(ServerSettings(release=release, limits=limits)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        accepted = [pool.submit(server.post, image) for _ in range(2)]
        held.begun.acquire()
        wait_until(lambda: _health(server)["waiting"] == 1)
        status, headers, record = server.post(image)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert "2 images" in record["error"]["found"]
        held.may_end.set()
        assert [each.result()[0] for each in accepted] == [200, 200]
        assert server.post(image)[0] == 200


def test_an_accepted_request_is_finished_when_the_server_ends(
    release: Path, image: bytes, held: Held
) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        running(ServerSettings(release=release)) as server,
    ):
        accepted = pool.submit(server.post, image)
        held.begun.acquire()
        server.server.should_exit = True
        wait_until(lambda: not _listens(server))
        assert not accepted.done()
        held.may_end.set()
        assert accepted.result()[::2] == (200, {"held": True})


def test_a_client_that_hangs_up_leaves_the_queue(release: Path, image: bytes, held: Held) -> None:
    with running(ServerSettings(release=release)) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, image)
        held.begun.acquire()
        with connect(server) as second:
            second.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            wait_until(lambda: _health(server)["waiting"] == 1)
        wait_until(lambda: _health(server)["waiting"] == 0)
        held.may_end.set()
        assert first.result()[0] == 200
    assert held.count == 1


def test_slow_senders_are_cut_off_and_block_nobody(
    release: Path, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "patience_seconds", 0.3)
    limits = Limits(upload_seconds=0.3, waiting=1)
    with running(ServerSettings(release=release, limits=limits)) as server:
        silent = [connect(server) for _ in range(10)]
        heads = [connect(server) for _ in range(10)]
        bodies = [connect(server) for _ in range(10)]
        for each in heads:
            each.sendall(HEAD[:20])
        for each in bodies:
            each.sendall(HEAD + b"Content-Length: 1000\r\n\r\nx")
        assert server.post(image)[0] == 200
        for each in silent + heads:
            assert read_all(each) == b""
            each.close()
        for each in bodies:
            assert read_all(each).startswith(b"HTTP/1.1 408 ")
            each.close()


def test_a_refused_body_is_dropped_and_its_connection_closed(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "patience_seconds", 0.3)
    limits = Limits(upload_bytes=1_000)
    with (
        running(ServerSettings(release=release, limits=limits)) as server,
        connect(server) as connection,
    ):
        connection.sendall(HEAD + b"Content-Length: 5000000\r\n\r\n" + bytes(500_000))
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
@pytest.mark.parametrize("target", [b"/v1/analyze", b"/nothing"])
def test_a_body_that_breaks_the_protocol_is_refused(
    target: bytes, method: bytes, server: Running
) -> None:
    head = HEAD.replace(b"POST /v1/analyze", method + b" " + target)
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    for sent in (head + b"no length\r\n", head + b"3\r\nabc\r\n-1\r\n"):
        assert send(sent, server).startswith(b"HTTP/1.1 400 ")


def test_a_connection_serves_one_request_after_the_other(server: Running, image: bytes) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        for body, status in ((image, 200), (b"no image", 422), (image, 200)):
            connection.request("POST", "/v1/analyze", body, {"Content-Type": "image/png"})
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_logs_name_neither_file_nor_query_nor_content(
    server: Running, image: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="doe-john.png"\r\n\r\n'
        + image
        + b"\r\n--b--\r\n"
    )
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Content-Type": "multipart/form-data; boundary=b", "X-Request-ID": "doe"}
        connection.request("POST", "/v1/analyze?overlays=outline", form, headers)
        connection.getresponse().read()
        connection.request("GET", "/doe-john.png?doe=1", headers={"User-Agent": "doe"})
        connection.getresponse().read()
        connection.request("DOE", "/v1/health")
        connection.getresponse().read()
    logged = ""

    def all_logged() -> bool:
        nonlocal logged
        logged += capsys.readouterr().err
        return logged.count("\n") >= 3

    wait_until(all_logged)
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["status"] for line in lines] == [200, 404, 405]
    assert [line["route"] for line in lines] == ["/v1/analyze", "other", "/v1/health"]
    assert lines[0]["received_bytes"] == len(form)
    assert "doe" not in logged.lower()
    assert "outline" not in logged
    assert "127.0.0.1" not in logged


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
    assert not send(sent, server).startswith(b"HTTP/1.1 5")


@pytest.mark.slow
def test_ten_thousand_odd_requests_beside_slow_senders_cost_no_good_request(
    server: Running, image: bytes
) -> None:
    sent = 0
    slow = [connect(server) for _ in range(50)]
    for each in slow:
        each.sendall(HEAD + b"Content-Length: 1000\r\n\r\nx")

    @settings(max_examples=10_000, deadline=None, database=None, phases=[Phase.generate])
    @given(odd=requests())
    def all_of_them(odd: bytes) -> None:
        nonlocal sent
        assert not send(odd, server).startswith(b"HTTP/1.1 5")
        sent += 1
        if sent % 100 == 0:
            assert server.post(image)[0] == 200

    all_of_them()
    assert sent >= 5_000
    for each in slow:
        each.close()


def test_good_requests_are_answered_after_all_of_these(server: Running, image: bytes) -> None:
    assert server.post(image)[0] == 200
    wait_until(lambda: not server.server.server_state.tasks)


def test_an_address_that_is_taken_is_told_in_one_line(release: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}, cannot be listened on"):
            serve(ServerSettings(release=release), host="127.0.0.1", port=port)
    with pytest.raises(ConfigError, match="workers is 0"):
        serve(ServerSettings(release=release), host="127.0.0.1", port=0, workers=0)


def test_one_process_or_several_serve_on_one_socket(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[int, bool, bool]] = []
    announced: list[str] = []

    class Stub:
        def __init__(self, config: uvicorn.Config, sockets: object = None) -> None:
            self.config = config

        def run(self, sockets: object = None) -> None:
            shared = running_module.MULTIPROCESS in running_module.os.environ
            ran.append((self.config.workers, self.config.factory, shared))
            raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn, "Server", Stub)
    monkeypatch.setattr(running_module, "Multiprocess", Stub)
    given_settings = ServerSettings(release=release)
    for workers, host in ((1, "127.0.0.1"), (2, "0.0.0.0")):
        serve(given_settings, host=host, port=0, workers=workers, announce=announced.append)
    logged = capsys.readouterr().err
    assert json.loads(logged)["event"].startswith("listening on 0.0.0.0 without a token")
    assert ran == [(1, False, False), (2, True, True)]
    assert [address.rpartition(":")[0] for address in announced] == [
        "http://127.0.0.1", "http://0.0.0.0"
    ]  # fmt: skip
    assert running_module.MULTIPROCESS not in running_module.os.environ


def _health(server: Running) -> dict[str, int]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/v1/health")
        found: dict[str, int] = json.loads(connection.getresponse().read())
        return found


def _listens(server: Running) -> bool:
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.slow
def test_workers_share_an_address_and_add_up_what_they_count(release: Path, image: bytes) -> None:
    command = [sys.executable, "-m", "dermfuse", "serve", "--port", "0", "--workers", "2"]
    command += ["--threads", "1", "--release", str(release)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    try:
        for _ in range(12):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request("POST", "/v1/analyze", image, {"Content-Type": "image/png"})
                assert connection.getresponse().status == 200
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            counts = connection.getresponse().read().decode()
        assert 'dermfuse_requests_total{route="/v1/analyze",status="200"} 12.0' in counts
        assert "dermfuse_analyses_running 0.0" in counts
    finally:
        process.terminate()
        _, logged = process.communicate()
    assert process.returncode == 0
    assert all(json.loads(line) for line in logged.splitlines())
