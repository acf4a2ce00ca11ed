"""SqueezeNet 1.1 (Iandola et al., 2016, arXiv:1602.07360; 1.1 is the authors' later release).

A fire module squeezes to few channels with 1x1 convolutions, then expands with 1x1 and 3x3
convolutions side by side. There is no BatchNorm and no Dense layer: conv10 has one channel
per ImageNet class, and those 1000 channels are the embedding, as in the paper's baseline
(1,235,496 parameters here and 2,002 in the Dense(1000 -> 2) behind them: 1,237,498).

Two peculiarities, both of the published network:

- It ends at stride 16, so ``forward`` returns (B, 1000, h, w) with h a little under H/16.
- Nothing is padded before the stem and the pools round up, so 224 px become 111, 55, 27, 13.
  A U-Net needs 112, 56, 28, 14, 7. ``features`` therefore puts one row and one column of the
  mean colour above and to the left of the image; every size is then exactly H/stride, with
  the same weights. The fifth map (stride 32) is the pooled class map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import (
    IMAGENET,
    Backbone,
    Maps,
    State,
    initialise,
    rename_numbered,
)

STEM_CHANNELS = 64
CLASSES = 1000
FIRES = (
    # s1x1, e1x1, e3x3
    ((16, 64, 64), (16, 64, 64)),  # fire2, fire3: stride 4
    ((32, 128, 128), (32, 128, 128)),  # fire4, fire5: stride 8
    ((48, 192, 192), (48, 192, 192), (64, 256, 256), (64, 256, 256)),  # fire6 to fire9: stride 16
)
"""The fire modules after each pool, in the symbols of the paper's Table 1."""


class Fire(nn.Module):
    """A squeeze layer, then two expand layers whose outputs are concatenated.

    Args:
        in_channels: Channels of the input.
        s1x1: Channels of the squeeze layer.
        e1x1: Channels of the 1x1 expand layer.
        e3x3: Channels of the 3x3 expand layer.

    Shape:
        (B, in_channels, H, W) -> (B, e1x1 + e3x3, H, W)
    """

    def __init__(self, in_channels: int, s1x1: int, e1x1: int, e3x3: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, s1x1, 1)
        self.expand1x1 = nn.Conv2d(s1x1, e1x1, 1)
        self.expand3x3 = nn.Conv2d(s1x1, e3x3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the two expand layers' outputs side by side."""
        squeezed = F.relu(self.squeeze(x), inplace=True)
        expanded = torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), dim=1)
        return F.relu(expanded, inplace=True)


class SqueezeNet(Backbone):
    """SqueezeNet 1.1 with its 1000-way convolution; the dropout before it is left out."""

    name = "squeezenet1_1"
    normalisation = IMAGENET
    channels = (64, 128, 256, 512, 1000)
    embedding_channels = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        width = STEM_CHANNELS
        for stage in FIRES:
            fires = []
            for s1x1, e1x1, e3x3 in stage:
                fires.append(Fire(width, s1x1, e1x1, e3x3))
                width = e1x1 + e3x3
            self.stages.append(nn.Sequential(*fires))
        self.conv10 = nn.Conv2d(width, CLASSES, 1)
        initialise(self, mode="fan_in")  # without BatchNorm the scale of the start matters

    def features(self, x: Tensor) -> Maps:
        """Returns five maps of exactly H/stride, from the image padded by one pixel.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.

        Returns:
            conv1 and the last fire module of strides 4, 8 and 16, and the pooled class map.
        """
        maps = self._stages(F.pad(x, (1, 0, 1, 0)))
        return *maps, _pool(self._classes(maps[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the class map before pooling, (B, 1000, h, w): 13 x 13 from 224 x 224."""
        return self._classes(self._stages(x)[-1])

    def _classes(self, x: Tensor) -> Tensor:
        return F.relu(self.conv10(x), inplace=True)

    def _stages(self, x: Tensor) -> list[Tensor]:
        maps = [F.relu(self.conv1(x), inplace=True)]
        for stage in self.stages:
            maps.append(stage(_pool(maps[-1])))
        return maps


def convert_torchvision(state: State) -> dict[str, Tensor]:
    """Returns the weights of torchvision's ``squeezenet1_1`` under the names here; all are kept.

    Args:
        state: ``features.N...`` and ``classifier.1...``, as torchvision publishes them.
    """
    fires = (f"stages.{i}.{j}" for i, stage in enumerate(FIRES) for j in range(len(stage)))
    one_row = {key.replace("classifier.1.", "features.13."): state[key] for key in state}
    return rename_numbered(one_row, ("conv1", *fires, "conv10"))


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, ceil_mode=True)
