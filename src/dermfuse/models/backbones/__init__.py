"""The nine backbones, one file per paper, under the names that presets spell."""

from collections.abc import Mapping

from dermfuse.errors import ConfigError
from dermfuse.models.backbones.base import Backbone
from dermfuse.models.backbones.densenet import DenseNet121
from dermfuse.models.backbones.efficientnet_lite import EfficientNetLite0
from dermfuse.models.backbones.mobilenet_v1 import MobileNetV1
from dermfuse.models.backbones.mobilenet_v2 import MobileNetV2
from dermfuse.models.backbones.resnet import ResNet18
from dermfuse.models.backbones.resnext import ResNeXt50
from dermfuse.models.backbones.shufflenet import ShuffleNet
from dermfuse.models.backbones.squeezenet import SqueezeNet
from dermfuse.models.backbones.vgg import Vgg16
from dermfuse.records import did_you_mean

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

BACKBONES: Mapping[str, type[Backbone]] = {
    backbone.name: backbone
    for backbone in (
        *(MobileNetV1, DenseNet121, SqueezeNet, ShuffleNet, ResNet18),
        *(Vgg16, ResNeXt50, EfficientNetLite0, MobileNetV2),
    )
}
"""Every backbone by its name."""


def build_backbone(name: str) -> Backbone:
    """Returns a backbone with random weights.

    Args:
        name: A key of ``BACKBONES``.

    Raises:
        ConfigError: There is no backbone of that name.

    Example:
        >>> build_backbone("mobilenet_v1").embedding_channels
        1024
    """
    if name not in BACKBONES:
        raise ConfigError(
            f"there is no backbone {name!r}",
            expected="one of " + ", ".join(BACKBONES),
            action=did_you_mean(name, BACKBONES),
        )
    return BACKBONES[name]()
