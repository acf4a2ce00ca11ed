from pathlib import Path

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.routes import load_token

TOKEN = "0123456789abcdef"


def test_a_token_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert load_token(file, {}) == TOKEN
    assert load_token(None, {"DERMFUSE_TOKEN": TOKEN}) == TOKEN
    assert load_token(None, {}) is None
    with pytest.raises(ConfigError, match="one of them"):
        load_token(file, {"DERMFUSE_TOKEN": TOKEN})


@pytest.mark.parametrize("token", ["", "short", "0123456789 abcdef", "0123456789abcdef\u00e9"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="openssl rand"):
        load_token(None, {"DERMFUSE_TOKEN": token})


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_token(tmp_path / "token", {})
