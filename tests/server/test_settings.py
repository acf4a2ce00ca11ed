from typing import Any

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.settings import Limits, ServerSettings


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


@pytest.mark.parametrize("path", ["lesions", "/lesions/", "/", "//a", "/a b", "/..", "http://a"])
def test_a_root_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="the root path is"):
        ServerSettings(root_path=path)
    assert ServerSettings(root_path="/a/lesions-2.0").root_path == "/a/lesions-2.0"


@pytest.mark.parametrize("address", ["*", "proxy", "10.0.0.0/33", ""])
def test_only_addresses_are_trusted(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        ServerSettings(trusted_proxies=(address,))
    ServerSettings(trusted_proxies=("127.0.0.1", "::1", "10.0.0.0/8"))


def test_settings_do_not_show_the_token() -> None:
    assert "secret" not in repr(ServerSettings(token="secret"))
    with pytest.raises(ConfigError, match="threads is 0"):
        ServerSettings(threads=0)
    with pytest.raises(ConfigError, match="looks is 3"):
        ServerSettings(looks=3)
