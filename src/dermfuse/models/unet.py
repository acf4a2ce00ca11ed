"""The U-Net on any backbone, and the original one, the paper's baseline.

The original's channels (Ronneberger et al., 2015, arXiv:1505.04597), 64 to 1024, and its 2x2
transposed convolutions are kept. Two things differ: 3x3 convolutions are padded, so that the mask
has the image's size, and each is followed by a BatchNorm instead of having a bias, as in the
paper's other decoders; from random weights it would hardly train without. That makes 31,037,633
parameters (31,049,409 values with the BatchNorm statistics: 124.2 MB or 118.4 MiB as a float32
file; the paper states 31 M and 120 MB).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.errors import ConfigError
from dermfuse.models.backbones.base import STRIDES, SYMMETRIC, Backbone, Normalise, initialise

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Channels of the decoder at strides 16, 8, 4, 2 and 1."""

CHANNELS = (64, 128, 256, 512, 1024)
"""Channels at strides 1, 2, 4, 8 and 16."""
STRIDE = 16


class UNet(nn.Module):
    """A backbone as encoder, five decoder stages, one output channel.

    Args:
        backbone: Its maps at strides 16, 8, 4 and 2 are the skips, the one at 32 the bottom.

    Shape:
        RGB in [0, 1] (B, 3, H, W) -> mask_logits (B, 1, H, W), H and W multiples of 32

    Paper:
        Fig. 3 and 6. The output convolution is 1x1; the fifth stage has no skip.

    Example:
        >>> import torch
        >>> from dermfuse.models.backbones import build_backbone
        >>> UNet(build_backbone("mobilenet_v1")).eval()(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 1, 64, 96])
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        for layer in backbone.embedding_layers():
            layer.requires_grad_(requires_grad=False)  # no mask depends on them
        self.decoder = Decoder(backbone.channels)
        self.head = nn.Conv2d(DECODER_CHANNELS[-1], 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mask logits (B, 1, H, W).

        Raises:
            ConfigError: A side of x is not a multiple of 32.
        """
        require_sides(x, multiple=STRIDES[-1])
        mask_logits: Tensor = self.head(self.decoder(self.backbone.features(self.normalise(x))))
        return mask_logits


class Decoder(nn.ModuleList):
    """Five stages from the map at stride 32 up to the image's size.

    Args:
        channels: Channels of the maps at strides 2, 4, 8, 16 and 32.

    Shape:
        five maps, (B, C, H/2, W/2) to (B, C, H/32, W/32) -> (B, 16, H, W)
    """

    def __init__(self, channels: Sequence[int]) -> None:
        *skips, bottom = channels
        c_in = (bottom, *DECODER_CHANNELS)
        c_skip = (*reversed(skips), 0)
        super().__init__(
            DecoderStage(below, skip, c)
            for below, skip, c in zip(c_in, c_skip, DECODER_CHANNELS, strict=False)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the last stage's map."""
        *skips, y = maps
        for stage, skip in zip(self, (*reversed(skips), None), strict=True):
            y = stage(y, skip)
        return y


class DecoderStage(nn.Module):
    """Up-sample x2, concatenate the skip, (3x3 convolution, BatchNorm, ReLU) twice.

    Up-sampling repeats pixels (nearest), the default of Keras's UpSampling2D; the paper does
    not say.

    Args:
        c_in: Channels from below.
        c_skip: Channels of the skip, 0 without.
        c: Channels of the result.

    Shape:
        (B, c_in, H, W), (B, c_skip, 2H, 2W) -> (B, c, 2H, 2W)
    """

    def __init__(self, c_in: int, c_skip: int, c: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in + c_skip, c, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(c)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Returns the stage's map at twice the size of x."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = torch.cat((x, skip), dim=1)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


def require_sides(x: Tensor, *, multiple: int) -> None:
    """Refuses images (B, 3, H, W) whose sides are not multiples of ``multiple``.

    Raises:
        ConfigError: Names the size to pad to.
    """
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        raise ConfigError(
            f"the network got images of {height} x {width} pixels",
            expected=f"a height and a width that are multiples of {multiple}",
            action=f"Pad or squeeze them to {padded[0]} x {padded[1]}",
        )


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
        initialise(self.encoder, mode="fan_in")
        initialise(self.decoder, mode="fan_in")

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
