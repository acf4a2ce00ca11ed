"""EfficientNet-Lite0: Tan and Le 2019, in the form that Google released for mobile devices.

Without squeeze-and-excitation and with ReLU6 instead of swish, it quantises well. Follows the
TensorFlow release (SAME padding, BatchNorm epsilon 1e-3), as its weights were trained.
"""

from torch import Tensor

from dermfuse.models.backbones.base import TENSORFLOW, Maps, Normalisation, State
from dermfuse.models.backbones.mobilenet_v2 import (
    TOP_CHANNELS,
    Bottleneck,
    MobileNetV2,
    rename_layers,
)

STAGES = (
    Bottleneck(t=1, c=16, n=1, s=1),  # stride 2
    Bottleneck(t=6, c=24, n=2, s=2),  # stride 4
    Bottleneck(t=6, c=40, n=2, s=2, k=5),  # stride 8
    Bottleneck(t=6, c=80, n=3, s=2),
    Bottleneck(t=6, c=112, n=3, s=1, k=5),  # stride 16
    Bottleneck(t=6, c=192, n=4, s=2, k=5),
    Bottleneck(t=6, c=320, n=1, s=1),  # stride 32
)


class EfficientNetLite0(MobileNetV2):
    """EfficientNet-Lite0 without its classifier: 3,371,008 trainable parameters.

    Its blocks and its top are MobileNetV2's. The map at stride 2 is the first stage's.

    Example:
        >>> import torch
        >>> EfficientNetLite0().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280, 2, 2])
    """

    name = "efficientnet_lite0"
    normalisation = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)
    channels = (16, 24, 40, 112, 320)
    embedding_channels = TOP_CHANNELS
    rows = STAGES
    release = TENSORFLOW

    def features(self, x: Tensor) -> Maps:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        return self.stage_maps(self.stem(x))


def convert_timm(state: State) -> dict[str, Tensor]:
    """Returns weights under MobileNetV2's names, from timm's ``tf_efficientnet_lite0``.

    Args:
        state: ``conv_stem``, ``bn1``, ``blocks.I.J.LAYER``, ``conv_head``, ``bn2``.
    """
    return rename_layers(
        state,
        outer="conv_stem bn1 conv_head bn2",
        first="conv_dw bn1 conv_pw bn2",
        later="conv_pw bn1 conv_dw bn2 conv_pwl bn3",
    )
