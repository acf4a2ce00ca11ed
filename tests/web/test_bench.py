"""`dermfuse bench browser` in real Chromium."""

from pathlib import Path

import pytest

from dermfuse.bench.browser import BrowserOptions, bench_browser, render_browser
from dermfuse.bench.chromium import find_chromium
from dermfuse.errors import ConfigError, DependencyError
from dermfuse.web import build

from .releases import write_release_for_drawings


@pytest.mark.browser
def test_the_app_is_timed_beside_the_library(tmp_path: Path) -> None:
    release = write_release_for_drawings(tmp_path / "small", threshold=40_000.0)
    told: list[tuple[int, int]] = []
    report = bench_browser(
        release,
        options=BrowserOptions(images=2, rounds=2, starts=1),
        progress=lambda *counts: told.append(counts),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [side.isolated for side in report.sides] == [True, False]
    assert report.sides[1].threads == 1
    for side in report.sides:
        assert len(side.first_result_seconds) == 1
        assert [len(block) for block in side.clocks["score"].blocks] == [2, 2]
        medians = [
            side.clocks[name].latency.milliseconds for name in ("score", "analysis", "shown")
        ]
        assert 0 < medians[0] < medians[1] < medians[2]
    # All files are loaded once, build.json and the service worker beside them.
    assert report.app_bytes < report.download_bytes < report.app_bytes + 500_000
    record = report.to_dict()
    assert record["sides"][0]["analysis_ratio"] > 0
    page = render_browser(report)
    assert "| full analysis, 1 thread |" in page
    assert f"{report.download_bytes / 1e6:.1f} MB" in page


def test_counts_and_a_missing_browser_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="rounds is 0"):
        BrowserOptions(rounds=0)
    monkeypatch.setenv("DERMFUSE_CHROMIUM", "no-such-browser")
    with pytest.raises(DependencyError, match="no-such-browser is not installed"):
        find_chromium()
    with pytest.raises(DependencyError, match="no-such-browser is not installed"):
        bench_browser(options=BrowserOptions(images=1, rounds=1, starts=1))


def test_the_driver_lies_in_the_apps_source() -> None:
    assert (build.SOURCE / "e2e" / "bench.mjs").is_file()
