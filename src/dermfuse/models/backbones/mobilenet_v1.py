"""MobileNetV1: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks".

Follows TensorFlow's release (SAME padding, ReLU6, BatchNorm epsilon 1e-3), because that is
what the published ImageNet weights were trained with.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dermfuse.models.backbones.base import (
    SYMMETRIC,
    TENSORFLOW,
    Backbone,
    Normalisation,
    Release,
    SamePadConv2d,
)


class Separable(NamedTuple):
    """One row of Table I: c output channels, stride s of the depthwise convolution."""

    c: int
    s: int


STEM_CHANNELS = 32
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

    name: ClassVar[str] = "mobilenet_v1"
    normalisation: ClassVar[Normalisation] = SYMMETRIC
    channels: ClassVar[tuple[int, int, int, int, int]] = (32, 128, 256, 512, 1024)
    embedding_channels: ClassVar[int] = 1024

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, STEM_CHANNELS, kernel=3, s=2)
        c_in = (STEM_CHANNELS, *(block.c for block in BLOCKS))
        self.blocks = nn.ModuleList(
            SeparableBlock(c, block.c, s=block.s) for c, block in zip(c_in, BLOCKS, strict=False)
        )

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        stages = []
        x = self.stem(x)  # (B, 32, H/2, W/2)
        stages.append(x)
        for row, (block, module) in enumerate(zip(BLOCKS, self.blocks, strict=True)):
            if block.s == 2 and row > 1:  # the map at stride 2 is the stem's
                stages.append(x)
            x = module(x)
        return stages[0], stages[1], stages[2], stages[3], x


def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def convert_keras(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns Keras's weights (HWIO) under the names of the published file (OIHW).

    Args:
        state: ``LAYER/WEIGHT`` as in Keras's HDF5 file: ``conv1/kernel``,
            ``conv_dw_1_bn/gamma``, ``conv_pw_13/kernel``...
    """
    return {_published_name(key): _oihw(key, tensor) for key, tensor in state.items()}


_KERAS_LEAVES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _published_name(key: str) -> str:
    layer, leaf = key.split("/")
    index = "1" if layer.endswith("_bn") else "0"
    kind, _, number = layer.removesuffix("_bn").removeprefix("conv_").partition("_")
    module = f"blocks.{int(number) - 1}.{kind}" if number else "conv_stem"
    return f"{module}.{index}.{_KERAS_LEAVES[leaf]}"


def _oihw(key: str, tensor: Tensor) -> Tensor:
    if key.endswith("/depthwise_kernel"):
        return tensor.permute(2, 3, 0, 1).contiguous()  # (H, W, C, 1) -> (C, 1, H, W)
    if key.endswith("/kernel"):
        return tensor.permute(3, 2, 0, 1).contiguous()  # (H, W, I, O) -> (O, I, H, W)
    return torch.clone(tensor)
