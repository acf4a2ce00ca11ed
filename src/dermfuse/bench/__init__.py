"""How fast dermfuse trains here, beside a plain PyTorch loop doing the same work.

Both loops see the same samples in the same order and minimise the same losses with the same
network and optimiser:

| | dermfuse | plain |
|---|---|---|
| files | decoded once, kept in memory | decoded by PIL whenever they are seen |
| augmentation | in batches on the training device | by PIL, image by image |
| numbers | bfloat16 autocast where the device multiplies it | float32 |
| layout | channels last | contiguous |
| pairs, Method 1 | each image passes through the backbone once | once for each stream |
| loop | ``dermfuse train``'s Lightning module and trainer | a ``for`` over a ``DataLoader`` |

They take turns, block by block, so that whatever else the machine does meanwhile slows both.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dermfuse.config import Config, load_preset
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.errors import ConfigError, DependencyError, installing

if TYPE_CHECKING:
    from dermfuse.bench.steps import StepCost
    from dermfuse.bench.turns import Turns

SYNTHETIC_COUNT = 40
SYNTHETIC_SIZE_PX = (427, 320)
"""A short side of 320 px; the archive's photographs are larger and cost a plain loop more."""

MOST_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides' speed at one task; medians over the blocks.

    Args:
        images_per_second: Of dermfuse.
        plain_images_per_second: Of the plain side, or what else it is compared with.
        ratio: Median of the ratios of neighbouring blocks: how many times as fast dermfuse is.
        lowest_ratio: Smallest of these ratios.
        highest_ratio: Largest of these ratios.
    """

    images_per_second: float
    plain_images_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float

    @classmethod
    def from_rates(cls, ours: Sequence[float], plain: Sequence[float]) -> Self:
        """Returns the comparison of two sides that took turns.

        Args:
            ours: Images per second of each block.
            plain: Of the block that followed it.

        Example:
            >>> Comparison.from_rates([4.0, 6.0, 9.0], [2.0, 2.0, 3.0]).ratio
            3.0
        """
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        return cls(
            statistics.median(ours),
            statistics.median(plain),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
        )


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What ``bench_train`` measured, and on what.

    Args:
        preset: Which configuration.
        training: Images per second of whole training steps, both streams of a pair counted.
        input_path: Images per second until a batch is ready, augmented.
        limit_images_per_second: What training would reach if it cost no more than its products,
            at the rate of a large matrix product measured in the same run.
        gflop_per_image: Floating-point operations of a step per image, in 10^9.
        step: What dermfuse's training step costs: time, operators, kernels, waits.
        cache_seconds: What dermfuse spends once, before the first epoch, to decode the files.
        cached_images: How many files these are.
        images_per_batch: Both streams counted.
        batches: Measured training steps of each loop.
        workers: Processes that load for the plain loop; 0 loads in the loop itself.
        data: The images.
        device: What was trained on.
        precision: dermfuse's; the plain loop's is float32.
        threads: PyTorch's CPU threads.
        torch: PyTorch's version.
    """

    preset: str
    training: Comparison
    input_path: Comparison
    limit_images_per_second: float
    gflop_per_image: float
    step: "StepCost"
    cache_seconds: float
    cached_images: int
    images_per_batch: int
    batches: int
    workers: int
    data: str
    device: str
    precision: str
    threads: int
    torch: str

    @property
    def share_of_limit(self) -> float:
        """The rate of training as a share of the arithmetic limit."""
        return self.training.images_per_second / self.limit_images_per_second

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as flat JSON values, rounded to what the clock can tell."""
        record: dict[str, Any] = {"preset": self.preset}
        for name, comparison in (("training", self.training), ("input", self.input_path)):
            record[f"{name}_images_per_second"] = round(comparison.images_per_second, 1)
            record[f"{name}_images_per_second_plain"] = round(comparison.plain_images_per_second, 1)
            record[f"{name}_ratio"] = round(comparison.ratio, 2)
            record[f"{name}_ratio_lowest"] = round(comparison.lowest_ratio, 2)
            record[f"{name}_ratio_highest"] = round(comparison.highest_ratio, 2)
        return {
            **record,
            "limit_images_per_second": round(self.limit_images_per_second, 1),
            "share_of_limit": round(self.share_of_limit, 3),
            "gflop_per_image": round(self.gflop_per_image, 3),
            **self.step.to_dict(),
            "cache_seconds": round(self.cache_seconds, 2),
            "cached_images": self.cached_images,
            "images_per_batch": self.images_per_batch,
            "batches": self.batches,
            "workers_plain": self.workers,
            "data": self.data,
            "device": self.device,
            "precision": self.precision,
            "precision_plain": "float32",
            "threads": self.threads,
            "torch": self.torch,
        }


def bench_train(
    preset: str | Config,
    *,
    data: DataFolders | None = None,
    batches: int = 20,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> BenchReport:
    """Measures the images per second of a preset's training and of its input path.

    The networks start from random weights: their speed does not depend on them.

    Args:
        preset: The name of one, or a configuration.
        data: A dataset folder in the official layout, or several; None draws synthetic images.
        batches: Training steps that each loop is measured for.
        workers: Processes that load for the plain loop.
        progress: Called with (done, all) batches.

    Raises:
        ConfigError: For an unknown preset, or a count out of range.
        DependencyError: If PyTorch is not installed.
        DataError: If there is nothing to train on.
    """
    config = load_preset(preset) if isinstance(preset, str) else preset
    _check_between("batches", batches, 1, 100_000)
    _check_between("workers", workers, 0, MOST_WORKERS)
    _require_torch()
    from dermfuse.bench.turns import take_turns  # noqa: PLC0415 — torch may be missing

    with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as temporary:
        folder = data if data is not None else _draw_data(Path(temporary) / "data")
        turns = take_turns(config, folder, batches=batches, workers=workers, progress=progress)
    paths = list_folders(data) if data is not None else ()
    words = " and ".join(map(str, paths)) or _synthetic_words()
    return _report(config, turns, data=words, batches=batches, workers=workers)


def _report(
    config: Config, turns: "Turns", *, data: str, batches: int, workers: int
) -> BenchReport:
    return BenchReport(
        preset=config.name,
        training=Comparison.from_rates(turns.training.ours, turns.training.plain),
        input_path=Comparison.from_rates(turns.inputs.ours, turns.inputs.plain),
        limit_images_per_second=turns.limit.images_per_second,
        gflop_per_image=turns.limit.gflop_per_image,
        step=turns.step,
        cache_seconds=turns.cache_seconds,
        cached_images=turns.cached_images,
        images_per_batch=turns.images_per_batch,
        batches=batches,
        workers=workers,
        data=data,
        device=turns.device,
        precision=turns.precision,
        threads=turns.threads,
        torch=turns.torch,
    )


def _draw_data(folder: Path) -> Path:
    size = SYNTHETIC_SIZE_PX
    synthesize_isic2016(folder, train_count=SYNTHETIC_COUNT, test_count=0, size_px=size)
    return folder


def _synthetic_words() -> str:
    width, height = SYNTHETIC_SIZE_PX
    return f"{SYNTHETIC_COUNT} synthetic images of {width} x {height} px"


def _check_between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}", expected=f"a number from {low} to {high}")


def _require_torch() -> None:
    missing = [name for name in ("torch", "lightning") if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"the benchmark needs {' and '.join(missing)}, not installed here",
            action=installing("train"),
        )
