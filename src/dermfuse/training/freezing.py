"""What of a backbone stays as its ImageNet weights have it while the rest is trained."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dermfuse.config import TrainConfig
from dermfuse.models.backbones.base import Backbone

_PROBE_PX = 64


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
        backbone: Any.
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
