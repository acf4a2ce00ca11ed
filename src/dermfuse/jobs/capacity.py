"""How many trainings fit a machine side by side: by its cores, and by what each takes of memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dermfuse.errors import ConfigError
from dermfuse.runs import core_count

Jobs = int | Literal["auto"] | None
"""Trainings side by side: so many, as many as fit, or what is usual (see ``choose_jobs``)."""

_USABLE = 0.9  # of what is free: what a training takes is an estimate
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is free, or what one training takes.

    Attributes:
        gpu_mb: Of the GPU's memory, in 10^6 bytes; 0 without one.
        ram_mb: Of the machine's.
    """

    gpu_mb: float
    ram_mb: float


def parse_jobs(text: str | None) -> Jobs:
    """Returns what ``--jobs`` says.

    Raises:
        ConfigError: It is neither ``auto`` nor a count of 1 or more.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10_000):
        raise ConfigError(
            f'--jobs is "{text}"',
            expected="1 or more, or auto for as many as fit",
            action="Give --jobs 2, say",
        )
    return int(text)


def default_jobs() -> int:
    """Returns how many trainings fit this machine's processor: one per core.

    On a CPU each has a core to itself. On a GPU they share the card, which a single process, bound
    by launching kernels, leaves idle half of the time.
    """
    return core_count()


def fitting_jobs(needs: Sequence[Memory], free: Memory, *, cores: int) -> int:
    """Returns how many trainings fit side by side, whichever they are; 1 at the least.

    Args:
        needs: What each of them takes.
        free: What there is.
        cores: More than so many are of no use.

    Example:
        >>> small, large = Memory(gpu_mb=0, ram_mb=1000), Memory(gpu_mb=0, ram_mb=3000)
        >>> fitting_jobs([small, small, large], Memory(gpu_mb=0, ram_mb=4800), cores=8)
        2
    """
    most = min(cores, len(needs))
    for what in ("gpu_mb", "ram_mb"):
        taken, usable = 0.0, _USABLE * getattr(free, what)
        largest = sorted((getattr(need, what) for need in needs), reverse=True)
        for count, size in enumerate(largest[:most]):
            taken += size
            if taken > usable:
                most = count
                break
    return max(most, 1)


def free_ram_mb(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")
) -> float:
    """Returns the memory that a process can have, in 10^6 bytes: the machine's, or its container's.

    Args:
        meminfo: Where Linux says what is available; elsewhere half of all is taken to be.
        cgroups: Where it says what a container may use.
    """
    return min(_bytes_free(meminfo, cgroups)) / 1e6


def _bytes_free(meminfo: Path, cgroups: Path) -> Iterator[float]:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        yield 1024 * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    for limit, usage in _CGROUPS:
        try:
            yield float((cgroups / limit).read_text()) - float((cgroups / usage).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
