"""The networks: backbones, the classifier, the pair network, the U-Net, the joint network."""

from collections.abc import Callable

from torch import nn

from dermfuse.config import ModelConfig
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork
from dermfuse.models.unet import OriginalUNet, UNet

__all__ = ["build_network", "count_parameters"]

_WITH_A_CLASS_HEAD: dict[str, Callable[..., nn.Module]] = {
    "classifier": Classifier,
    "discriminant": DiscriminantNetwork,
    "joint": JointNetwork,
}


def build_network(config: ModelConfig) -> nn.Module:
    """Returns the network a configuration names, with random weights.

    Example:
        >>> type(build_network(ModelConfig(network="discriminant"))).__name__
        'DiscriminantNetwork'
    """
    if config.network == "unet_original":
        return OriginalUNet()
    backbone = build_backbone(config.backbone)
    if config.network == "unet":
        return UNet(backbone)
    return _WITH_A_CLASS_HEAD[config.network](backbone, dropout=config.dropout)


def count_parameters(module: nn.Module, *, trainable: bool) -> int:
    """Returns how many numbers a network is made of, as the paper counts them.

    Args:
        module: The network.
        trainable: Only what training changes; otherwise BatchNorm's running mean and variance
            count too (its batch counter never does), as in Keras's total.

    Example:
        >>> layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> count_parameters(layers, trainable=True), count_parameters(layers, trainable=False)
        (15, 21)
    """
    parameters = sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
    if trainable:
        return parameters
    statistics = ("running_mean", "running_var")
    return parameters + sum(
        buffer.numel() for key, buffer in module.named_buffers() if key.endswith(statistics)
    )
