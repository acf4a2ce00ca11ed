"""MobileNetV2: Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks".

Follows torchvision's release (symmetric padding, BatchNorm epsilon 1e-5), whose published
ImageNet weights it takes.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dermfuse.models.backbones.base import (
    IMAGENET,
    PYTORCH,
    Backbone,
    Maps,
    Release,
    State,
    maps_before_halving,
    rename_numbered,
)
from dermfuse.models.backbones.mobilenet_v1 import ConvNormReLU6

STEM_CHANNELS = 32
TOP_CHANNELS = 1280
STEM_AND_TOP = ("stem.conv", "stem.norm", "top.conv", "top.norm")
BLOCK = (
    *("expand.conv", "expand.norm"),  # not in the first stage
    *("depthwise.conv", "depthwise.norm", "project.conv", "project.norm"),
)
"""The layers of a block in their order."""


class Bottleneck(NamedTuple):
    """A row of Table 2: expansion t, c channels, n blocks, stride s of the first, kernel k."""

    t: int
    c: int
    n: int
    s: int
    k: int = 3


BOTTLENECKS = (
    Bottleneck(t=1, c=16, n=1, s=1),  # stride 2
    Bottleneck(t=6, c=24, n=2, s=2),  # stride 4
    Bottleneck(t=6, c=32, n=3, s=2),  # stride 8
    Bottleneck(t=6, c=64, n=4, s=2),
    Bottleneck(t=6, c=96, n=3, s=1),  # stride 16
    Bottleneck(t=6, c=160, n=3, s=2),
    Bottleneck(t=6, c=320, n=1, s=1),  # stride 32
)


class InvertedResidual(nn.Sequential):
    """Expand 1x1 (where t > 1), depthwise kxk, project 1x1; added to its input where it can be.

    Shape:
        (B, c_in, H, W) -> (B, c, ceil(H/s), ceil(W/s))

    Paper:
        Table 1; the projection is linear.
    """

    def __init__(self, c_in: int, c: int, *, t: int, s: int, k: int, release: Release) -> None:
        super().__init__()
        wide = c_in * t
        if t > 1:
            self.expand = ConvNormReLU6(c_in, wide, kernel=1, release=release)
        self.depthwise = ConvNormReLU6(wide, wide, kernel=k, s=s, groups=wide, release=release)
        self.project = nn.Sequential()
        self.project.conv = nn.Conv2d(wide, c, 1, bias=False)
        self.project.norm = nn.BatchNorm2d(c, eps=release.epsilon)
        self.has_shortcut = s == 1 and c_in == c

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's map."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.has_shortcut else y


class MobileNetV2(Backbone):
    """MobileNetV2 1.0 without its classifier: 2,223,872 trainable parameters.

    The maps are chosen as the paper chooses those of U-MobileNetV1: the first convolution, then
    the output of the last block of each resolution; the wide maps inside the blocks are not
    used. ``forward`` adds the 1x1 convolution to 1280 channels, which only the classifier uses.

    Attributes:
        rows: The stages.
        release: How its convolutions pad, and its BatchNorms' epsilon.

    Example:
        >>> import torch
        >>> MobileNetV2().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1280, 2, 2])
    """

    name = "mobilenet_v2"
    normalisation = IMAGENET
    channels = (32, 24, 32, 96, 320)
    embedding_channels = TOP_CHANNELS
    rows: ClassVar[tuple[Bottleneck, ...]] = BOTTLENECKS
    release: ClassVar[Release] = PYTORCH

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(3, STEM_CHANNELS, kernel=3, s=2, release=self.release)
        self.stages = nn.ModuleList()
        c_in = STEM_CHANNELS
        for t, c, n, s, k in self.rows:
            stage = nn.Sequential()
            for _ in range(n):
                stage.append(InvertedResidual(c_in, c, t=t, s=s, k=k, release=self.release))
                c_in, s = c, 1  # noqa: PLW2901 - the first block alone has the row's stride
            self.stages.append(stage)
        self.top = ConvNormReLU6(c_in, TOP_CHANNELS, kernel=1, release=self.release)

    def features(self, x: Tensor) -> Maps:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        stem = self.stem(x)  # (B, 32, H/2, W/2)
        _, *deeper = self.stage_maps(stem)
        return stem, *deeper

    def stage_maps(self, stem: Tensor) -> Maps:
        """Returns the last stage's map at each stride."""
        return maps_before_halving(stem, self.stages, [row.s for row in self.rows])

    def embedding_map(self, deepest: Tensor) -> Tensor:
        """Returns the map that is pooled, (B, 1280, H/32, W/32), from that at stride 32."""
        top: Tensor = self.top(deepest)
        return top

    def embedding_layers(self) -> tuple[nn.Module, ...]:
        """Returns the top layer."""
        return (self.top,)


def rename_layers(state: State, outer: str, first: str, later: str) -> dict[str, Tensor]:
    """Returns weights under this file's names, from names with the same stages and blocks.

    Args:
        state: ``OUTER.LEAF`` and ``_.I.J.LAYER.LEAF``, stage I and block J from 0.
        outer: Their names of ``STEM_AND_TOP``, in that order.
        first: Their layers of a block in the first stage, which has no expansion.
        later: Their layers of ``BLOCK`` in all others.

    Raises:
        KeyError: There is another layer.
        ValueError: There is another name.
    """
    outside = dict(zip(outer.split(), STEM_AND_TOP, strict=True))
    in_first = dict(zip(first.split(), BLOCK[2:], strict=True))
    in_later = dict(zip(later.split(), BLOCK, strict=True))
    renamed = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        own = outside.get(module)
        if own is None:
            _, i, j, layer = module.split(".", 3)
            own = f"stages.{i}.{j}.{(in_first if i == '0' else in_later)[layer]}"
        renamed[f"{own}.{leaf}"] = tensor
    return renamed


def convert_torchvision(state: State) -> dict[str, Tensor]:
    """Returns weights under this file's names, from torchvision's ``mobilenet_v2``.

    Args:
        state: ``features.0`` is the stem, ``features.1`` to ``features.17`` are the blocks,
            ``features.18`` is the top.
    """
    blocks = [f"stages.{i}.{j}" for i, row in enumerate(BOTTLENECKS) for j in range(row.n)]
    return rename_layers(
        rename_numbered(state, ["stem", *blocks, "top"]),
        outer="stem.0 stem.1 top.0 top.1",
        first="conv.0.0 conv.0.1 conv.1 conv.2",
        later="conv.0.0 conv.0.1 conv.1.0 conv.1.1 conv.2 conv.3",
    )
