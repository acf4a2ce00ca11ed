"""Methods, unknown paths, proxies and the browser app's files: where an address leads."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.pages import BrowserApp
from dermfuse.server.protocol import server_config
from dermfuse.server.settings import ServerSettings

from .conftest import FORGED, OCTETS, Client, running

READ = ("/", "/docs", "/openapi.json", "/metrics", "/v1/health", "/v1/model")
OTHERS = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
UNKNOWN = ("/none", "/v1", "/v1/health/", "/docs/", "/v1/analyze/")


@pytest.fixture(params=["without", "with"])
def app(request: pytest.FixtureRequest, built: Path) -> Path | None:
    """The folder of a browser app, or None."""
    return built if request.param == "with" else None


def test_head_is_get_without_a_body(app: Path | None, client: Client) -> None:
    server = client(app=app)
    for path in READ:
        got, asked = server.get(path), server.head(path)
        assert (got.status_code, bool(got.content)) == (200, True)
        assert (asked.status_code, asked.content) == (200, b"")
        assert int(asked.headers["content-length"]) > 0
        own = {"x-request-id"} | ({"content-length"} if path == "/metrics" else set())
        headers = [{k: v for k, v in each.headers.items() if k not in own} for each in (got, asked)]
        assert headers[0] == headers[1]


def test_other_methods_are_405_with_what_is_allowed_and_unknown_paths_404(
    app: Path | None, client: Client, image: bytes
) -> None:
    server = client(app=app)
    files = ("/assets/ort.mjs",) if app else ()
    for path, methods, allowed in (
        *((path, OTHERS, "GET, HEAD, OPTIONS") for path in (*READ, *files)),
        ("/v1/analyze", ("GET", "HEAD", "PUT", "DELETE"), "OPTIONS, POST"),
    ):
        for method in methods:
            answer = server.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert answer.headers["allow"] == allowed
            assert method == "HEAD" or answer.json()["error"]["kind"] == "RefusedError"
            assert bool(answer.content) == (method != "HEAD")
        options = server.options(path)
        assert (options.status_code, options.content) == (204, b"")
        for method in options.headers["allow"].split(", "):
            answer = server.request(method, path, content=image, headers=OCTETS)
            assert answer.status_code in (200, 204), (method, path)
    for path in UNKNOWN:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
            answer = server.request(method, path)
            assert answer.status_code == 404, (method, path)
            assert "location" not in answer.headers
    assert server.get("/none").json()["error"]["found"]


def test_a_head_request_leaves_a_connection_in_order(release: Path, app: Path | None) -> None:
    asked = {
        ("HEAD", "/v1/health"): 200,
        ("HEAD", "/none"): 404,
        ("HEAD", "/v1/analyze"): 405,
        ("HEAD", "/"): 200,
        ("OPTIONS", "/v1/analyze"): 204,
        ("GET", "/v1/health"): 200,
    }
    with running(ServerSettings(release=release, app=app)) as server:
        answers = server.ask(*((method, path, b"", {}) for method, path in asked))
    assert [status for status, _, _ in answers] == list(asked.values())
    assert [bool(body) for _, _, body in answers] == [method == "GET" for method, _ in asked]


def test_no_address_leads_to_another_host_whatever_a_request_claims(
    app: Path | None, release: Path
) -> None:
    settings = ServerSettings(
        release=release, app=app, root_path="/lesions", trusted_proxies=("127.0.0.1",)
    )
    paths = (
        "/v1/health/", "/v1/analyze/", "/docs/", "/metrics/", "/lesions/v1/health/",
        "//evil.example/v1/health/", "/more", "//more", "/lesions", "//evil.example/..",
        "/%2f%2fevil.example/", "/\\evil.example/",
    )  # fmt: skip
    methods = ("GET", "HEAD", "POST", "OPTIONS")
    asked = [(method, path, b"", FORGED) for path in paths for method in methods]
    with running(settings) as server:
        answers = server.ask(*asked)
    for (status, headers, body), (method, path, _, _) in zip(answers, asked, strict=True):
        where = headers.get("location", "./")
        assert where.startswith("./"), (method, path, where)
        assert status != 307 or where.endswith("/")
        assert status < 500
        assert not {"ftp", "203.0.113.9"} & {*headers.values()}
        assert b"203.0.113.9" not in body
        if app and (method, path) == ("GET", "/more"):
            assert where == "./more/"


def test_addresses_are_known_with_the_proxys_path_and_without_it(
    client: Client, built: Path
) -> None:
    server = client(root_path="/lesions")
    for path in ("/v1/health", "/lesions/v1/health"):
        assert server.get(path).json()["status"] == "ok"
    assert server.get("/other/v1/health").status_code == 404
    assert server.get("/openapi.json").json()["servers"] == [{"url": "/lesions"}]
    assert "servers" not in client().get("/openapi.json", headers=FORGED).json()
    for path in ("/", "/docs"):
        assert 'href="/' not in server.get(path, headers=FORGED).text
    home = server.get("/").text
    for path in ("docs", "openapi.json", "v1/model", "v1/health", "metrics"):
        assert f'href="{path}"' in home
        assert server.get(f"/{path}").status_code == 200
    with_app = client(app=built, root_path="/lesions")
    for path in ("/assets/ort.mjs", "/lesions/assets/ort.mjs"):
        assert "immutable" in with_app.get(path).headers["cache-control"]


def test_forwarding_headers_are_believed_of_trusted_addresses_alone(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    seen: list[tuple[str, str]] = []

    async def app(scope: dict[str, Any], receive: object, send: object) -> None:
        seen.append((scope["scheme"], scope["client"][0]))

    headers = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"203.0.113.9")]
    for trusted, client, expected in (
        ((), "127.0.0.1", ("http", "127.0.0.1")),
        (("127.0.0.1",), "127.0.0.1", ("https", "203.0.113.9")),
        (("127.0.0.1",), "192.0.2.1", ("http", "192.0.2.1")),
        (("10.0.0.0/8",), "10.1.2.3", ("https", "203.0.113.9")),
    ):
        config = server_config(ServerSettings(release=release, trusted_proxies=trusted), app)
        config.load()
        scope = {"type": "http", "scheme": "http", "client": (client, 1), "headers": headers}
        asyncio.run(config.loaded_app(scope, None, None))
        assert seen.pop() == expected


def test_files_of_the_app_have_the_types_that_browsers_ask_for(client: Client, built: Path) -> None:
    server = client(app=built)
    for path, content_type, kept in (
        ("/", "text/html; charset=utf-8", "no-cache"),
        ("/assets/ort.mjs", "text/javascript; charset=utf-8", "immutable"),
        ("/assets/ort.wasm", "application/wasm", "immutable"),
        ("/model.onnx", "application/octet-stream", "no-cache"),
        ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
    ):
        answer = server.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == content_type
        assert kept in answer.headers["cache-control"]
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        again = server.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert server.get("/v1/health").json()["status"] == "ok"
    assert "Interface" in server.get("/docs").text
    assert server.get("/more/").text == "more/index.html"


def test_nothing_outside_the_apps_folder_is_served(
    client: Client, built: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (built / "link").symlink_to(tmp_path / "secret")
    server = client(app=built)
    for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "/link", "/assets/%00"):
        assert server.get(path).status_code == 404
    with pytest.raises(ConfigError, match=r"holds no index\.html"):
        BrowserApp(tmp_path)
