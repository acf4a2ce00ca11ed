"""Mixup and CutMix: images of a batch, and their labels, blended two by two."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dermfuse.config import AugmentConfig
from dermfuse.data.pixels import inside_boxes


@dataclass(frozen=True, slots=True)
class Mixture:
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

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Returns the mixture of its tensors after ``change``."""
        boxes = None if self.boxes is None else change(self.boxes)
        return type(self)(change(self.partner), change(self.share), boxes)

    def tensors(self) -> list[Tensor]:
        """Returns its tensors."""
        return [self.partner, self.share, *([] if self.boxes is None else [self.boxes])]

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
        rng: Of the batch.
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
