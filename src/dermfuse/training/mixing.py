"""Mixup and CutMix: images of a batch, and their labels, blended two by two."""

from dataclasses import dataclass

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

    def images(self, x: Tensor) -> Tensor:
        """Returns the blended images, (B, C, S, S)."""
        partner = self.partner.to(x.device)
        if self.boxes is None:
            share = self.share.to(x).view(-1, 1, 1, 1)
            return x * share + x[partner] * (1 - share)
        return torch.where(inside_boxes(self.boxes, like=x), x[partner], x)

    def values(self, y: Tensor) -> Tensor:
        """Returns the blended labels or targets, (B,) float32."""
        share = self.share.to(y.device)
        return y.float() * share + y[self.partner.to(y.device)].float() * (1 - share)


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
