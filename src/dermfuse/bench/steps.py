"""What a training step costs: time, operators, kernels, and how often it waits for the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dermfuse.bench.limit import now
from dermfuse.data.augment import CYCLE
from dermfuse.training.graphs import WARM_UP
from dermfuse.training.modules import TrainingModule

METERED = CYCLE
"""Steps that are timed, and as many counted: of a pair network one round of its methods."""

_WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
)


@dataclass(frozen=True, slots=True)
class StepCost:
    """Of one training step, means over some.

    Args:
        milliseconds: From step to step, by the clock.
        operators: Calls of PyTorch's operators, nested ones counted.
        device_milliseconds: In which a GPU is at work; None without one.
        kernels: That a GPU runs; None without one.
        copies: From the host to a GPU; None without one.
        waits: For a GPU; None without one.
    """

    milliseconds: float
    operators: float
    device_milliseconds: float | None = None
    kernels: float | None = None
    copies: float | None = None
    waits: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Returns flat JSON values; what is None was not to be had."""
        return {
            "step_ms": round(self.milliseconds, 2),
            "step_operators": round(self.operators, 1),
            "step_device_ms": _rounded(self.device_milliseconds, 2),
            "step_kernels": _rounded(self.kernels, 1),
            "step_copies_to_device": _rounded(self.copies, 1),
            "step_waits": _rounded(self.waits, 1),
        }


class StepMeter(Callback):
    """Times some steps, then counts what as many others do, after a warm-up.

    Args:
        warm_up: Steps before.
        on_a_gpu: Whether there are kernels to count.
    """

    def __init__(self, warm_up: int, *, on_a_gpu: bool) -> None:
        self.warm_up = warm_up
        self._on_a_gpu = on_a_gpu
        self._start = 0.0
        self._milliseconds = 0.0
        more = [ProfilerActivity.CUDA] if on_a_gpu else []
        self._profiler = profile(activities=[ProfilerActivity.CPU, *more])

    @property
    def steps(self) -> int:
        """All steps that it takes to measure."""
        return self.warm_up + 2 * METERED

    @property
    def cost(self) -> StepCost:
        """What was measured, once all steps are done."""
        return count_cost(
            self._profiler.events(),  # type: ignore[no-untyped-call]
            self._milliseconds,
            on_a_gpu=self._on_a_gpu,
        )

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
        if batch_idx == self.warm_up + METERED:
            self._milliseconds = 1000 * (now(pl_module.device) - self._start) / METERED
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
        if batch_idx == self.steps - 1:
            self._profiler.stop()


def meter(module: TrainingModule, fit: Callable[[StepMeter], None]) -> StepCost:
    """Returns what a training step costs.

    Args:
        module: What is trained.
        fit: Trains it for ``StepMeter.steps`` steps with the meter among its callbacks.
    """
    graph = module.config.train.graph  # captured after so many steps of each kind
    found = StepMeter((WARM_UP + 1) * CYCLE if graph else 2, on_a_gpu=module.device.type == "cuda")
    fit(found)
    return found.cost


def count_cost(events: Sequence[Any], milliseconds: float, *, on_a_gpu: bool) -> StepCost:
    """Returns the cost of a step from the profiler's events of ``METERED`` steps.

    Args:
        events: With ``name``, ``device_type`` and, of those on a GPU, ``device_time`` in us.
        milliseconds: Of a step, by the clock.
        on_a_gpu: Whether a GPU has events.
    """
    here = [event for event in events if event.device_type == DeviceType.CPU]
    operators = sum(event.name.startswith("aten::") for event in here) / METERED
    if not on_a_gpu:
        return StepCost(milliseconds, operators)
    there = [event for event in events if event.device_type == DeviceType.CUDA]
    return StepCost(
        milliseconds,
        operators,
        device_milliseconds=sum(event.device_time for event in there) / 1000 / METERED,
        kernels=sum(not event.name.startswith(("Memcpy", "Memset")) for event in there) / METERED,
        copies=sum(event.name.startswith("Memcpy HtoD") for event in there) / METERED,
        waits=sum(event.name in _WAITS for event in here) / METERED,
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
