"""Tasks that take turns on the same images, so that other load slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dermfuse.errors import ConfigError

Task = Callable[[bytes], object]
"""Does its work on the bytes of one image file."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one image takes.

    Args:
        milliseconds: The median.
        percentile_90: Nine of ten images take no longer, in milliseconds.
    """

    milliseconds: float
    percentile_90: float


@dataclass(slots=True)
class Clock:
    """Seconds that one task took for each image, block by block.

    Args:
        blocks: Of each block, the seconds of its images.
    """

    blocks: list[list[float]] = field(default_factory=list)

    @property
    def latency(self) -> Latency:
        """Over the images of all blocks.

        Example:
            >>> Clock([[0.01, 0.02], [0.03, 0.1]]).latency
            Latency(milliseconds=25.0, percentile_90=100.0)
        """
        seconds = sorted(second for block in self.blocks for second in block)
        rank = -(-9 * len(seconds) // 10)  # the smallest that nine of ten do not exceed
        return Latency(1000 * statistics.median(seconds), 1000 * seconds[rank - 1])

    @property
    def rates(self) -> list[float]:
        """Images per second of each block."""
        return [len(block) / sum(block) for block in self.blocks]


def take_rounds(
    tasks: Mapping[str, Task],
    files: Sequence[bytes],
    *,
    rounds: int,
    progress: Callable[[], None] | None = None,
) -> dict[str, Clock]:
    """Returns the times of tasks, each of which does all images in every round.

    Args:
        tasks: By name. Those that are compared stand side by side: their blocks are neighbours.
        files: The images.
        rounds: How often each task does them; one image of each task warms up and is not kept.
        progress: Told of every round.
    """
    for task in tasks.values():
        task(files[0])
    clocks = {name: Clock() for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            clocks[name].blocks.append([_seconds(task, file) for file in files])
        if progress:
            progress()
    return clocks


def count_rounds(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    """Returns what is called after each round and tells how many are done.

    Args:
        progress: Called with (done, all) rounds.
        total: All rounds.
    """
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return advance


def require_counts(most: int, **counts: int) -> None:
    """Raises ConfigError for a count below 1 or above ``most``.

    Example:
        >>> require_counts(10, rounds=0)
        Traceback (most recent call last):
        dermfuse.errors.ConfigError: rounds is 0. Expected: a number from 1 to 10.
    """
    for name, value in counts.items():
        if not 1 <= value <= most:
            raise ConfigError(f"{name} is {value}", expected=f"a number from 1 to {most}")


def _seconds(task: Task, file: bytes) -> float:
    start = time.perf_counter()
    task(file)
    return time.perf_counter() - start
