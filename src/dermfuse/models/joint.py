"""The joint network: one backbone, one pass, a class and a mask.

It is not in the paper, which trains a network for each task.
"""

from typing import NamedTuple

from torch import Tensor, nn

from dermfuse.models.backbones.base import STRIDES, Backbone, Normalise
from dermfuse.models.classifier import CLASSES, pool
from dermfuse.models.unet import DECODER_CHANNELS, Decoder, require_sides


class JointLogits(NamedTuple):
    """What the joint network answers.

    Attributes:
        class_logits: Benign, malignant, (B, 2).
        mask_logits: Of the lesion at each pixel, (B, 1, H, W).
    """

    class_logits: Tensor
    mask_logits: Tensor


class JointNetwork(nn.Module):
    """The U-Net's decoder and the classifier's head on one backbone.

    The class head pools the same map that the classifier pools, so its backbone can be taken
    from either network; names in a state dict are theirs, with ``class_head`` for the new one.

    Args:
        backbone: E = ``backbone.embedding_channels``.
        dropout: Share of the embedding that is dropped before the class head while training.

    Shape:
        RGB in [0, 1] (B, 3, H, W) -> logits (B, 2) and (B, 1, H, W), H and W multiples of 32

    Example:
        >>> import torch
        >>> from dermfuse.models.backbones import build_backbone
        >>> network = JointNetwork(build_backbone("mobilenet_v1")).eval()
        >>> [tuple(logits.shape) for logits in network(torch.rand(1, 3, 64, 64))]
        [(1, 2), (1, 1, 64, 64)]
    """

    def __init__(self, backbone: Backbone, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        self.decoder = Decoder(backbone.channels)
        self.head = nn.Conv2d(DECODER_CHANNELS[-1], 1, kernel_size=1)
        self.class_head = nn.Linear(backbone.embedding_channels, CLASSES)

    def forward(self, x: Tensor) -> JointLogits:
        """Returns the logits of both tasks.

        Raises:
            ConfigError: A side of x is not a multiple of 32.
        """
        embedding, mask_logits = self.embed_and_segment(x)
        return JointLogits(self.class_head(self.dropout(embedding)), mask_logits)

    def embed_and_segment(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the embedding (B, E) and the mask logits (B, 1, H, W), in one pass."""
        require_sides(x, multiple=STRIDES[-1])
        maps = self.backbone.features(self.normalise(x))
        pooled = self.backbone.embedding_map(maps[-1])
        return pool(pooled, like=self.class_head.weight), self.head(self.decoder(maps))
