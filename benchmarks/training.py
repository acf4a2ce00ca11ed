"""How fast dermfuse trains, as a share of what its products alone would take, and a step's cost."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import describe_machine, require_counts
from dermfuse.config import Config
from dermfuse.data.augment import CYCLE
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.data.loaders import PairRows
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.models import build_network
from dermfuse.training.distributed import Processes
from dermfuse.training.graphs import WARM_UP, require_graph
from dermfuse.training.modules import TrainingModule
from dermfuse.training.samples import load_samples, select_lesions
from dermfuse.training.train import MODULES, accelerator_of, precision_of, quiet

DRAWN = 40
"""Images that are drawn where no data is named, of ``DRAWN_PX``."""
DRAWN_PX = (427, 320)
BACKWARD_FACTOR = 2
"""The backward pass multiplies for the inputs and again for the weights."""

_SIDE = {"cuda": 8192, "cpu": 1024}
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def bench_train(
    config: Config, *, data: DataFolders | None = None, steps: int = 20
) -> dict[str, Any]:
    """Measures a configuration's training; returns JSON values.

    The networks start from random weights: their speed does not depend on them.

    Args:
        config: What is trained, and how.
        data: A dataset folder in the official layout, or several; None draws images.
        steps: Training steps that are timed, after a warm-up, and as many that are counted.

    Raises:
        ConfigError: The count is out of range, or the device cannot do what is configured.
        DataError: There is nothing to train on.
    """
    require_counts(steps=steps)
    device = torch.device(accelerator_of(config))
    require_graph(config.train, device.type, Processes())
    with _threads(config.train.threads), tempfile.TemporaryDirectory() as temporary:
        chosen = select_lesions(_draw(Path(temporary) / "data") if data is None else data, config)
        start = time.perf_counter()
        samples = load_samples(chosen, config)
        cache_seconds = time.perf_counter() - start
        seed_everything(config.train.seed, verbose=False)
        network = build_network(config.model)
        module = MODULES[config.model.network](network, samples, config).to(device)
        meter = StepMeter(steps, graph=config.train.graph, on_a_gpu=device.type == "cuda")
        schedule = take_batches(module, meter.all_steps)
        _fit(module, schedule, meter)
        dtype = torch.bfloat16 if precision_of(config) == "bf16-mixed" else torch.float32
        flop = count_flop_per_image(module.to(device), schedule[:CYCLE])
        limit = matmul_flop_per_second(device, dtype) / flop
        timed = schedule[meter.warm_up : meter.warm_up + steps]
        images_per_second = sum(len(rows_of(batch)) for batch in timed) / meter.seconds
        folders = "and".join(map(str, list_folders(data))) if data is not None else ""
        return {
            "preset": config.name,
            "images_per_second": round(images_per_second, 1),
            "limit_images_per_second": round(limit, 1),
            "share_of_limit": round(images_per_second / limit, 3),
            "gflop_per_image": round(flop / 1e9, 3),
            "step_ms": round(1000 * meter.seconds / steps, 2),
            **count_cost(meter.events, steps, on_a_gpu=meter.on_a_gpu),
            "steps": steps,
            "images_per_batch": max(len(rows_of(batch)) for batch in schedule),
            "cache_seconds": round(cache_seconds, 2),
            "cached_images": len(chosen.lesions),
            "data": folders or f"{DRAWN} synthetic images of {DRAWN_PX[0]} x {DRAWN_PX[1]} px",
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
            "precision": precision_of(config),
            "threads": torch.get_num_threads(),
            "machine": describe_machine("torch"),
        }


class StepMeter(Callback):
    """Times some steps after a warm-up, then profiles as many others.

    Args:
        steps: How many of each.
        graph: Whether steps are captured as a CUDA graph, after some of each kind.
        on_a_gpu: Whether there are kernels to count.
    """

    def __init__(self, steps: int, *, graph: bool, on_a_gpu: bool) -> None:
        self.steps = steps
        self.warm_up = (WARM_UP + 1) * CYCLE if graph else 2
        self.on_a_gpu = on_a_gpu
        self.seconds = 0.0
        self._start = 0.0
        more = [ProfilerActivity.CUDA] if on_a_gpu else []
        self._profiler = profile(activities=[ProfilerActivity.CPU, *more])

    @property
    def all_steps(self) -> int:
        """The steps that measuring takes, warm-up included."""
        return self.warm_up + 2 * self.steps

    @property
    def events(self) -> Sequence[Any]:
        """The profiler's, of the counted steps."""
        return list(self._profiler.events())  # type: ignore[no-untyped-call]

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 — Lightning's
        batch_idx: int,
    ) -> None:
        """Begins to time, then to count."""
        if batch_idx == self.warm_up:
            self._start = now(pl_module.device)
        if batch_idx == self.warm_up + self.steps:
            self.seconds = now(pl_module.device) - self._start
            self._profiler.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Ends with the last step."""
        if batch_idx == self.all_steps - 1:
            self._profiler.stop()


def count_cost(events: Sequence[Any], steps: int, *, on_a_gpu: bool) -> dict[str, float | None]:
    """Returns what a step costs from the profiler's events of some; None where there is no GPU.

    Args:
        events: With ``name``, ``device_type`` and, of those on a GPU, ``device_time`` in us.
        steps: That they are of.
        on_a_gpu: Whether a GPU has events.
    """
    here = [event for event in events if event.device_type == DeviceType.CPU]
    there = [event for event in events if event.device_type == DeviceType.CUDA]

    def mean(values: Iterator[float]) -> float | None:
        return round(sum(values) / steps, 2) if on_a_gpu else None

    return {
        "step_operators": round(sum(e.name.startswith("aten::") for e in here) / steps, 1),
        "step_device_ms": mean(e.device_time / 1000 for e in there),
        "step_kernels": mean(not e.name.startswith(("Memcpy", "Memset")) for e in there),
        "step_copies_to_device": mean(e.name.startswith("Memcpy HtoD") for e in there),
        "step_waits": mean(e.name in _WAITS for e in here),
    }


def count_flop_per_image(module: TrainingModule, schedule: Sequence[Any]) -> float:
    """Returns the floating-point operations of a step per image, both streams counted.

    A multiplication and an addition are two; those of the augmentation are left out.
    """
    shares = [module.share(batch) for batch in schedule]
    flop = sum(
        _flop(partial(module.step_loss, share)) - _flop(partial(module.images, share.rows))
        for share in shares
    )
    return (1 + BACKWARD_FACTOR) * flop / sum(len(rows_of(batch)) for batch in schedule)


def matmul_flop_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the rate of a large square matrix product, the median of five."""
    side = _SIDE[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    seconds = []
    for _ in range(5):
        start = now(device)
        torch.mm(a, b)
        seconds.append(now(device) - start)
    return 2 * side**3 / statistics.median(seconds)


def take_batches(module: TrainingModule, number: int) -> list[Any]:
    """Returns the first batches of the training, over as many epochs as that takes."""
    return list(islice(chain.from_iterable(map(module.schedule, count())), number))


def rows_of(batch: torch.Tensor | PairRows) -> torch.Tensor:
    """Returns the plan rows of a batch, of pairs those of stream a and then those of b."""
    return torch.cat([batch.a, batch.b]) if isinstance(batch, PairRows) else batch


def now(device: torch.device) -> float:
    """Returns the time in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


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
        module.samples = module.samples.to(module.device)
        shares = [module.share(batch) for batch in schedule]
        loader: DataLoader[Any] = DataLoader(shares, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(module, train_dataloaders=loader)


def _flop(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    eagerly = torch.compiler.set_stance("force_eager")  # compiled code hides what it multiplies
    with counter, torch.no_grad(), eagerly:
        work()
    return counter.get_total_flops()


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Has PyTorch use so many threads within, if a number is named, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _draw(folder: Path) -> Path:
    synthesize_isic2016(folder, train_count=DRAWN, test_count=0, size_px=DRAWN_PX)
    return folder
