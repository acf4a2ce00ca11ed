"""VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) without its Dense layers.

The five blocks work at strides 1, 2, 4, 8 and 16, and a pool follows each. The maps at strides
2 to 16 are what blocks 2 to 5 hand to their pools, the one at stride 32 is the last pool:
a U-Net then has 19.02 M parameters, 76.1 MB or 72.6 MiB as a float32 file, where the paper
states 73. With the pools' outputs as skips it would be 71.1 MiB.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import IMAGENET, Backbone, Normalisation

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

    name: ClassVar[str] = "vgg16"
    normalisation: ClassVar[Normalisation] = IMAGENET
    channels: ClassVar[tuple[int, int, int, int, int]] = (128, 256, 512, 512, 512)
    embedding_channels: ClassVar[int] = 512

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
        for module in self.modules():  # without BatchNorm the scale of the start matters
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
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
        _, stride2, stride4, stride8, stride16 = maps
        return stride2, stride4, stride8, stride16, x


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames torchvision's ``vgg16`` to the names here; its Dense layers are dropped.

    Args:
        state: ``features.N.weight`` and ``features.N.bias``, as torchvision publishes them.

    Returns:
        ``blocks.I.J.weight`` and ``blocks.I.J.bias``.
    """
    names = {}
    position = 0
    for i, (layers, _) in enumerate(BLOCKS):
        for j in range(layers):
            names[f"features.{position}"] = f"blocks.{i}.{j}"
            position += 2  # a convolution and its ReLU
        position += 1  # the pool
    converted = {}
    for key, value in state.items():
        name, _, parameter = key.rpartition(".")
        if name in names:
            converted[f"{names[name]}.{parameter}"] = value
    return converted
