"""Two loops that take turns: dermfuse's own, and after each of its blocks the plain one."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from dermfuse.bench.limit import ArithmeticLimit, measure_limit, now, rows_of
from dermfuse.bench.plain import PilSamples, PlainLoop
from dermfuse.bench.steps import StepCost, meter
from dermfuse.config import Config
from dermfuse.data.folders import DataFolders
from dermfuse.models.build import build_network
from dermfuse.training.distributed import Processes
from dermfuse.training.graphs import require_graph
from dermfuse.training.modules import TrainingModule
from dermfuse.training.samples import Samples, TrainingSet, load_samples, select_lesions
from dermfuse.training.train import MODULES, accelerator_of, precision_of, quiet

WARM_UP = 2
"""Batches before the clock starts: the first ones allocate memory and choose kernels."""
MOST_BLOCKS = 5
"""Turns of each loop, if there are as many batches."""


@dataclass(slots=True)
class Rates:
    """Images per second of every block.

    Args:
        ours: Of dermfuse.
        plain: Of the plain loop, which takes its turn after it.
    """

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turns:
    """What was measured, and where.

    Args:
        training: Of whole training steps.
        inputs: Of the input path alone.
        limit: How fast the device could be.
        step: What a training step costs.
        cache_seconds: Spent on decoding the files once.
        cached_images: How many these are.
        images_per_batch: Both streams of a pair counted.
        device: What was trained on.
        precision: dermfuse's.
        threads: PyTorch's CPU threads.
        torch: PyTorch's version.
    """

    training: Rates
    inputs: Rates
    limit: ArithmeticLimit
    step: StepCost
    cache_seconds: float
    cached_images: int
    images_per_batch: int
    device: str
    precision: str
    threads: int
    torch: str


class Interleaving(Callback):
    """Times dermfuse's blocks of batches, and lets the plain loop train after each of them.

    Args:
        plain: The other loop.
        schedule: The batches of both.
        sizes: Batches of each block; the first block warms up and is not kept.
        progress: Called with (done, all) batches of both loops.
    """

    def __init__(
        self,
        plain: PlainLoop,
        schedule: Sequence[Any],
        sizes: Sequence[int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.rates = Rates()
        self._plain = plain
        self._schedule = schedule
        self._sizes = list(sizes)
        self._progress = progress
        self._all = 2 * sum(sizes)
        self._done = 0
        self._block: list[Tensor] = []
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start = now(self._plain.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 — Lightning's
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Ends dermfuse's turn with the last batch of a block, and starts the next one."""
        self._block.append(rows_of(self._schedule[batch_idx]))
        if len(self._block) < self._sizes[0]:
            return
        block, self._block = self._block, []
        warm_up = self._done == 0
        between = now(self._plain.device)
        self._plain.train(block)
        end = now(self._plain.device)
        if not warm_up:
            images = sum(map(len, block))
            self.rates.ours.append(images / (between - self._start))
            self.rates.plain.append(images / (end - between))
        self._done += 2 * self._sizes.pop(0)
        if self._progress:
            self._progress(self._done, self._all)
        self._start = now(self._plain.device)


def take_turns(
    config: Config,
    data: DataFolders,
    *,
    batches: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Turns:
    """Measures both loops; see ``dermfuse.bench.bench_train``."""
    device = torch.device(accelerator_of(config))
    require_graph(config.train, device.type, Processes())
    threads = torch.get_num_threads()
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    try:
        chosen = select_lesions(data, config)
        start = time.perf_counter()
        samples = load_samples(chosen, config)
        cache_seconds = time.perf_counter() - start
        seed_everything(config.train.seed, verbose=False)
        module = build_module(config, samples).to(device)
        plain = PlainLoop(
            pil_samples(chosen, samples, config),
            copy.deepcopy(module.network),
            config,
            workers=workers,
            device=device,
        )
        sizes = block_sizes(batches)
        schedule = take_batches(module, sum(sizes))
        inputs = _time_inputs(module, plain, schedule, sizes)
        training = _time_training(module, plain, schedule, sizes, progress)
        step = _meter_steps(module)
        half = precision_of(config) == "bf16-mixed"
        dtype = torch.bfloat16 if half else torch.float32
        return Turns(
            training=training,
            inputs=inputs,
            limit=measure_limit(module.to(device), schedule, dtype=dtype),
            step=step,
            cache_seconds=cache_seconds,
            cached_images=len(chosen.lesions),
            images_per_batch=max(len(rows_of(batch)) for batch in schedule),
            device=torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
            precision=precision_of(config),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
        )
    finally:
        torch.set_num_threads(threads)


def build_module(config: Config, samples: Samples) -> TrainingModule:
    """Returns dermfuse's training module with random weights."""
    network = build_network(config.model)
    return MODULES[config.model.network](network, samples, config)


def pil_samples(chosen: TrainingSet, samples: Samples, config: Config) -> PilSamples:
    """Returns the plain loop's view of the same samples."""
    size, task = config.data.input_size, config.model.task
    return PilSamples(chosen.lesions, samples.source.plan, samples.labels, size, task)


def block_sizes(batches: int) -> list[int]:
    """Returns the batches of each block, the warm-up first.

    Example:
        >>> block_sizes(20)
        [2, 4, 4, 4, 4, 4]
        >>> block_sizes(7)
        [2, 2, 2, 1, 1, 1]
    """
    blocks = min(MOST_BLOCKS, batches)
    each, rest = divmod(batches, blocks)
    return [WARM_UP, *(each + (index < rest) for index in range(blocks))]


def take_batches(module: TrainingModule, number: int) -> list[Any]:
    """Returns the first batches of the training, over as many epochs as that takes."""
    return list(islice(chain.from_iterable(map(module.schedule, count())), number))


def _time_inputs(
    module: TrainingModule, plain: PlainLoop, schedule: Sequence[Any], sizes: Sequence[int]
) -> Rates:
    rates = Rates()
    module.samples = module.samples.to(plain.device)
    remaining = iter(schedule)
    for index, size in enumerate(sizes):
        block = [rows_of(batch) for batch in islice(remaining, size)]
        start = now(plain.device)
        for rows in block:
            there = rows.to(plain.device)
            if not module.samples.source.has_masks:
                module.images(there)
            else:
                module.samples.source.images_and_masks(there, distillation=0)
        between = now(plain.device)
        for _ in plain.load(block):
            pass
        end = now(plain.device)
        if index:
            images = sum(map(len, block))
            rates.ours.append(images / (between - start))
            rates.plain.append(images / (end - between))
    return rates


def _time_training(
    module: TrainingModule,
    plain: PlainLoop,
    schedule: Sequence[Any],
    sizes: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> Rates:
    turns = Interleaving(plain, schedule, sizes, progress)
    _fit(module, schedule, turns)
    return turns.rates


def _meter_steps(module: TrainingModule) -> StepCost:
    return meter(module, lambda found: _fit(module, take_batches(module, found.steps), found))


def _fit(module: TrainingModule, schedule: Sequence[Any], callback: Callback) -> None:
    """Trains with dermfuse's own loop on some batches, as an epoch."""
    config = module.config
    with quiet():
        trainer = Trainer(
            accelerator=accelerator_of(config),
            devices=1,
            precision=precision_of(config),  # type: ignore[arg-type]
            max_epochs=1,
            gradient_clip_val=config.train.gradient_clip or None,
            limit_val_batches=0,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        module = module.to(accelerator_of(config), memory_format=torch.channels_last)
        shares = [module.share(batch) for batch in schedule]
        loader: DataLoader[Any] = DataLoader(shares, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(module, train_dataloaders=loader)
