from pathlib import Path
from urllib.request import urlopen

import pytest

from benchmarks.browser import bench_browser, render_browser
from benchmarks.hosting import host_folder
from dermfuse.errors import ConfigError, DependencyError
from dermfuse.web import build

from ..web.releases import write_release_for_drawings


@pytest.mark.browser
def test_the_app_is_timed_beside_the_library(tmp_path: Path) -> None:
    release = write_release_for_drawings(tmp_path / "small", threshold=40_000.0)
    report = bench_browser(release, images=2, rounds=2, starts=1)
    assert [side["isolated"] for side in report["sides"]] == [True, False]
    for side in report["sides"]:
        assert 0 < side["score_ms"] < side["analysis_ms"] < side["shown_ms"]
        assert side["analysis_ratio"] > 0
    # All files are loaded once, build.json and the service worker beside them.
    download = report["sides"][0]["download_bytes"]
    assert report["app_bytes"] < download < report["app_bytes"] + 500_000
    assert f"{download / 1e6:.1f} MB" in render_browser(report)


def test_counts_and_a_missing_browser_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="rounds is 0"):
        bench_browser(rounds=0)
    monkeypatch.setenv("DERMFUSE_CHROMIUM", "no-such-browser")
    with pytest.raises(DependencyError, match="no-such-browser is not installed"):
        bench_browser(images=1, rounds=1, starts=1)
    assert (build.SOURCE / "e2e" / "bench.mjs").is_file()


@pytest.mark.parametrize(("isolated", "header"), [(True, "require-corp"), (False, None)])
def test_a_folder_is_served_and_bytes_are_counted(
    isolated: bool, header: str | None, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 100_000)
    with host_folder(tmp_path, isolated=isolated) as host:
        with urlopen(f"{host.url}a.bin") as response:
            assert len(response.read()) == 100_000
        assert response.headers["Cross-Origin-Embedder-Policy"] == header
    assert host.sent_bytes == 100_000
