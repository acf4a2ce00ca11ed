"""Training in several processes, one for each device, as if it were one.

The batch of a configuration is that of all processes together. Each takes its share of it and
weights its loss by that share, so that the mean gradient is the gradient of the whole batch.
On GPUs BatchNorm sees the whole batch too (PyTorch's ``SyncBatchNorm``), and what differs from one
process is the order of additions. On CPUs each process normalises by its own share, and the
statistics that are validated with and kept are the first one's. Processes come from Lightning,
which starts this program again for each further device, or from ``torchrun``, on one host or on
several.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from dermfuse.config import Config
from dermfuse.data.loaders import PairRows
from dermfuse.errors import ConfigError, TrainingError

Batch = Tensor | PairRows
"""Plan rows of images, or of pairs."""

SMALLEST_SHARE = 2
"""Samples of a batch that each process needs at least."""

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Names the CPU's lack of memory, whose error has no class of its own."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Where this process stands among those that train together.

    Attributes:
        rank: Its number, from 0; the first one writes files and messages.
        count: How many there are.
        hosts: On how many machines they run, equally many on each.
    """

    rank: int = 0
    count: int = 1
    hosts: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages for all."""
        return self.rank == 0

    @property
    def per_host(self) -> int:
        """Processes, and devices, on each machine."""
        return self.count // self.hosts


def find_processes(devices: int) -> Processes:
    """Returns where this process stands.

    Args:
        devices: Asked for on this host. Under ``torchrun`` 1 means what ``torchrun`` started.

    Raises:
        ConfigError: If there are less than one, or others than ``torchrun`` started.
    """
    if devices < 1:
        raise ConfigError(f"devices is {devices}", expected="1 or more", action="Set --devices 1")
    if not _under_torchrun():
        rank = int(os.environ.get("LOCAL_RANK", "0")) if devices > 1 else 0
        return Processes(rank, devices)
    rank, count, local = (
        int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if devices not in (1, local):
        raise ConfigError(
            f"devices is {devices} where torchrun started {local} processes",
            expected="the same number",
            action="Leave --devices out under torchrun",
        )
    return Processes(rank, count, count // local)


def require_devices(processes: Processes, accelerator: str) -> None:
    """Refuses more devices than there are, and a program that cannot be started again.

    Raises:
        ConfigError: For either.
    """
    if accelerator == "cuda" and processes.per_host > torch.cuda.device_count():
        raise ConfigError(
            f"{processes.per_host} devices are asked for and PyTorch finds"
            f" {torch.cuda.device_count()} of CUDA",
            expected="as many on each host",
            action="Lower --devices",
        )
    module = getattr(sys.modules["__main__"], "__spec__", None)
    can_start_again = module is not None or Path(sys.argv[0]).is_file()
    if processes.count > 1 and not (_under_torchrun() or can_start_again):
        raise ConfigError(
            f"{processes.count} devices are asked for from no script",
            expected="a program that can be started once for each device",
            action="Use dermfuse train --devices, a script of your own, or torchrun",
        )


def require_shares(smallest_batch: int, validation_rows: int, processes: Processes) -> None:
    """Refuses batches, or validation samples, that do not go round; none at all is no lack.

    Raises:
        ConfigError: If a process would be left with next to nothing.
    """
    if processes.count == 1:
        return
    few_to_validate = 0 < validation_rows < processes.count
    if smallest_batch < SMALLEST_SHARE * processes.count or few_to_validate:
        raise ConfigError(
            f"batches of {smallest_batch} samples and {validation_rows} validation samples for"
            f" {processes.count} devices",
            expected=f"{SMALLEST_SHARE} samples of each batch, 1 of validation, for every device",
            action="Raise train.batch_size or lower --devices",
        )


def batch_length(batch: Batch) -> int:
    """Returns the samples of a batch; pairs count once."""
    return len(batch.a) if isinstance(batch, PairRows) else len(batch)


def take_share(batch: Batch, processes: Processes) -> Batch:
    """Returns this process's share of a batch; the shares of all hold each sample once.

    Pairs stay whole. For Method 1, two images that are each other's partners go to the same
    process, so that its share is a permutation of itself, as the batch is.

    Example:
        >>> take_share(torch.tensor([4, 5, 6]), Processes(rank=1, count=2)).tolist()
        [6]
    """
    if processes.count == 1:
        return batch
    if isinstance(batch, Tensor):
        return batch.tensor_split(processes.count)[processes.rank]
    if batch.partner is None:
        a, b = (rows.tensor_split(processes.count)[processes.rank] for rows in (batch.a, batch.b))
        return PairRows(a, b, None)
    partner = batch.partner
    earlier = (torch.arange(len(partner)) <= partner).nonzero()[:, 0]  # one of each matched two
    mine = earlier.tensor_split(processes.count)[processes.rank]
    kept = torch.unique(torch.cat([mine, partner[mine]]))
    return PairRows(batch.a[kept], batch.b[kept], torch.searchsorted(kept, partner[kept]))


def mean_over_processes(value: Tensor, processes: Processes) -> Tensor:
    """Returns the mean of every process's scalar, the same on all of them."""
    if processes.count == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / processes.count


def gather_in_order(outputs: Sequence[Tensor], processes: Processes) -> list[Tensor]:
    """Returns each output of all processes, concatenated by rank."""
    if processes.count == 1:
        return list(outputs)
    everywhere: list[Any] = [None] * processes.count
    distributed.all_gather_object(everywhere, [output.cpu() for output in outputs])
    return [
        torch.cat(parts).to(mine.device)
        for mine, parts in zip(outputs, zip(*everywhere, strict=True), strict=True)
    ]


def as_the_first(values: dict[str, float], processes: Processes) -> dict[str, float]:
    """Returns the first process's values, so that all of them decide alike."""
    if processes.count == 1:
        return values
    message = [values]
    distributed.broadcast_object_list(message, src=0)
    return message[0]


def share_statistics(network: nn.Module, processes: Processes) -> None:
    """Gives every process the first one's BatchNorm statistics."""
    if processes.count > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)


@contextmanager
def explain_memory(config: Config) -> Iterator[None]:
    """Says what to do where PyTorch runs out of memory, on a GPU or on the CPU.

    Args:
        config: The training; its batch and its input size decide how much memory it takes.

    Raises:
        TrainingError: If it does; other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)):
            raise
        batch, size = config.train.batch_size, config.data.input_size
        raise TrainingError(
            f"memory ran out with train.batch_size {batch} and data.input_size {size}",
            expected="a batch that fits beside the network and the decoded images",
            action="Lower train.batch_size, then data.input_size, or free the device",
        ) from error


def _under_torchrun() -> bool:
    return distributed.is_available() and distributed.is_torchelastic_launched()
