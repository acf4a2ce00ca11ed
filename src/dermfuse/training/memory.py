"""What a training that does not fit into memory is told."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dermfuse.config import Config
from dermfuse.errors import TrainingError

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Names the CPU's lack of memory: its error has no class of its own, as that of CUDA has."""


@contextmanager
def explain_memory(config: Config) -> Iterator[None]:
    """Says what to do where PyTorch runs out of memory, on a GPU or on the CPU.

    Args:
        config: Of the training; its batch and its input size decide what it takes.

    Raises:
        TrainingError: If it does; other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        batch, size = config.train.batch_size, config.data.input_size
        raise TrainingError(
            f"memory ran out with train.batch_size {batch} and data.input_size {size}",
            expected="a batch that fits beside the network and the decoded images",
            action="Lower train.batch_size, then data.input_size, or free the device",
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)
