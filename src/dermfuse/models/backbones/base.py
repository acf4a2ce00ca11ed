"""The contract every backbone keeps.

A backbone turns an image into feature maps. The classifier pools the last of them, the
U-Net joins all of them, so one contract serves both:

    features(x)  -> five maps at strides 2, 4, 8, 16, 32, shallow to deep
    forward(x)   -> the last map before global average pooling, (B, embedding_channels, H/32, W/32)

The joint network needs both in one pass: ``embedding_map`` makes the latter of the former.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (2, 4, 8, 16, 32)
"""Strides of the five maps that ``Backbone.features`` returns."""

Maps = tuple[Tensor, ...]
"""Five feature maps, shallow to deep, (B, C, H/2, W/2) to (B, C, H/32, W/32)."""
State = Mapping[str, Tensor]
"""Weights by name."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How a pixel is scaled before the first convolution: ``(x - mean) / std``, x in [0, 1].

    Args:
        mean: Per channel, RGB.
        std: Per channel, RGB.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's convention: RGB / 255, ImageNet mean and deviation."""
SYMMETRIC = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""TensorFlow's convention for MobileNet: RGB / 127.5 - 1."""


@dataclass(frozen=True, slots=True)
class Release:
    """In what TensorFlow's and PyTorch's releases of one network differ.

    Args:
        same_padding: Strided convolutions pad as TensorFlow's SAME; else on both sides alike.
        epsilon: Epsilon of every BatchNorm.
    """

    same_padding: bool
    epsilon: float


TENSORFLOW = Release(same_padding=True, epsilon=1e-3)
PYTORCH = Release(same_padding=False, epsilon=1e-5)


class Backbone(nn.Module, ABC):
    """A convolutional network without its ImageNet classifier.

    Attributes:
        name: Its name in presets, e.g. ``mobilenet_v1``.
        normalisation: How its published weights expect pixels.
        channels: Channels of the maps at strides 2, 4, 8, 16 and 32.
        embedding_channels: Channels of the map that ``forward`` returns.
    """

    name: ClassVar[str]
    normalisation: ClassVar[Normalisation]
    channels: ClassVar[tuple[int, int, int, int, int]]
    embedding_channels: ClassVar[int]

    @abstractmethod
    def features(self, x: Tensor) -> Maps:
        """Returns the maps at strides 2, 4, 8, 16 and 32.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last map before pooling, (B, embedding_channels, H/32, W/32)."""
        return self.embedding_map(self.features(x)[-1])

    def embedding_map(self, deepest: Tensor) -> Tensor:
        """Returns the map that is pooled, (B, embedding_channels, h, w), from that at stride 32."""
        return deepest

    def embedding_layers(self) -> tuple[nn.Module, ...]:
        """Returns the layers that ``embedding_map`` alone uses."""
        return ()


def maps_before_halving(x: Tensor, blocks: nn.ModuleList, strides: Sequence[int]) -> Maps:
    """Returns what every block of stride 2 gets, and what the last block returns.

    Args:
        x: The first block's input.
        blocks: One after the other.
        strides: Stride of each block, 1 or 2.
    """
    maps = []
    for block, stride in zip(blocks, strides, strict=True):
        if stride == 2:
            maps.append(x)
        x = block(x)
    return *maps, x


def initialise(network: nn.Module, *, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draws the weights of all convolutions as He et al. (2015) do; biases become zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def rename_numbered(state: State, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns the weights of torchvision's ``features.N`` under own names, in the order of N.

    Args:
        state: ``features.N.weight`` ..., and nothing else.
        names: One for each N that has weights.

    Raises:
        ValueError: There are fewer or more of them, or other names.
    """
    numbers = sorted({int(key.split(".")[1]) for key in state})
    own = dict(zip(numbers, names, strict=True))
    renamed = {}
    for key, tensor in state.items():
        _, number, rest = key.split(".", 2)
        renamed[f"{own[int(number)]}.{rest}"] = tensor
    return renamed


class Normalise(nn.Module):
    """Scales RGB in [0, 1] as a backbone's weights expect; its constants are not parameters.

    Shape:
        (B, 3, H, W) -> (B, 3, H, W)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        for key, value in (("mean", normalisation.mean), ("std", normalisation.std)):
            self.register_buffer(key, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(x - mean) / std``."""
        return (x - self.mean) / self.std


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel goes to the right and bottom.

    At even sizes a 3x3 convolution of stride 2 pads (0, 1) where symmetric padding would pad
    (1, 1); networks converted from TensorFlow answer wrongly with the latter.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution over the SAME-padded input."""
        if self.stride == (1, 1) and all(size % 2 for size in self.kernel_size):
            padding = tuple(size // 2 for size in self.kernel_size)
            return F.conv2d(input, self.weight, self.bias, 1, padding, 1, self.groups)
        pads: list[int] = []
        for length, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        padded = F.pad(input, pads)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)
