"""HEAD, OPTIONS and methods that an address does not know, with and without the browser app."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest

from dermfuse.server.settings import ServerSettings

from .conftest import OCTETS, Client, running

READ = ("/", "/docs", "/openapi.json", "/metrics", "/v1/health", "/v1/model")
OTHERS = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")


@pytest.fixture(params=["without", "with"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The folder of a browser app, or None."""
    if request.param == "without":
        return None
    folder = tmp_path / "app"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "a.js").write_text("1")
    return folder


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_a_body(path: str, app: Path | None, client: Client) -> None:
    server = client(app=app)
    got, asked = server.get(path), server.head(path)
    assert (got.status_code, asked.status_code) == (200, 200)
    assert got.content
    assert asked.content == b""
    own = {"x-request-id"} | ({"content-length"} if path == "/metrics" else set())
    headers = [{k: v for k, v in each.headers.items() if k not in own} for each in (got, asked)]
    assert headers[0] == headers[1]
    assert int(asked.headers["content-length"]) > 0


@pytest.mark.parametrize("path", READ)
def test_another_method_is_refused_with_what_is_allowed(
    path: str, app: Path | None, client: Client
) -> None:
    server = client(app=app)
    for method in OTHERS:
        answer = server.request(method, path)
        assert answer.status_code == 405, method
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert answer.json()["error"]["kind"] == "RefusedError"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_images_are_posted(method: str, app: Path | None, client: Client) -> None:
    answer = client(app=app).request(method, "/v1/analyze")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "OPTIONS, POST"
    assert bool(answer.content) == (method != "HEAD")


def test_every_allowed_method_is_answered(app: Path | None, client: Client, image: bytes) -> None:
    server = client(app=app)
    for path in (*READ, "/v1/analyze"):
        options = server.options(path)
        assert (options.status_code, options.content) == (204, b"")
        for method in options.headers["allow"].split(", "):
            answer = server.request(method, path, content=image, headers=OCTETS)
            assert answer.status_code in (200, 204), (method, path)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/none", "/v1", "/v1/health/", "/docs/", "/v1/analyze/"])
def test_an_unknown_path_is_404_by_any_method(
    method: str, path: str, app: Path | None, client: Client
) -> None:
    answer = client(app=app).request(method, path, follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_a_file_of_the_app_is_read_alone(app: Path | None, client: Client) -> None:
    if app is None:
        return
    server = client(app=app)
    assert server.head("/assets/a.js").headers["content-length"] == "1"
    assert server.post("/assets/a.js").headers["allow"] == "GET, HEAD, OPTIONS"
    assert server.options("/assets/a.js").status_code == 204


def test_a_head_request_leaves_a_connection_in_order(release: Path, app: Path | None) -> None:
    with (
        running(ServerSettings(release=release, app=app)) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection,
    ):
        for method, path, status in (
            ("HEAD", "/v1/health", 200),
            ("HEAD", "/none", 404),
            ("HEAD", "/v1/analyze", 405),
            ("HEAD", "/", 200),
            ("OPTIONS", "/v1/analyze", 204),
            ("GET", "/v1/health", 200),
        ):
            connection.request(method, path)
            answer = connection.getresponse()
            assert answer.status == status, (method, path)
            assert bool(answer.read()) == (method == "GET")
