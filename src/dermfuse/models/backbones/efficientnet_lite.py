"""EfficientNet-Lite0: Tan and Le 2019, in the form that Google released for mobile devices.

Without squeeze-and-excitation and with ReLU6 instead of swish, it quantises well. Follows the
TensorFlow release (SAME padding, BatchNorm epsilon 1e-3), as its weights were trained.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dermfuse.models.backbones.base import TENSORFLOW, Backbone, Normalisation
from dermfuse.models.backbones.mobilenet_v1 import ConvNormReLU6
from dermfuse.models.backbones.mobilenet_v2 import stack_bottlenecks


class Stage(NamedTuple):
    """n blocks: expansion t, c output channels, stride s of the first, kernel k."""

    t: int
    c: int
    n: int
    s: int
    k: int


STEM_CHANNELS = 32
STAGES = (
    Stage(t=1, c=16, n=1, s=1, k=3),  # stride 2
    Stage(t=6, c=24, n=2, s=2, k=3),  # stride 4
    Stage(t=6, c=40, n=2, s=2, k=5),  # stride 8
    Stage(t=6, c=80, n=3, s=2, k=3),
    Stage(t=6, c=112, n=3, s=1, k=5),  # stride 16
    Stage(t=6, c=192, n=4, s=2, k=5),
    Stage(t=6, c=320, n=1, s=1, k=3),  # stride 32
)
TOP_CHANNELS = 1280


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier: 3,371,008 trainable parameters.

    ``forward`` adds the 1x1 convolution to 1280 channels, which only the classifier uses.

    Example:
        >>> import torch
        >>> EfficientNetLite0().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280, 2, 2])
    """

    name: ClassVar[str] = "efficientnet_lite0"
    normalisation: ClassVar[Normalisation] = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)
    channels: ClassVar[tuple[int, int, int, int, int]] = (16, 24, 40, 112, 320)
    embedding_channels: ClassVar[int] = TOP_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, STEM_CHANNELS, kernel=3, s=2)
        self.stages = nn.ModuleList()
        c_in = STEM_CHANNELS
        for t, c, n, s, k in STAGES:
            self.stages.append(stack_bottlenecks(c_in, c, t=t, n=n, s=s, k=k, release=TENSORFLOW))
            c_in = c
        self.top = ConvNormReLU6(c_in, TOP_CHANNELS, kernel=1)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        x = self.stem(x)  # (B, 32, H/2, W/2)
        maps = []
        for stage, module in zip(STAGES, self.stages, strict=True):
            if stage.s == 2:
                maps.append(x)
            x = module(x)
        return maps[0], maps[1], maps[2], maps[3], x

    def embedding_map(self, deepest: Tensor) -> Tensor:
        """Returns the map that is pooled, (B, 1280, H/32, W/32), from that at stride 32."""
        top: Tensor = self.top(deepest)
        return top

    def embedding_layers(self) -> tuple[nn.Module, ...]:
        """Returns the top layer."""
        return (self.top,)


def convert_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights under this file's names, from timm's ``tf_efficientnet_lite0``.

    Args:
        state: ``conv_stem``, ``bn1``, ``blocks.I.J.{conv_pw,bn1,conv_dw,bn2,conv_pwl,bn3}``
            (``{conv_dw,bn1,conv_pw,bn2}`` in the first stage), ``conv_head``, ``bn2``.
    """
    return {_own_name(key): tensor for key, tensor in state.items()}


_OUTER = {"conv_stem": "stem.conv", "bn1": "stem.norm", "conv_head": "top.conv", "bn2": "top.norm"}
_SEPARABLE = {
    "conv_dw": "depthwise.conv",
    "bn1": "depthwise.norm",
    "conv_pw": "project.conv",
    "bn2": "project.norm",
}
_INVERTED = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
}


def _own_name(key: str) -> str:
    *path, module, leaf = key.split(".")
    if not path:
        return f"{_OUTER.get(module, module)}.{leaf}"
    names = _SEPARABLE if path[1] == "0" else _INVERTED
    return ".".join(["stages", *path[1:], names.get(module, module), leaf])
