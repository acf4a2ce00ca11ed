"""The arithmetic limit: how fast training could be if products were all it cost."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dermfuse.data.loaders import PairRows
from dermfuse.training.modules import TrainingModule

BACKWARD_FACTOR = 2
"""The backward pass multiplies for the inputs and again for the weights."""

_REPEATS = 5
_SIDE = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True, slots=True)
class ArithmeticLimit:
    """What a training step multiplies, and how fast this device multiplies.

    Args:
        gflop_per_image: Floating-point operations (a multiplication and an addition are two) of
            the convolutions and dense layers, forward and backward, in 10^9.
        matmul_gflop_per_second: Of one large matrix product in the training's precision.
    """

    gflop_per_image: float
    matmul_gflop_per_second: float

    @property
    def images_per_second(self) -> float:
        """The limit, if the whole step ran as fast as a large matrix product.

        Example:
            >>> ArithmeticLimit(4.0, matmul_gflop_per_second=100.0).images_per_second
            25.0
        """
        return self.matmul_gflop_per_second / self.gflop_per_image


def measure_limit(
    module: TrainingModule, schedule: Sequence[Any], *, dtype: torch.dtype
) -> ArithmeticLimit:
    """Returns the arithmetic limit of a training on the device that ``module`` is on.

    Args:
        module: With its samples; its BatchNorm statistics see some batches more.
        schedule: Batches to count on; a pair network's methods differ in what they multiply.
        dtype: Of the matrix product: the training's precision.
    """
    return ArithmeticLimit(
        gflop_per_image=count_flop_per_image(module, schedule) / 1e9,
        matmul_gflop_per_second=matmul_flop_per_second(module.device, dtype) / 1e9,
    )


def count_flop_per_image(module: TrainingModule, schedule: Sequence[Any]) -> float:
    """Returns the floating-point operations of a step per image, both streams counted.

    Those of the augmentation, which is not differentiated, are left out.
    """
    shares = [module.share(batch) for batch in schedule]
    flop = sum(
        _flop(partial(module.step_loss, share)) - _flop(partial(module.images, share.rows))
        for share in shares
    )
    return (1 + BACKWARD_FACTOR) * flop / sum(len(rows_of(batch)) for batch in schedule)


def _flop(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    eagerly = torch.compiler.set_stance("force_eager")  # compiled code hides what it multiplies
    with counter, torch.no_grad(), eagerly:
        work()
    return counter.get_total_flops()


def matmul_flop_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the rate of a large square matrix product, the median of several."""
    side = _SIDE[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    seconds = []
    for _ in range(_REPEATS):
        start = now(device)
        torch.mm(a, b)
        seconds.append(now(device) - start)
    return 2 * side**3 / statistics.median(seconds)


def rows_of(batch: torch.Tensor | PairRows) -> torch.Tensor:
    """Returns the plan rows of a batch, of pairs those of stream a and then those of b."""
    return torch.cat([batch.a, batch.b]) if isinstance(batch, PairRows) else batch


def now(device: torch.device) -> float:
    """Returns the time in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
