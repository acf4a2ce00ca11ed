"""What a training step looks at: a batch, or a process's share of it, on the device.

Mixup and CutMix blend its images, and their labels, two by two. An epoch's shares are made before
its first step, so that no step copies anything to the device.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from dermfuse.config import AugmentConfig, Config
from dermfuse.data.loaders import PairRows, inside_boxes
from dermfuse.training.distributed import Batch, Processes, batch_length, take_share


class Mixture(NamedTuple):
    """How the images of one batch are blended.

    Attributes:
        partner: The image each is blended with, (B,) int64.
        share: What each keeps of itself, (B,) float32.
        boxes: For CutMix, where the partner shows: top, left, height, width as fractions of the
            frame, (B, 4) float32; None for mixup.
    """

    partner: Tensor
    share: Tensor
    boxes: Tensor | None

    def images(self, x: Tensor) -> Tensor:
        """Returns the blended images, (B, C, S, S)."""
        if self.boxes is None:
            return x[self.partner].lerp_(x, self.share.view(-1, 1, 1, 1))
        return torch.where(inside_boxes(self.boxes, like=x), x[self.partner], x)

    def values(self, y: Tensor) -> Tensor:
        """Returns the blended labels or targets, (B,) float32."""
        return y[self.partner].float().lerp_(y.float(), self.share)


def draw_mixture(count: int, config: AugmentConfig, rng: np.random.Generator) -> Mixture | None:
    """Returns how a batch is blended; None where nothing is.

    Args:
        count: Images in the batch.
        config: ``mixup`` or ``cutmix``, the parameter of the beta distribution.
        rng: Generator of the batch.
    """
    strength = config.mixup or config.cutmix
    if not strength:
        return None
    partner = torch.from_numpy(rng.permutation(count))
    share = rng.beta(strength, strength, count)
    if config.mixup:
        return Mixture(partner, torch.from_numpy(share).float(), boxes=None)
    side = np.sqrt(1 - share)
    corner = rng.random((2, count)) * (1 - side)
    boxes = torch.from_numpy(np.stack([*corner, side, side], axis=1)).float()
    return Mixture(partner, torch.from_numpy(1 - side**2).float(), boxes)


class Share(NamedTuple):
    """This process's part of a batch.

    Attributes:
        rows: Plan rows whose images pass through the network, (B,) int64; for pairs of Method 2
            stream a's and then stream b's.
        partner: For pairs of Method 1, the permutation that makes stream b of stream a, (B,).
        mixture: How the images are blended; None where nothing is.
        weight: Weight of its loss, so that the mean over the processes is the batch's.
    """

    rows: Tensor
    partner: Tensor | None = None
    mixture: Mixture | None = None
    weight: float = 1.0

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Share":
        """Returns the share of its tensors after ``change``."""
        changed: Share = tree_map_only(Tensor, change, self)
        return changed

    def tensors(self) -> list[Tensor]:
        """Returns all its tensors; as many, and of the same shapes, for batches of one kind."""
        return [part for part in tree_leaves(self) if isinstance(part, Tensor)]


def draw_share(batch: Batch, processes: Processes, config: Config, *, epoch: int) -> Share:
    """Returns a process's share of a batch; how its images are blended depends on it alone.

    Args:
        batch: Plan rows, or pairs of them.
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
