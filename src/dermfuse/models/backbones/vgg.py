"""VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) without its Dense layers.

The five blocks work at strides 1, 2, 4, 8 and 16, and a pool follows each. The maps at strides
2 to 16 are what blocks 2 to 5 hand to their pools, the one at stride 32 is the last pool:
a U-Net then has 19.02 M parameters, 76.1 MB or 72.6 MiB as a float32 file, where the paper
states 73. With the pools' outputs as skips it would be 71.1 MiB.
"""

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

BLOCKS = (
    # layers, channels
    (2, 64),  # conv1-1, conv1-2: stride 1
    (2, 128),
    (3, 256),
    (3, 512),
    (3, 512),  # conv5-1 to conv5-3: stride 16
)
"""Column D of the paper's Table 1: 3x3 convolutions with a bias, a 2x2 pool after each block."""


class Vgg16(Backbone):
    """VGG-16 up to its last pool."""

    name = "vgg16"
    normalisation = IMAGENET
    channels = (128, 256, 512, 512, 512)
    embedding_channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        width = 3
        for layers, channels in BLOCKS:
            convolutions = []
            for _ in range(layers):
                convolutions.append(nn.Conv2d(width, channels, 3, padding=1))
                width = channels
            self.blocks.append(nn.ModuleList(convolutions))
        initialise(self, mode="fan_in")  # without BatchNorm the scale of the start matters

    def features(self, x: Tensor) -> Maps:
        """Returns blocks 2 to 5 before their pools, and the last pool.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.
        """
        maps = []
        for block in self.blocks:
            for convolution in block.children():
                x = F.relu(convolution(x), inplace=True)
            maps.append(x)
            x = F.max_pool2d(x, 2)
        return *maps[1:], x  # no map at stride 1


def convert_torchvision(state: State) -> dict[str, Tensor]:
    """Returns the weights of torchvision's ``vgg16`` under the names here.

    Args:
        state: ``features.N.weight`` and ``features.N.bias``, without the Dense layers.
    """
    convolutions = ((i, j) for i, (layers, _) in enumerate(BLOCKS) for j in range(layers))
    return rename_numbered(state, (f"blocks.{i}.{j}" for i, j in convolutions))
