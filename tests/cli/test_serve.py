from pathlib import Path
from typing import Any

import pytest

from dermfuse.cli import console as extras_module
from dermfuse.cli import main
from dermfuse.folders import NOTICE
from dermfuse.server import protocol as running
from dermfuse.server.settings import ServerSettings

TOKEN = "0123456789abcdef"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ServerSettings, dict[str, Any]]]:
    """What a server was told, instead of a server."""
    calls: list[tuple[ServerSettings, dict[str, Any]]] = []

    def record(settings: ServerSettings, *, announce: Any, **address: Any) -> None:
        calls.append((settings, address))
        announce("http://127.0.0.1:1")

    monkeypatch.setattr(running, "serve", record)
    monkeypatch.delenv("DERMFUSE_TOKEN", raising=False)
    return calls


def test_a_server_is_this_machines_alone_unless_told_otherwise(
    served: list[tuple[ServerSettings, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve"]) == 0
    settings, address = served[0]
    assert address == {"host": "127.0.0.1", "port": 8000, "workers": 1}
    assert settings.token is None
    assert settings.threads >= 1
    captured = capsys.readouterr()
    assert captured.out == f"Serving at http://127.0.0.1:1\n\n{NOTICE}\n"
    assert captured.err == ""


def test_options_reach_the_server(
    served: list[tuple[ServerSettings, dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    options = ["--host", "0.0.0.0", "--port", "0", "--workers", "3", "--threads", "2"]
    options += ["--release", "r", "--app", "a", "--token-file", str(tmp_path / "token")]
    options += ["--looks", "4", "--root-path", "/l", "--trusted-proxies", "127.0.0.1, 10.0.0.0/8"]
    options += ["--max-mb", "0.5", "--waiting", "0", "--analysis-seconds", "7"]
    options += ["--max-pixels", "1000000"]
    assert main(["serve", *options]) == 0
    settings, address = served[0]
    assert address == {"host": "0.0.0.0", "port": 0, "workers": 3}
    assert (settings.release, settings.app) == (Path("r"), Path("a"))
    assert (settings.threads, settings.token, settings.looks) == (2, TOKEN, 4)
    assert settings.root_path == "/l"
    assert settings.trusted_proxies == ("127.0.0.1", "10.0.0.0/8")
    limits = settings.limits
    assert (limits.upload_bytes, limits.held_bytes) == (500_000, 5_000_000)
    assert (limits.waiting, limits.analysis_seconds, limits.pixels) == (0, 7.0, 1_000_000)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-mb", "0"], "upload_bytes is 0"),
        (["--max-mb", "nan"], "--max-mb is nan"),
        (["--max-mb", "inf"], "--max-mb is inf"),
        (["--max-pixels", "178000001"], "the limit is 178,000,001 pixels"),
        (["--analysis-seconds", "nan"], "analysis_seconds is nan"),
        (["--token-file", "missing"], "missing cannot be read"),
        (["--port", "65536"], "--port"),
        (["--looks", "3"], "looks is 3"),
        (["--root-path", "lesions"], 'the root path is "lesions"'),
        (["--trusted-proxies", "*"], 'the trusted proxy "*" is no address'),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_release_that_is_missing_is_told_before_any_worker_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for workers in ("1", "2"):
        options = ["--release", str(tmp_path / "none"), "--workers", workers, "--port", "0"]
        assert main(["serve", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "none is missing" in line


def test_without_the_extra_its_name_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras_module, "find_spec", lambda _: None)
    assert main(["serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install -e '.[serve]'" in line
