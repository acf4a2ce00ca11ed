"""ResNeXt-50 32x4d (Xie et al., 2016, arXiv:1611.05431), in torchvision's names.

A U-Net on it has 32.0 M parameters: 128 MB (122 MiB) as a float32 file; the paper states 125.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import IMAGENET, Backbone, Maps, initialise

CARDINALITY = 32
STEM_CHANNELS = 64
STAGES = (
    # blocks, width, out, stride
    (3, 128, 256, 1),  # conv2
    (4, 256, 512, 2),  # conv3
    (6, 512, 1024, 2),  # conv4
    (3, 1024, 2048, 2),  # conv5
)
"""The right column of the paper's Table 1: width is the grouped convolution's, d = 4 at conv2."""


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions beside a shortcut (Fig. 3c of the paper).

    Args:
        in_channels: Channels of the input.
        width: Channels of the grouped convolution.
        out_channels: Channels of the output.
        stride: Stride of the grouped convolution.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride)
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=CARDINALITY, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Sequential()
        if in_channels != out_channels:
            self.downsample.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the rectified sum of branch and shortcut."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x), inplace=True)


class ResNeXt50(Backbone):
    """ResNeXt-50 32x4d without its classifier."""

    name = "resnext50"
    normalisation = IMAGENET
    channels = (64, 256, 512, 1024, 2048)
    embedding_channels = 2048

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        stages = []
        channels = STEM_CHANNELS
        for blocks, width, out, stride in STAGES:
            stage = nn.Sequential(Bottleneck(channels, width, out, stride))
            stage.extend(Bottleneck(out, width, out, 1) for _ in range(blocks - 1))
            stages.append(stage)
            channels = out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialise(self)

    def features(self, x: Tensor) -> Maps:
        """Returns conv1 and the last block of conv2, conv3, conv4 and conv5.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.
        """
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        stride4 = self.layer1(F.max_pool2d(stem, 3, stride=2, padding=1))
        stride8 = self.layer2(stride4)
        stride16 = self.layer3(stride8)
        return stem, stride4, stride8, stride16, self.layer4(stride16)
