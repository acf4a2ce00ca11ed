"""DenseNet-121: Huang et al. 2017, "Densely Connected Convolutional Networks"."""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import IMAGENET, Backbone, Maps, State

GROWTH = 32
"""k: channels that each dense layer adds."""
BOTTLENECK = 4
"""A dense layer's 1x1 convolution has 4k channels."""
COMPRESSION = 2
"""A transition layer halves the channels (theta = 1/2)."""
STEM_CHANNELS = 64
LAYERS = (6, 12, 24, 16)
"""Dense layers per dense block, as in Table II."""
EPSILON = 1.001e-5
"""BatchNorm's, in Keras's release; torchvision's 1e-5 is the same for every purpose here."""


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution, BatchNorm, ReLU, 3x3 convolution; joined to its input.

    Shape:
        (B, c_in, H, W) -> (B, c_in + k, H, W)
    """

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in, eps=EPSILON)
        self.conv1 = nn.Conv2d(c_in, BOTTLENECK * GROWTH, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH, eps=EPSILON)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns x with k more channels."""
        y = self.conv1(F.relu(self.norm1(x), inplace=True))  # (B, 4k, H, W)
        y = self.conv2(F.relu(self.norm2(y), inplace=True))  # (B, k, H, W)
        return torch.cat((x, y), dim=1)


class Transition(nn.Sequential):
    """BatchNorm, ReLU, 1x1 convolution; the 2x2 average pool follows outside.

    Shape:
        (B, c, H, W) -> (B, c/2, H, W)
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c, eps=EPSILON)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c, c // COMPRESSION, kernel_size=1, bias=False)


class DenseNet121(Backbone):
    """DenseNet-121 without its classifier: 6,953,856 trainable parameters.

    The maps are the 7x7 convolution, dense blocks 1 to 3 as their transition layer compresses
    them (128, 256, 512 channels, before its pooling), and dense block 4.

    Paper:
        Table II. The paper takes as skips "dense blocks 1, 2, 3"; the stated file of 48 MB, and
        Fig. 6, where one encoder block is a dense block with its transition layer, say that they
        are taken after the transition's 1x1 convolution: 48.6 MB (46.3 MiB). The uncompressed
        blocks would make 54.8 MB (52.3 MiB).

    Example:
        >>> DenseNet121().eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1024, 2, 2])
    """

    name = "densenet121"
    normalisation = IMAGENET
    channels = (64, 128, 256, 512, 1024)
    embedding_channels = 1024

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.conv = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.stem.norm = nn.BatchNorm2d(STEM_CHANNELS, eps=EPSILON)
        self.stem.relu = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        c = STEM_CHANNELS
        for count in LAYERS:
            self.blocks.append(nn.Sequential(*(DenseLayer(c + i * GROWTH) for i in range(count))))
            c += count * GROWTH
            if len(self.blocks) < len(LAYERS):
                self.transitions.append(Transition(c))
                c //= COMPRESSION
        self.norm = nn.BatchNorm2d(c, eps=EPSILON)

    def features(self, x: Tensor) -> Maps:
        """Returns the maps at strides 2, 4, 8, 16 and 32."""
        stem = self.stem(x)  # (B, 64, H/2, W/2)
        x = F.max_pool2d(stem, kernel_size=3, stride=2, padding=1)
        maps = [stem]
        for block, transition in zip(self.blocks, self.transitions, strict=False):
            x = transition(block(x))
            maps.append(x)
            x = F.avg_pool2d(x, kernel_size=2)
        x = F.relu(self.norm(self.blocks[-1](x)), inplace=True)  # (B, 1024, H/32, W/32)
        return *maps, x


def convert_torchvision(state: State) -> dict[str, Tensor]:
    """Returns weights under this file's names, from torchvision's.

    Args:
        state: ``features.denseblockI.denselayerJ.norm1.weight``... ; in torchvision's own file
            a dense layer's names still carry a dot (``norm.1``).
    """
    return {_own_name(key): tensor for key, tensor in state.items()}


def _own_name(key: str) -> str:
    key = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key.removeprefix("features."))
    key = re.sub(
        r"^denseblock(\d+)\.denselayer(\d+)",
        lambda m: f"blocks.{int(m[1]) - 1}.{int(m[2]) - 1}",
        key,
    )
    key = re.sub(r"^transition(\d+)", lambda m: f"transitions.{int(m[1]) - 1}", key)
    return re.sub(r"^(conv|norm)0\.", r"stem.\1.", key).replace("norm5.", "norm.")
