"""Heads that are too large, and requests that end in two places, over raw sockets."""

import pytest

from dermfuse.server.protocol import HEAD_BYTES
from dermfuse.server.routes import HEADERS

from .conftest import Running, connect, read_all

pytestmark = pytest.mark.usefixtures("no_faults")
NEXT = b"GET /v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /v1/analyze HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def heard(server: Running, *pieces: bytes) -> bytes:
    """Returns all that the server says to pieces that arrive one after the other."""
    with connect(server) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:  # it has hung up
                break
        return read_all(connection)


def head_of(size: int) -> bytes:
    """Returns a head of so many bytes."""
    bare = b"GET /v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: \r\n\r\n"
    return bare.replace(b"X: ", b"X: " + b"x" * (size - len(bare)))


def many_headers(count: int) -> bytes:
    """Returns a head of so many headers."""
    return NEXT[:-2] + b"a:\r\n" * (count - 2) + b"\r\n"


def test_a_head_of_the_limit_is_taken_at_once_and_in_pieces(server: Running) -> None:
    head = head_of(HEAD_BYTES)
    assert len(head) == HEAD_BYTES
    assert heard(server, head).startswith(b"HTTP/1.1 200 ")
    assert heard(server, head[:9_000], head[9_000:]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [HEAD_BYTES + 1, 60_000, 200_000])
def test_a_larger_head_is_refused_even_where_it_comes_at_once(server: Running, size: int) -> None:
    head = head_of(size)
    target = b"GET /?" + b"x" * (size - 45) + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    padded = head.replace(b"x" * (size - 100), b" " * (size - 100))
    for sent in (head, target, padded):
        assert len(sent) >= size
        answer = heard(server, sent)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_larger_head_behind_another_request_is_refused(server: Running) -> None:
    first = NEXT.replace(b"Connection: close\r\n", b"")
    answer = heard(server, first + head_of(HEAD_BYTES + 1) + NEXT)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer


def test_many_small_headers_are_refused(server: Running) -> None:
    assert heard(server, many_headers(HEADERS)).startswith(b"HTTP/1.1 200 ")
    answer = heard(server, many_headers(HEADERS + 1) + NEXT)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert f"{HEADERS + 1} headers".encode() in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 5\r\n" + CHUNKED,
        POST + CHUNKED + b"Content-Length: 5\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        POST + b"Content-Length: 5, 6\r\n",
        POST + b"Content-Length: +5\r\n",
        POST + b"Content-Length: -5\r\n",
        POST + b"Content-Length: 0x5\r\n",
        POST + b"Content-Length: 5 5\r\n",
        POST + b"Content-Length:\r\n",
        POST + b"Content-Length : 5\r\n",
        POST + CHUNKED + CHUNKED,
        POST + b"Transfer-Encoding : chunked\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n",
        POST + b"Transfer-Encoding: identity\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n",
        POST + b"Transfer-Encoding:\r\n",
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
        POST + b"Transfer-Encoding:\r\n chunked\r\n",
        POST + b"X: a\r\n\tContent-Length: 5\r\n",
        POST.replace(b"POST", b"HEAD") + b"Content-Length: 5\r\n" + CHUNKED,
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed(
    server: Running, head: bytes
) -> None:
    answer = heard(server, head + b"\r\n0\r\n\r\n" + NEXT)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3 3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcXX0\r\n\r\n",
        b"1" * 30 + b"\r\nabc\r\n0\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_chunks_that_can_be_read_in_two_ways_close_the_connection(
    server: Running, body: bytes
) -> None:
    answer = heard(server, POST + CHUNKED + b"\r\n" + body + NEXT)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_in_crumbs_is_refused(server: Running, image: bytes) -> None:
    head = POST + CHUNKED + b"Content-Type: image/png\r\nConnection: close\r\n\r\n"
    pieces = (image * 5)[:1_000]  # of a byte each: as many as are free
    crumbs = b"".join(b"1\r\n" + pieces[at : at + 1] + b"\r\n" for at in range(1_000))
    assert heard(server, head, crumbs, b"0\r\n\r\n").startswith(b"HTTP/1.1 422 ")
    assert heard(server, head, crumbs, b"1\r\nx\r\n", NEXT).startswith(b"HTTP/1.1 400 ")
    coarse = b"".join(b"40\r\n" + image[at : at + 64] + b"\r\n" for at in range(0, 640, 64))
    assert heard(server, head, coarse * 150, b"0\r\n\r\n").startswith(
        (b"HTTP/1.1 200 ", b"HTTP/1.1 422 ")
    )
