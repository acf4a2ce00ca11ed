"""How the weights move from step to step: at which rate, which of them stay, what averages them.

The average is a network of its own beside the one that is trained, inside the Lightning module: it
moves to the device, is saved and resumed with everything else, and what is written is the object
that was validated.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from dermfuse.config import TrainConfig
from dermfuse.errors import ConfigError
from dermfuse.models.backbones.base import Backbone
from dermfuse.training.graphs import first_line

KERAS_MIN_DELTA = 1e-4
"""Smallest fall of the validation loss that counts, as in Keras's ReduceLROnPlateau."""

_PROBE_PX = 64


def count_plateaus(losses: Sequence[float], *, patience: int) -> int:
    """Returns how often the learning rate has been lowered after some epochs.

    It depends on nothing but the losses, so that a resumed run follows the rule as one that was
    never interrupted.

    Args:
        losses: Validation losses, one per epoch.
        patience: After so many epochs in a row without a fall of the loss the rate is lowered,
            and the epochs are counted anew.

    Example:
        >>> [count_plateaus([1.0, 1.0, 1.0, 1.0, 1.0][:epochs], patience=2) for epochs in range(6)]
        [0, 0, 0, 1, 1, 2]

    Paper:
        The rate is halved when the validation loss has not fallen for 3 epochs.
    """
    best, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        waited += 1
        if loss < best - KERAS_MIN_DELTA:
            best, waited = loss, 0
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus


def warm_cosine(step: int, *, steps: int, warmup: float = 0.05) -> float:
    """Returns the factor on the learning rate: up over a share of ``steps``, then down to 0.

    Example:
        >>> [round(warm_cosine(step, steps=100), 2) for step in (0, 4, 50, 100)]
        [0.2, 1.0, 0.5, 0.0]
    """
    warm = max(1, int(steps * warmup))
    return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


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


def require_compiler(train: TrainConfig, accelerator: str) -> None:
    """Refuses ``train.compile`` where nothing can be compiled, by compiling very little.

    Args:
        train: Whether it is asked for.
        accelerator: ``cpu`` or ``cuda``; each needs compilers of its own.

    Raises:
        ConfigError: If there is no compiler, or it does not work.
    """
    if not train.compile:
        return
    try:
        torch.compile(lambda x: x + x)(torch.ones(2, device=accelerator))
    except (RuntimeError, ImportError, OSError) as error:
        raise ConfigError(
            f"train.compile is true and torch.compile does not work here ({first_line(error)})",
            expected="a C++ compiler, and Triton for CUDA",
            action="Install them or set train.compile=false",
        ) from error


def freeze(network: nn.Module, train: TrainConfig) -> list[nn.Module]:
    """Stops the gradients of what ``train`` keeps; returns what an epoch begins in eval mode.

    Args:
        network: Any network; one without a ``backbone`` keeps nothing.
        train: ``backbone``, ``frozen_stages`` and ``batch_norm`` say what is kept.
    """
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Backbone):
        return []
    norms = [layer for layer in backbone.modules() if isinstance(layer, _BatchNorm)]
    if train.backbone == "frozen":
        backbone.requires_grad_(requires_grad=False)
        return [backbone]
    kept = parameters_behind(backbone, train.frozen_stages)
    for parameter in kept:
        parameter.requires_grad_(False)
    frozen = {id(parameter) for parameter in kept}
    return [norm for norm in norms if train.batch_norm == "frozen" or id(norm.weight) in frozen]


def parameters_behind(backbone: Backbone, stages: int) -> list[nn.Parameter]:
    """Returns the parameters that a backbone's first maps depend on.

    They are those that a map's gradient reaches, so no backbone needs to list them.

    Args:
        backbone: Any backbone.
        stages: How many of the five maps, from stride 2 on; 0 for none.

    Example:
        >>> from dermfuse.models.backbones.mobilenet_v1 import MobileNetV1
        >>> [len(parameters_behind(MobileNetV1(), stages)) for stages in (0, 1, 5)]
        [0, 3, 81]
    """
    if not stages:
        return []
    parameters = list(backbone.parameters())
    training = backbone.training
    with torch.enable_grad():
        maps = backbone.eval().features(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
        gradients = torch.autograd.grad(maps[stages - 1].sum(), parameters, allow_unused=True)
    backbone.train(training)
    return [
        parameter
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    ]


def _values(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the weights and statistics of a network, and its counters."""
    values = [*network.parameters(), *network.buffers()]
    floats = [value for value in values if value.is_floating_point()]
    return floats, [value for value in values if not value.is_floating_point()]
