from pathlib import Path
from typing import Any

import pytest

from dermfuse.records.folders import NOTICE
from dermfuse.server import protocol
from dermfuse.server.settings import ServerSettings

from .conftest import Run

TOKEN = "0123456789abcdef"
Served = list[tuple[ServerSettings, dict[str, Any]]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What a server is started with, instead of a server."""
    calls: Served = []

    def record(settings: ServerSettings, *, announce: Any, **address: Any) -> None:
        calls.append((settings, address))
        announce("http://127.0.0.1:1")

    monkeypatch.setattr(protocol, "serve", record)
    monkeypatch.delenv("DERMFUSE_TOKEN", raising=False)
    return calls


def test_a_server_is_this_machines_alone_unless_asked_otherwise(served: Served, run: Run) -> None:
    said = run("serve")
    ((settings, address),) = served
    assert address == {"host": "127.0.0.1", "port": 8000, "workers": 1}
    assert settings.token is None
    assert settings.threads >= 1
    assert (said.out, said.err) == (f"Serving at http://127.0.0.1:1\n\n{NOTICE}\n", "")


def test_options_reach_the_server(served: Served, tmp_path: Path, run: Run) -> None:
    (tmp_path / "token").write_text(TOKEN)
    options = "--host 0.0.0.0 --port 0 --workers 3 --threads 2 --release r --app a --looks 4"
    options += " --root-path /l --max-mb 0.5 --waiting 0 --analysis-seconds 7 --max-pixels 1000000"
    proxies = "--trusted-proxies '127.0.0.1, 10.0.0.0/8' --token-file"
    run("serve", options, proxies, tmp_path / "token")
    ((settings, address),) = served
    assert address == {"host": "0.0.0.0", "port": 0, "workers": 3}
    assert (settings.release, settings.app) == (Path("r"), Path("a"))
    assert (settings.threads, settings.token, settings.looks) == (2, TOKEN, 4)
    assert (settings.root_path, settings.trusted_proxies) == ("/l", ("127.0.0.1", "10.0.0.0/8"))
    limits = settings.limits
    assert (limits.upload_bytes, limits.held_bytes) == (500_000, 5_000_000)
    assert (limits.waiting, limits.analysis_seconds, limits.pixels) == (0, 7.0, 1_000_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--max-mb nan", "--max-mb is nan"),
        ("--token-file missing", "missing cannot be read"),
        ("--port 65536", "--port"),
        ("--looks 3", "looks is 3"),
        ("--release none --workers 1 --port 0", "none is missing"),
        ("--release none --workers 2 --port 0", "none is missing"),
    ],
)
def test_what_cannot_be_used_is_one_line(options: str, said: str, run: Run) -> None:
    (error,) = run("serve", options, status=2).err.splitlines()
    assert said in error
