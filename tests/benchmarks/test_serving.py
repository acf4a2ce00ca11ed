from pathlib import Path

import pytest
from PIL import Image

from benchmarks.serving import bench_serving
from dermfuse.errors import ConfigError

from ..small_release import skin, write_small_release


def test_a_server_and_the_bare_analyzer_take_turns(tmp_path: Path) -> None:
    release, image = write_small_release(tmp_path / "release"), tmp_path / "a.png"
    Image.fromarray(skin()).save(image)
    record = bench_serving([image], release=release, requests=12, clients=3, threads=1)
    assert (record["requests"], record["clients"], record["errors"]) == (12, 3, 0)
    assert 0 < record["p50_seconds"] <= record["p99_seconds"]
    assert 0 < record["served_ratio_lowest"] <= record["served_ratio_highest"]
    with pytest.raises(ConfigError, match="requests is 4"):
        bench_serving([image], requests=4)
    with pytest.raises(ConfigError, match="the number of images is 0"):
        bench_serving([])
