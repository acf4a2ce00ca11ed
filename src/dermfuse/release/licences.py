"""Under which licences the ImageNet weights were published that trainings start from."""

from collections.abc import Mapping
from types import MappingProxyType

LICENCES: Mapping[str, str] = MappingProxyType(
    {
        "mobilenet_v1": "TensorFlow, Apache-2.0",
        "efficientnet_lite0": "TensorFlow, by way of timm, Apache-2.0",
        "mobilenet_v2": "torchvision, BSD-3-Clause",
        "squeezenet1_1": "torchvision, BSD-3-Clause; the network's authors, BSD-2-Clause",
        "vgg16": "torchvision, BSD-3-Clause",
        "densenet121": "torchvision, BSD-3-Clause",
        "resnet18": "torchvision, BSD-3-Clause",
        "resnext50": "torchvision, BSD-3-Clause",
    }
)
"""Publisher and licence by backbone."""


def licence_of(backbone: str) -> str:
    """Returns publisher and licence of a backbone's ImageNet weights.

    Example:
        >>> licence_of("mobilenet_v1"), licence_of("shufflenet_v1")
        ('TensorFlow, Apache-2.0', 'not known')
    """
    return LICENCES.get(backbone, "not known")
