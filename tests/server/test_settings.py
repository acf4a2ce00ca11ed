from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ConfigError
from dermfuse.server.settings import Limits, ServerSettings, load_token

from .conftest import TOKEN


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"limits": {"upload_bytes": 0}}, "upload_bytes is 0"),
        ({"limits": {"waiting": -1}}, "waiting is -1"),
        ({"limits": {"upload_seconds": 0.0}}, r"upload_seconds is 0\.0"),
        ({"limits": {"analysis_seconds": float("nan")}}, "analysis_seconds is nan"),
        ({"limits": {"analysis_seconds": float("inf")}}, "analysis_seconds is inf"),
        ({"limits": {"upload_bytes": 2, "held_bytes": 1}}, "room for one upload"),
        ({"limits": {"pixels": 255}}, "the limit is 255 pixels"),
        *(
            ({"root_path": path}, "the root path is")
            for path in ("lesions", "/lesions/", "/", "//a", "/a b", "/..", "http://a")
        ),
        *(
            ({"trusted_proxies": (address,)}, "is no address")
            for address in ("*", "proxy", "10.0.0.0/33", "")
        ),
        ({"threads": 0}, "threads is 0"),
        ({"looks": 3}, "looks is 3"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServerSettings(**changed | {"limits": Limits(**changed.get("limits", {}))})


def test_a_token_comes_from_a_file_or_from_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    file, variable = tmp_path / "token", {"DERMFUSE_TOKEN": TOKEN}
    with pytest.raises(ConfigError, match="No such file"):
        load_token(file, {})
    file.write_text(f"{TOKEN}\n")
    assert load_token(file, {}) == load_token(None, variable) == TOKEN
    assert load_token(None, {}) is None
    with pytest.raises(ConfigError, match="one of them"):
        load_token(file, variable)
    for token in ("", "short", "0123456789 abcdef", "0123456789abcdef\u00e9"):
        with pytest.raises(ConfigError, match="openssl rand"):
            load_token(None, {"DERMFUSE_TOKEN": token})
    assert TOKEN not in repr(ServerSettings(token=TOKEN, root_path="/a/lesions-2.0"))
