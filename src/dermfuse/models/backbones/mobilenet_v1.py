"""MobileNetV1: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks".

Follows TensorFlow's release (SAME padding, ReLU6, BatchNorm epsilon 1e-3), because that is
what the published ImageNet weights were trained with.
"""

from typing import NamedTuple

from torch import Tensor, nn

from dermfuse.models.backbones.base import (
    SYMMETRIC,
    TENSORFLOW,
    Backbone,
    Maps,
    Release,
    SamePadConv2d,
    State,
    maps_before_halving,
)

STEM_CHANNELS = 32

_KERAS = {  # Keras's weights: ours, and the order of their axes there
    "kernel": ("weight", (3, 2, 0, 1)),  # (H, W, I, O) -> (O, I, H, W)
    "depthwise_kernel": ("weight", (2, 3, 0, 1)),  # (H, W, C, 1) -> (C, 1, H, W)
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
}


class Separable(NamedTuple):
    """One row of Table I: c output channels, stride s of the depthwise convolution."""

    c: int
    s: int


BLOCKS = (
    Separable(c=64, s=1),  # depthwise separable block 1
    Separable(c=128, s=2),
    Separable(c=128, s=1),  # block 2
    Separable(c=256, s=2),
    Separable(c=256, s=1),  # block 3
    Separable(c=512, s=2),
    *(Separable(c=512, s=1),) * 5,  # block 4
    Separable(c=1024, s=2),
    Separable(c=1024, s=1),  # block 5
)


class ConvNormReLU6(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU6.

    Shape:
        (B, c_in, H, W) -> (B, c_out, ceil(H/s), ceil(W/s))
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        s: int = 1,
        groups: int = 1,
        release: Release = TENSORFLOW,
    ) -> None:
        super().__init__()
        convolution = SamePadConv2d if release.same_padding else nn.Conv2d
        padding = 0 if release.same_padding else kernel // 2
        self.conv = convolution(c_in, c_out, kernel, s, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=release.epsilon)
        self.relu = nn.ReLU6(inplace=True)


class SeparableBlock(nn.Sequential):
    """Depthwise 3x3, then pointwise 1x1, each with BatchNorm and ReLU6.

    Shape:
        (B, c_in, H, W) -> (B, c, ceil(H/s), ceil(W/s))
    """

    def __init__(self, c_in: int, c: int, *, s: int) -> None:
        super().__init__()
        self.depthwise = ConvNormReLU6(c_in, c_in, kernel=3, s=s, groups=c_in)
        self.pointwise = ConvNormReLU6(c_in, c, kernel=1)


class MobileNetV1(Backbone):
    """MobileNetV1 1.0 without its classifier: 3,206,976 trainable parameters.

    The maps are the first convolution and the last separable block of each resolution.

    Paper:
        Table I; skips of U-MobileNetV1 as in section III-C-2.

    Example:
        >>> import torch
        >>> MobileNetV1().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1024, 2, 2])
    """

    name = "mobilenet_v1"
    normalisation = SYMMETRIC
    channels = (32, 128, 256, 512, 1024)
    embedding_channels = 1024

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, STEM_CHANNELS, kernel=3, s=2)
        c_in = (STEM_CHANNELS, *(block.c for block in BLOCKS))
        self.blocks = nn.ModuleList(
            SeparableBlock(c, block.c, s=block.s) for c, block in zip(c_in, BLOCKS, strict=False)
        )

    def features(self, x: Tensor) -> Maps:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        stem = self.stem(x)  # (B, 32, H/2, W/2)
        _, *deeper = maps_before_halving(stem, self.blocks, [block.s for block in BLOCKS])
        return stem, *deeper


def convert_published(state: State) -> dict[str, Tensor]:
    """Returns weights under this file's names, from the names of the published file.

    Args:
        state: ``conv_stem.{0,1}.*`` and ``blocks.I.{dw,pw}.{0,1}.*``: 0 a convolution, 1 its
            BatchNorm.
    """
    words = {"conv_stem": "stem", "dw": "depthwise", "pw": "pointwise"}
    converted = {}
    for key, tensor in state.items():
        *path, index, leaf = key.split(".")
        module = {"0": "conv", "1": "norm"}.get(index, index)
        converted[".".join([*(words.get(word, word) for word in path), module, leaf])] = tensor
    return converted


def convert_keras(state: State) -> dict[str, Tensor]:
    """Returns Keras's weights under the names of the published file.

    Args:
        state: ``LAYER/WEIGHT`` as in Keras's HDF5 file: ``conv1/kernel``,
            ``conv_dw_1_bn/gamma``, ``conv_pw_13/kernel``...
    """
    converted = {}
    for key, tensor in state.items():
        layer, weight = key.split("/")
        leaf, axes = _KERAS[weight]
        kind, _, number = layer.removesuffix("_bn").removeprefix("conv_").partition("_")
        module = f"blocks.{int(number) - 1}.{kind}" if number else "conv_stem"
        index = int(layer.endswith("_bn"))
        converted[f"{module}.{index}.{leaf}"] = tensor.permute(axes).contiguous()
    return converted
