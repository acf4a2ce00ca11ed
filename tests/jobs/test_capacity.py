from pathlib import Path

import pytest

from dermfuse.errors import ConfigError
from dermfuse.jobs.trainings import Memory, fitting_jobs, free_ram_mb, parse_jobs


def test_jobs_are_a_count_or_auto() -> None:
    assert [parse_jobs(text) for text in ("1", "16", "auto", None)] == [1, 16, "auto", None]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²", "9" * 9])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="1 or more, or auto for as many as fit"):
        parse_jobs(text)


@pytest.mark.parametrize(
    ("needs", "free", "cores", "jobs"),
    [
        ([(4000, 3000)] * 22, (140_000, 120_000), 16, 16),  # a core each
        ([(4000, 3000)] * 22, (16_000, 120_000), 16, 3),  # 3 x 4,000 are under 14,400
        ([(4000, 3000)] * 22, (140_000, 10_000), 16, 3),  # 3 x 3,000 are no more than 9,000
        ([(1000, 1000), (12_000, 1000), (1000, 1000)], (15_000, 99_000), 16, 2),  # largest first
        ([(4000, 3000)] * 2, (140_000, 120_000), 16, 2),  # no more than there are
        ([(0, 3000)] * 4, (0, 99_000), 2, 2),  # no GPU
        ([(99_000, 3000)], (16_000, 99_000), 8, 1),  # one is tried
        ([], (0, 99_000), 8, 1),
    ],
)
def test_as_many_fit_as_cores_and_memory_allow(
    needs: list[tuple[int, int]], free: tuple[int, int], cores: int, jobs: int
) -> None:
    assert fitting_jobs([Memory(*need) for need in needs], Memory(*free), cores=cores) == jobs


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    meminfo, cgroups = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    cgroups.mkdir()
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(8.192)
    (cgroups / "memory.current").write_text("1000000\n")
    (cgroups / "memory.max").write_text("max\n")
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(8.192)
    (cgroups / "memory.max").write_text("3000000\n")
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(2.0)
    assert free_ram_mb(tmp_path / "none", tmp_path) > 0
