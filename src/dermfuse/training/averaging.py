"""An exponential moving average of the weights, which is validated and kept in their place.

The average lives inside the Lightning module: it moves to the device, is saved and resumed with
everything else. It is a network of its own beside the one that is trained, so there is no moment
at which one stands in for the other, and what is written is the object that was validated.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Params = tuple[Tensor, ...] | list[Tensor]


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """Returns the moving average of ``network``; its first update copies, later ones average.

    The statistics of BatchNorm are averaged as the weights are: those of the last batches belong
    to the last weights, and not to an average that lies some hundred steps behind them.

    Args:
        network: What is trained.
        decay: Share of the average that a step leaves, from 0 to below 1.
    """
    averaged = AveragedModel(network, multi_avg_fn=partial(_move_, decay=decay), use_buffers=True)
    averaged.requires_grad_(requires_grad=False)
    return averaged


def warm_decay(updates: int, decay: float) -> float:
    """Returns the decay after ``updates`` updates: small at first, so that the start is forgotten.

    Example:
        >>> [round(warm_decay(updates, 0.9), 2) for updates in (0, 1, 10, 100)]
        [0.1, 0.18, 0.55, 0.9]
    """
    return min(decay, (1 + updates) / (10 + updates))


def _move_(averaged: Params, current: Params, updates: Tensor | int, *, decay: float) -> None:
    """Moves the averages, of one type, towards the current values; counters are copied."""
    if averaged[0].is_floating_point():
        torch._foreach_lerp_(averaged, current, 1 - warm_decay(int(updates), decay))
    else:
        torch._foreach_copy_(averaged, current)
