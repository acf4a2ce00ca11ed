"""From a configuration to a network."""

from collections.abc import Callable

from torch import nn

from dermfuse.config import ModelConfig
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork
from dermfuse.models.unet import OriginalUNet, UNet

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
