"""From a configuration to a network."""

from collections.abc import Callable

from torch import nn

from dermfuse.config import ModelConfig
from dermfuse.models.backbones import Backbone, build_backbone
from dermfuse.models.classifier import Classifier
from dermfuse.models.discriminant import DiscriminantNetwork
from dermfuse.models.joint import JointNetwork
from dermfuse.models.unet import UNet
from dermfuse.models.unet_original import OriginalUNet

_ON_A_BACKBONE: dict[str, Callable[[Backbone], nn.Module]] = {
    "classifier": Classifier,
    "discriminant": DiscriminantNetwork,
    "unet": UNet,
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
    return _ON_A_BACKBONE[config.network](build_backbone(config.backbone))
