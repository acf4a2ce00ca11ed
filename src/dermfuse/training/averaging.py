"""An exponential moving average of the weights, which is validated and kept in their place.

The average lives inside the Lightning module: it moves to the device, is saved and resumed with
everything else. It is a network of its own beside the one that is trained, so there is no moment
at which one stands in for the other, and what is written is the object that was validated.
"""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_weights(network: nn.Module) -> AveragedModel:
    """Returns a copy of ``network`` for ``move_average`` to move."""
    averaged = AveragedModel(network)
    averaged.requires_grad_(requires_grad=False)
    return averaged


@torch.no_grad()
def move_average(
    averaged: AveragedModel, network: nn.Module, *, decay: float, updates: int
) -> None:
    """Moves the average towards the weights; the first update copies, later ones average.

    The statistics of BatchNorm are averaged as the weights are: those of the last batches belong
    to the last weights, and not to an average that lies some hundred steps behind them. Counters
    are copied. ``AveragedModel`` would read its count from the device in every step.

    Args:
        averaged: What ``average_weights`` returned.
        network: What is trained.
        decay: Share of the average that a step leaves, from 0 to below 1.
        updates: How many there were before.
    """
    weight = 1 - warm_decay(updates, decay) if updates else 1.0
    floats, counters = _values(averaged.module)
    current, current_counters = _values(network)
    torch._foreach_lerp_(floats, current, weight)
    if counters:
        torch._foreach_copy_(counters, current_counters)
    averaged.n_averaged.add_(1)


def warm_decay(updates: int, decay: float) -> float:
    """Returns the decay after ``updates`` updates: small at first, so that the start is forgotten.

    Example:
        >>> [round(warm_decay(updates, 0.9), 2) for updates in (0, 1, 10, 100)]
        [0.1, 0.18, 0.55, 0.9]
    """
    return min(decay, (1 + updates) / (10 + updates))


def _values(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the weights and statistics of a network, and its counters."""
    values = list(chain(network.parameters(), network.buffers()))
    floats = [value for value in values if value.is_floating_point()]
    return floats, [value for value in values if not value.is_floating_point()]
