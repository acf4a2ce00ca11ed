from pathlib import Path
from urllib.request import urlopen

import pytest

from benchmarks.hosting import host_folder


@pytest.mark.parametrize("isolated", [True, False])
def test_a_folder_is_served_with_or_without_isolation_and_bytes_are_counted(
    isolated: bool, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 100_000)
    with host_folder(tmp_path, isolated=isolated) as host:
        for _ in range(2):
            with urlopen(f"{host.url}a.bin") as response:
                assert len(response.read()) == 100_000
        found = response.headers["Cross-Origin-Embedder-Policy"]
        assert found == ("require-corp" if isolated else None)
    assert host.sent_bytes == 200_000
