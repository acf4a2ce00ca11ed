from pathlib import Path

import pytest
from PIL import Image

from benchmarks.serving import bench_serving
from dermfuse.errors import ConfigError, ReleaseError

from ..small_release import skin, write_small_release


def test_a_server_and_the_bare_analyzer_take_turns(tmp_path: Path) -> None:
    release = write_small_release(tmp_path / "release")
    image = tmp_path / "a.png"
    Image.fromarray(skin()).save(image)
    record = bench_serving([image], release=release, requests=12, clients=3, threads=1)
    assert (record["requests"], record["clients"], record["errors"]) == (12, 3, 0)
    assert 0 < record["p50_seconds"] <= record["p99_seconds"]
    assert record["served_ratio_lowest"] <= record["served_ratio"] <= record["served_ratio_highest"]
    assert record["bare_images_per_second"] > 0


def test_counts_and_releases_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="requests is 4"):
        bench_serving([tmp_path], requests=4)
    with pytest.raises(ConfigError, match="clients is 0"):
        bench_serving([tmp_path], clients=0)
    with pytest.raises(ConfigError, match="the number of images is 0"):
        bench_serving([])
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    with pytest.raises(ReleaseError):
        bench_serving([image], release=tmp_path / "none")
