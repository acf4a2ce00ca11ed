"""Behind a proxy: no answer leads to another host or scheme, whatever a request claims."""

import asyncio
import http.client
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dermfuse.server.protocol import server_config
from dermfuse.server.settings import ServerSettings

from .conftest import FORGED, Client, running


@pytest.mark.parametrize("with_app", [False, True])
def test_a_stroke_too_much_leads_nowhere(with_app: bool, release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    (folder / "assets" / "more").mkdir(parents=True)
    for part in (folder, folder / "assets" / "more"):
        (part / "index.html").write_text("page")
    settings = ServerSettings(
        release=release,
        app=folder if with_app else None,
        root_path="/lesions",
        trusted_proxies=("127.0.0.1",),
    )
    with (
        running(settings) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection,
    ):
        for path in (
            "/v1/health/", "/v1/analyze/", "/docs/", "/metrics/", "/lesions/v1/health/",
            "//evil.example/v1/health/", "/assets/more", "//assets/more", "/lesions",
            "//evil.example/..", "/%2f%2fevil.example/", "/\\evil.example/",
        ):  # fmt: skip
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                connection.request(method, path, headers=FORGED)
                answer = connection.getresponse()
                body = answer.read()
                where = answer.headers.get("Location", "./")
                assert where.startswith("./"), (method, path, where)
                assert answer.status != 307 or where.endswith("/")
                assert answer.status < 500
                told = b"".join(f"{k}: {v}".encode() for k, v in answer.headers.items()) + body
                assert b"ftp" not in told
                assert b"203.0.113.9" not in told
        assert not with_app or _location(connection, "/assets/more") == "./more/"


def _location(connection: http.client.HTTPConnection, path: str) -> str | None:
    connection.request("GET", path, headers=FORGED)
    answer = connection.getresponse()
    answer.read()
    return answer.headers.get("Location")


def test_addresses_are_known_with_the_proxys_path_and_without_it(client: Client) -> None:
    server = client(root_path="/lesions")
    for path in ("/v1/health", "/lesions/v1/health"):
        assert server.get(path).json()["status"] == "ok"
    assert server.get("/other/v1/health").status_code == 404
    assert server.get("/openapi.json").json()["servers"] == [{"url": "/lesions"}]
    assert "servers" not in client().get("/openapi.json", headers=FORGED).json()


def test_the_pages_lead_on_by_relative_addresses(client: Client) -> None:
    server = client(root_path="/lesions")
    for path in ("/", "/docs"):
        assert 'href="/' not in server.get(path, headers=FORGED).text
    home = server.get("/").text
    for path in ("docs", "openapi.json", "v1/model", "v1/health", "metrics"):
        assert f'href="{path}"' in home
        assert server.get(f"/{path}").status_code == 200


@pytest.mark.parametrize(
    ("trusted", "client_address", "believed"),
    [
        ((), "127.0.0.1", False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "192.0.2.1", False),
        (("10.0.0.0/8",), "10.1.2.3", True),
    ],
)
def test_forwarding_headers_are_believed_of_trusted_addresses_alone(
    trusted: tuple[str, ...],
    client_address: str,
    believed: bool,
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    seen: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: object, send: object) -> None:
        seen.append(scope)

    config = server_config(ServerSettings(release=release, trusted_proxies=trusted), app)
    config.load()
    headers = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"203.0.113.9")]
    scope = {"type": "http", "scheme": "http", "client": (client_address, 1), "headers": headers}
    asyncio.run(config.loaded_app(scope, None, None))  # type: ignore[arg-type]
    expected = ("https", "203.0.113.9") if believed else ("http", client_address)
    assert (seen[0]["scheme"], seen[0]["client"][0]) == expected
