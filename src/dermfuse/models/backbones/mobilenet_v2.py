"""MobileNetV2: Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks".

Follows torchvision's release (symmetric padding, BatchNorm epsilon 1e-5), whose published
ImageNet weights it takes.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dermfuse.models.backbones.base import IMAGENET, PYTORCH, Backbone, Normalisation, Release
from dermfuse.models.backbones.mobilenet_v1 import ConvNormReLU6


class Bottleneck(NamedTuple):
    """One row of Table 2: n blocks, expansion t, c output channels, stride s of the first."""

    t: int
    c: int
    n: int
    s: int


STEM_CHANNELS = 32
BOTTLENECKS = (
    Bottleneck(t=1, c=16, n=1, s=1),  # stride 2
    Bottleneck(t=6, c=24, n=2, s=2),  # stride 4
    Bottleneck(t=6, c=32, n=3, s=2),  # stride 8
    Bottleneck(t=6, c=64, n=4, s=2),
    Bottleneck(t=6, c=96, n=3, s=1),  # stride 16
    Bottleneck(t=6, c=160, n=3, s=2),
    Bottleneck(t=6, c=320, n=1, s=1),  # stride 32
)
TOP_CHANNELS = 1280


class Project(nn.Sequential):
    """1x1 convolution and BatchNorm, linear.

    Shape:
        (B, c_in, H, W) -> (B, c, H, W)
    """

    def __init__(self, c_in: int, c: int, *, release: Release) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c, 1, bias=False)
        self.norm = nn.BatchNorm2d(c, eps=release.epsilon)


class InvertedResidual(nn.Sequential):
    """Expand 1x1 (where t > 1), depthwise kxk, project 1x1; added to its input where it can be.

    Shape:
        (B, c_in, H, W) -> (B, c, ceil(H/s), ceil(W/s))

    Paper:
        Table 1; the projection is linear.
    """

    def __init__(
        self, c_in: int, c: int, *, t: int, s: int, k: int = 3, release: Release = PYTORCH
    ) -> None:
        super().__init__()
        wide = c_in * t
        if t > 1:
            self.expand = ConvNormReLU6(c_in, wide, kernel=1, release=release)
        self.depthwise = ConvNormReLU6(wide, wide, kernel=k, s=s, groups=wide, release=release)
        self.project = Project(wide, c, release=release)
        self.has_shortcut = s == 1 and c_in == c

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's map."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.has_shortcut else y


def stack_bottlenecks(
    c_in: int, c: int, *, t: int, n: int, s: int, k: int = 3, release: Release = PYTORCH
) -> nn.Sequential:
    """Returns the n blocks of a row; the first has its stride, the others have 1."""
    widths = (c_in, *(c,) * (n - 1))
    strides = (s, *(1,) * (n - 1))
    return nn.Sequential(
        *(
            InvertedResidual(width, c, t=t, s=stride, k=k, release=release)
            for width, stride in zip(widths, strides, strict=True)
        )
    )


class MobileNetV2(Backbone):
    """MobileNetV2 1.0 without its classifier: 2,223,872 trainable parameters.

    The maps are chosen as the paper chooses those of U-MobileNetV1: the first convolution, then
    the output of the last block of each resolution; the wide maps inside the blocks are not
    used. ``forward`` adds the 1x1 convolution to 1280 channels, which only the classifier uses.

    Example:
        >>> import torch
        >>> MobileNetV2().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280, 2, 2])
    """

    name: ClassVar[str] = "mobilenet_v2"
    normalisation: ClassVar[Normalisation] = IMAGENET
    channels: ClassVar[tuple[int, int, int, int, int]] = (32, 24, 32, 96, 320)
    embedding_channels: ClassVar[int] = TOP_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, STEM_CHANNELS, kernel=3, s=2, release=PYTORCH)
        self.stages = nn.ModuleList()
        c_in = STEM_CHANNELS
        for t, c, n, s in BOTTLENECKS:
            self.stages.append(stack_bottlenecks(c_in, c, t=t, n=n, s=s))
            c_in = c
        self.top = ConvNormReLU6(c_in, TOP_CHANNELS, kernel=1, release=PYTORCH)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        x = self.stem(x)  # (B, 32, H/2, W/2)
        maps = [x]
        for index, (row, module) in enumerate(zip(BOTTLENECKS, self.stages, strict=True)):
            if row.s == 2 and index > 1:  # the map at stride 2 is the stem's
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


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights under this file's names, from torchvision's ``mobilenet_v2``.

    Args:
        state: ``features.0.{0,1}`` the stem, ``features.1`` to ``features.17`` the blocks,
            ``features.18.{0,1}`` the top; within a block ``conv.{0,1}.{0,1}`` are expansion and
            depthwise (of the first block depthwise alone), then two are the projection.
    """
    outer = {"0": "stem", str(1 + sum(row.n for row in BOTTLENECKS)): "top"}
    inner = {
        str(number): (f"stages.{stage}.{block}", row.t > 1)
        for number, (stage, block, row) in enumerate(_blocks(), start=1)
    }
    converted = {}
    for key, tensor in state.items():
        _, number, *path, leaf = key.split(".")
        if number in outer:
            converted[f"{outer[number]}.{_LAYER[path[0]]}.{leaf}"] = tensor
        else:
            block, expands = inner[number]
            converted[f"{block}.{_part(path[1:], expands=expands)}.{leaf}"] = tensor
    return converted


_LAYER = {"0": "conv", "1": "norm"}


def _blocks() -> list[tuple[int, int, Bottleneck]]:
    return [(i, j, row) for i, row in enumerate(BOTTLENECKS) for j in range(row.n)]


def _part(path: list[str], *, expands: bool) -> str:
    layers = ["expand", "depthwise"] if expands else ["depthwise"]
    position = int(path[0])
    if position < len(layers):
        return f"{layers[position]}.{_LAYER[path[1]]}"
    return f"project.{_LAYER[str(position - len(layers))]}"
