"""ShuffleNet v1 (Zhang et al., 2017, arXiv:1707.01083), 2x with three groups.

The skin-lesion paper states 3,616,946 parameters and no configuration. Totals (BatchNorm
statistics included, one Dense(E -> 2)) of the standard ones, all filters scaled; "-" where the
groups do not divide the channels:

    groups      0.5x       1x       1.5x         2x
    1        253,406  970,778  2,152,118  3,797,426
    2              -  954,850          -  3,700,898
    3        250,526  931,130  2,041,814  3,582,578   <- the nearest: 34,368 (1.0 %) fewer
    4              -  909,266          -  3,476,370
    8              -  940,010          -  3,533,714

Only a network that is no ShuffleNet meets the number exactly (2x, two groups, no BatchNorm at
all, a bias in the stem, the very first 1x1 convolution grouped as well), so it is not used.
No ImageNet weights are published by torchvision or timm: training starts at random.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import IMAGENET, Backbone, Maps, initialise

G = 3
"""Groups of the 1x1 convolutions."""
STEM_CHANNELS = 48
STAGES = (
    # c output channels, n units of which the first has stride 2
    (480, 4),  # stage 2: stride 8
    (960, 8),
    (1920, 4),  # stage 4: stride 32
)
"""Table 1, column g = 3, at 2x."""
BOTTLENECK = 4


class ShuffleUnit(nn.Module):
    """Grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1, beside a shortcut.

    Paper: Fig. 2b (stride 1, the shortcut is added) and 2c (stride 2, the pooled input is
    concatenated, so the branch yields only the channels that are missing).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: 1 or 2.
        first_groups: Groups of the first 1x1 convolution; 1 where it gets the stem's few channels.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride)
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, first_groups: int = G
    ) -> None:
        super().__init__()
        self.stride = stride
        bottleneck = out_channels // BOTTLENECK
        branch = out_channels - in_channels if stride == 2 else out_channels
        self.reduce = nn.Conv2d(in_channels, bottleneck, 1, groups=first_groups, bias=False)
        self.reduce_norm = nn.BatchNorm2d(bottleneck)
        self.depthwise = nn.Conv2d(
            bottleneck, bottleneck, 3, stride, padding=1, groups=bottleneck, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(bottleneck)
        self.expand = nn.Conv2d(bottleneck, branch, 1, groups=G, bias=False)
        self.expand_norm = nn.BatchNorm2d(branch)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the branch joined with its shortcut, rectified."""
        y = F.relu(self.reduce_norm(self.reduce(x)), inplace=True)
        y = shuffle_channels(y, G)  # every group meets all of them
        y = self.depthwise_norm(self.depthwise(y))  # no ReLU here (as in Xception)
        y = self.expand_norm(self.expand(y))
        if self.stride == 1:
            return F.relu(x + y, inplace=True)
        pooled = F.avg_pool2d(x, 3, stride=2, padding=1)
        return F.relu(torch.cat((pooled, y), dim=1), inplace=True)


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Returns the maps with one channel of each group in turn; as reshapes, it exports to ONNX.

    Shape:
        (B, C, H, W) -> (B, C, H, W)

    Example:
        >>> shuffle_channels(torch.arange(6).view(1, 6, 1, 1), 3).flatten().tolist()
        [0, 2, 4, 1, 3, 5]
    """
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class ShuffleNet(Backbone):
    """ShuffleNet v1, 2x with three groups."""

    name = "shufflenet_v1"
    normalisation = IMAGENET
    channels = (48, 48, 480, 960, 1920)
    embedding_channels = 1920

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_CHANNELS)
        self.stages = nn.ModuleList()
        c_in = STEM_CHANNELS
        for c, n in STAGES:
            first = ShuffleUnit(c_in, c, stride=2, first_groups=G if self.stages else 1)
            others = (ShuffleUnit(c, c, stride=1) for _ in range(n - 1))
            self.stages.append(nn.Sequential(first, *others))
            c_in = c
        initialise(self)

    def features(self, x: Tensor) -> Maps:
        """Returns the stem, its pool, and stages 2, 3 and 4.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.
        """
        stem = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        pooled = F.max_pool2d(stem, 3, stride=2, padding=1)
        stage2 = self.stages[0](pooled)
        stage3 = self.stages[1](stage2)
        return stem, pooled, stage2, stage3, self.stages[2](stage3)
