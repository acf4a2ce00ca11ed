from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.settings import Limits, ServerSettings, load_token

from .conftest import TOKEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("upload_bytes", 0),
        ("waiting", -1),
        ("upload_seconds", 0.0),
        ("analysis_seconds", float("nan")),
        ("analysis_seconds", float("inf")),
        ("connections", 0),
        ("pixels", 0),
    ],
)
def test_a_limit_that_lets_nothing_in_or_everything_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        Limits(**{name: value})


def test_one_upload_must_fit_into_what_may_be_held() -> None:
    with pytest.raises(ConfigError, match="room for one upload"):
        Limits(upload_bytes=2, held_bytes=1)


ROOT = "the root path is"
NO_ADDRESS = "is no address"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *(
            ({"root_path": path}, ROOT)
            for path in ("lesions", "/lesions/", "/", "//a", "/a b", "/..", "http://a")
        ),
        *(
            ({"trusted_proxies": (address,)}, NO_ADDRESS)
            for address in ("*", "proxy", "10.0.0.0/33", "")
        ),
        ({"threads": 0}, "threads is 0"),
        ({"looks": 3}, "looks is 3"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServerSettings(**changed)


def test_settings_do_not_show_the_token() -> None:
    proxies = ("127.0.0.1", "::1", "10.0.0.0/8")
    settings = ServerSettings(token=TOKEN, root_path="/a/lesions-2.0", trusted_proxies=proxies)
    assert TOKEN not in repr(settings)


def test_a_token_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    file, variable = tmp_path / "token", {"DERMFUSE_TOKEN": TOKEN}
    with pytest.raises(ConfigError, match="No such file"):
        load_token(file, {})
    file.write_text(f"{TOKEN}\n")
    assert load_token(file, {}) == TOKEN
    assert load_token(None, variable) == TOKEN
    assert load_token(None, {}) is None
    with pytest.raises(ConfigError, match="one of them"):
        load_token(file, variable)


@pytest.mark.parametrize("token", ["", "short", "0123456789 abcdef", "0123456789abcdef\u00e9"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="openssl rand"):
        load_token(None, {"DERMFUSE_TOKEN": token})
