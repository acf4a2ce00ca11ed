from pathlib import Path

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.pages import BrowserApp

from .conftest import FORGED, Client


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    for name in ("index.html", "assets/ort.mjs", "assets/ort.wasm", "model.onnx", "sw.js"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.mark.parametrize(
    ("path", "content_type", "kept"),
    [
        ("/", "text/html; charset=utf-8", "no-cache"),
        ("/assets/ort.mjs", "text/javascript; charset=utf-8", "immutable"),
        ("/assets/ort.wasm", "application/wasm", "immutable"),
        ("/model.onnx", "application/octet-stream", "no-cache"),
        ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
    ],
)
def test_files_have_the_types_that_browsers_ask_for(
    path: str, content_type: str, kept: str, client: Client, built: Path
) -> None:
    answer = client(app=built).get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert kept in answer.headers["cache-control"]
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"


def test_a_file_that_has_not_changed_is_not_sent_again(client: Client, built: Path) -> None:
    server = client(app=built)
    tag = server.get("/model.onnx").headers["etag"]
    assert server.get("/model.onnx", headers={"If-None-Match": tag}).status_code == 304


def test_the_interface_lies_before_the_app(client: Client, built: Path) -> None:
    server = client(app=built)
    assert server.get("/v1/health").json()["status"] == "ok"
    assert "Interface" in server.get("/docs").text
    missing = server.get("/missing.js")
    assert missing.status_code == 404
    assert missing.json()["error"]["found"]


def test_a_folder_without_its_trailing_slash_is_redirected_to_by_a_relative_address(
    client: Client, built: Path
) -> None:
    (built / "more").mkdir()
    (built / "more" / "index.html").write_text("more")
    answer = client(app=built).get("/more", headers=FORGED, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == "./more/"
    assert client(app=built).get("/more").text == "more"


def test_files_are_found_below_the_path_that_a_proxy_shows(client: Client, built: Path) -> None:
    server = client(app=built, root_path="/lesions")
    for path in ("/assets/ort.mjs", "/lesions/assets/ort.mjs"):
        answer = server.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def test_nothing_outside_the_folder_is_served(client: Client, built: Path) -> None:
    (built.parent / "secret").write_text("secret")
    (built / "link").symlink_to(built.parent / "secret")
    server = client(app=built)
    for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "/link", "/assets/%00"):
        assert server.get(path).status_code == 404


def test_a_folder_without_an_app_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no index\.html"):
        BrowserApp(tmp_path)
