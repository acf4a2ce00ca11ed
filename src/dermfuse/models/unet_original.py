"""The original U-Net (Ronneberger et al., 2015, arXiv:1505.04597), the paper's baseline.

Its channels, 64 to 1024, and its 2x2 transposed convolutions are the original's. Two things
differ: 3x3 convolutions are padded, so that the mask has the image's size, and each is
followed by a BatchNorm instead of having a bias, as in the paper's other decoders; from random
weights it would hardly train without. That makes 31,037,633 parameters (31,049,409 values with
the BatchNorm statistics: 124.2 MB or 118.4 MiB as a float32 file; the paper states 31 M and
120 MB).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import SYMMETRIC, Normalise
from dermfuse.models.unet import require_sides

CHANNELS = (64, 128, 256, 512, 1024)
"""Channels at strides 1, 2, 4, 8 and 16."""
STRIDE = 16


class DoubleConv(nn.Sequential):
    """Twice a padded 3x3 convolution, BatchNorm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of both convolutions.

    Shape:
        (B, in_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for width in (in_channels, out_channels):
            layers += [
                nn.Conv2d(width, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class OriginalUNet(nn.Module):
    """The U-Net with its own encoder, trained from random weights.

    Shape:
        RGB in [0, 1], (B, 3, H, W), H and W multiples of 16 -> mask logits, (B, 1, H, W)
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise(SYMMETRIC)
        self.encoder = nn.ModuleList(
            DoubleConv(below, above) for below, above in zip((3, *CHANNELS), CHANNELS, strict=False)
        )
        deep_to_shallow = tuple(zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in deep_to_shallow
        )
        self.decoder = nn.ModuleList(
            DoubleConv(2 * shallow, shallow) for _, shallow in deep_to_shallow
        )
        self.head = nn.Conv2d(CHANNELS[0], 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Returns mask logits at the image's size.

        Args:
            x: RGB in [0, 1], (B, 3, H, W).

        Raises:
            ConfigError: H or W is not a multiple of 16.
        """
        require_sides(x, multiple=STRIDE)
        x = self.normalise(x)
        skips: list[Tensor] = []
        for level in self.encoder:
            if skips:
                x = F.max_pool2d(x, 2)
            x = level(x)
            skips.append(x)
        skips.pop()  # the deepest is where the decoder starts
        for up, level in zip(self.ups, self.decoder, strict=True):
            x = level(torch.cat((skips.pop(), up(x)), dim=1))
        logits: Tensor = self.head(x)
        return logits
