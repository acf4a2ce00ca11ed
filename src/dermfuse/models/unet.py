"""The U-Net on any backbone: its five maps joined, deep to shallow, up to the image's size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.errors import ConfigError
from dermfuse.models.backbones.base import STRIDES, Backbone, Normalise

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Channels of the decoder at strides 16, 8, 4, 2 and 1."""


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
        channels: Of the maps at strides 2, 4, 8, 16 and 32.

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
