"""What a training step looks at: a batch, or a process's share of it, on the device.

An epoch's shares are made before its first step, so that no step copies anything to the device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dermfuse.config import Config
from dermfuse.data.loaders import PairRows
from dermfuse.training.distributed import Batch, Processes, batch_length, take_share
from dermfuse.training.mixing import Mixture, draw_mixture


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """This process's part of a batch.

    Attributes:
        rows: Plan rows whose images pass through the network, (B,) int64; for pairs of Method 2
            stream a's and then stream b's.
        partner: For pairs of Method 1, the permutation that makes stream b of stream a, (B,).
        mixture: How the images are blended; None where nothing is.
        weight: Of its loss, so that the mean over the processes is the batch's.
    """

    rows: Tensor
    partner: Tensor | None = None
    mixture: Mixture | None = None
    weight: float = 1.0

    def to(self, device: torch.device) -> Self:
        """Returns the share on another device."""
        return self._mapped(lambda part: part.to(device))

    def clone(self) -> Self:
        """Returns a copy in memory of its own."""
        return self._mapped(torch.clone)

    def tensors(self) -> list[Tensor]:
        """Returns all its tensors; as many, and of the same shapes, for batches of one kind."""
        mixed = [] if self.mixture is None else self.mixture.tensors()
        return [self.rows, *([] if self.partner is None else [self.partner]), *mixed]

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        partner = None if self.partner is None else change(self.partner)
        mixture = None if self.mixture is None else self.mixture.mapped(change)
        return replace(self, rows=change(self.rows), partner=partner, mixture=mixture)


def draw_share(batch: Batch, processes: Processes, config: Config, *, epoch: int) -> Share:
    """Returns a process's share of a batch; how its images are blended depends on it alone.

    Args:
        batch: Of plan rows, or of pairs.
        processes: Where this one stands.
        config: Says whether images are blended, and the seed.
        epoch: From 0.
    """
    share = take_share(batch, processes)
    weight = processes.count * batch_length(share) / batch_length(batch)
    partner = share.partner if isinstance(share, PairRows) else None
    rows = rows_of(share)
    seeds = [config.train.seed, epoch, *rows[:4].tolist()]
    mixture = draw_mixture(len(rows), config.augment, np.random.default_rng(seeds))
    return Share(rows, partner, mixture, weight)


def rows_of(batch: Batch) -> Tensor:
    """Returns the rows of a batch whose images pass through the network.

    Method 1 sends each image through it once; of Method 2 they are stream a's, then b's.
    """
    if isinstance(batch, Tensor):
        return batch
    return batch.a if batch.partner is not None else torch.cat([batch.a, batch.b])
