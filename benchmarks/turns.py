"""What benchmarks share: sides that take turns on the same images, and what they ran on.

On a machine that does other things, a time says little; the ratio of two sides that take turns,
block by block, holds, for whatever else the machine does slows both.
"""

import io
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from dermfuse.analysis.inputs import expand
from dermfuse.data.isic2016 import Label
from dermfuse.data.synthetic import draw_lesion
from dermfuse.errors import ConfigError, DataError
from dermfuse.release.cards import NetworkCard

SIZE_PX = (1022, 767)
"""Width and height of a drawn image: the most frequent size of ISIC 2016."""
QUALITY = 90
"""JPEG quality of a drawn image."""

Task = Callable[[bytes], object]
"""Does its work on the bytes of one image file."""
Blocks = list[list[float]]
"""Of each block of a side, the seconds of its images."""


def take_turns(
    tasks: Mapping[str, Task], files: Sequence[bytes], *, rounds: int
) -> dict[str, Blocks]:
    """Returns the seconds of every task, each of which does all files in every round.

    Args:
        tasks: By name. Those that are compared stand side by side, so that their blocks do.
        files: The images; the first warms up every task.
        rounds: How often each task does all of them.
    """
    for task in tasks.values():
        task(files[0])
    blocks: dict[str, Blocks] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            blocks[name].append([_seconds(task, file) for file in files])
    return blocks


def rates(blocks: Blocks) -> list[float]:
    """Returns the images per second of each block."""
    return [len(block) / sum(block) for block in blocks]


def latency(blocks: Blocks, name: str) -> dict[str, float]:
    """Returns the median and the 90th percentile over the images of all blocks, as JSON values.

    Example:
        >>> latency([[0.01, 0.02], [0.03, 0.1]], "score")
        {'score_ms': 25.0, 'score_ms_percentile_90': 100.0}
    """
    seconds = sorted(second for block in blocks for second in block)
    rank = -(-9 * len(seconds) // 10)  # the smallest that nine of ten do not exceed
    return {
        f"{name}_ms": round(1000 * statistics.median(seconds), 2),
        f"{name}_ms_percentile_90": round(1000 * seconds[rank - 1], 2),
    }


def compare(ours: Sequence[float], others: Sequence[float], name: str) -> dict[str, float]:
    """Returns the median, least and largest ratio of neighbouring blocks' rates, as JSON values.

    Example:
        >>> compare([4.0, 6.0, 9.0], [2.0, 2.0, 3.0], "score")
        {'score_ratio': 3.0, 'score_ratio_lowest': 2.0, 'score_ratio_highest': 3.0}
    """
    ratios = [a / b for a, b in zip(ours, others, strict=True)]
    return {
        f"{name}_ratio": round(statistics.median(ratios), 2),
        f"{name}_ratio_lowest": round(min(ratios), 2),
        f"{name}_ratio_highest": round(max(ratios), 2),
    }


def require_counts(**counts: int) -> None:
    """Raises ConfigError for a count below 1.

    Example:
        >>> require_counts(rounds=0)
        Traceback (most recent call last):
        dermfuse.errors.ConfigError: rounds is 0. Expected: 1 or more.
    """
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}", expected="1 or more")


def describe_machine(*libraries: str) -> dict[str, str | int]:
    """Returns the processor, its logical cores, and versions of libraries, as JSON values."""
    try:  # Linux alone has the name in a file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    versions = {name: metadata.version(name) for name in libraries}
    return {"cpu": cpu, "cores": os.cpu_count() or 1, **versions}


def draw_files(count: int) -> list[bytes]:
    """Returns drawn images as JPEG files, benign and malignant in turn."""
    rng = np.random.default_rng(0)
    labels = islice(cycle((Label.BENIGN, Label.MALIGNANT)), count)
    files = [io.BytesIO() for _ in range(count)]
    for file, label in zip(files, labels, strict=True):
        drawn = draw_lesion(rng, label=label, size_px=SIZE_PX)
        Image.fromarray(drawn.image).save(file, format="JPEG", quality=QUALITY)
    return [file.getvalue() for file in files]


def describe_drawn(count: int) -> str:
    """Returns in words what ``draw_files`` draws."""
    width, height = SIZE_PX
    return f"{count} synthetic images of {width} x {height} px, JPEG quality {QUALITY}"


def read_files(data: Path, count: int) -> list[bytes]:
    """Returns the bytes of the first images of a folder, or of the one that is named.

    Raises:
        DataError: There is none, or one cannot be opened.
    """
    items = list(islice(expand([data]), count))
    if faults := [item.fault for item in items if item.fault]:
        raise DataError(faults[0])
    return [
        each if isinstance(each, bytes) else each.read_bytes() for each in (i.source for i in items)
    ]


def write_files(folder: Path, files: Sequence[bytes], count: int) -> list[Path]:
    """Writes so many image files into a new folder, the same again where there are fewer."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for path, file in zip(paths, cycle(files), strict=False):
        path.write_bytes(file)
    return paths


def name_precisions(cards: Iterable[NetworkCard]) -> str:
    """Returns the precisions of networks in words; most releases have one."""
    return ", ".join(sorted({card.precision for card in cards}))


def _seconds(task: Task, file: bytes) -> float:
    start = time.perf_counter()
    task(file)
    return time.perf_counter() - start
