"""The networks with a class head: the classifier, the pair network and the joint network.

The classifier is the paper's baseline: backbone, global average pooling, one dense layer. The pair
network sees two images with one backbone and also answers whether their classes agree. The joint
network, which is not in the paper, answers class and mask in one pass.
"""

import copy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dermfuse.data.isic2016 import Label
from dermfuse.models.backbones.base import STRIDES, Backbone, Normalise
from dermfuse.models.unet import DECODER_CHANNELS, Decoder, require_sides

CLASSES = 2
"""Benign and malignant, in the order of ``dermfuse.data.isic2016.Label``."""

DISCRIMINANT_UNITS = 512
"""Width of the discriminant branch's hidden layer."""


class Classifier(nn.Module):
    """features -> embedding -> head -> logits, on any backbone.

    With global average pooling and one dense layer, the class activation map needs no
    gradient: it is the last map weighted by the malignant row of that layer less the benign
    one (``log_odds_row``).

    Args:
        backbone: E = ``backbone.embedding_channels``.
        head: A dense layer E -> 2 to use; a new one if none is given.
        dropout: Share of the embedding that is dropped before the head while training.

    Shape:
        RGB in [0, 1] (B, 3, H, W) -> logits (B, 2), H and W multiples of 32

    Example:
        >>> import torch
        >>> from dermfuse.models.backbones import build_backbone
        >>> classifier = Classifier(build_backbone("mobilenet_v1")).eval()
        >>> image = torch.rand(1, 3, 64, 64)
        >>> classifier(image).shape, classifier.activation_map(image).shape
        (torch.Size([1, 2]), torch.Size([1, 2, 2]))
    """

    def __init__(
        self, backbone: Backbone, *, head: nn.Linear | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        self.head = nn.Linear(backbone.embedding_channels, CLASSES) if head is None else head

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, 2)."""
        logits: Tensor = self.head(self.dropout(self.embed(x)))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Returns the embedding (B, E)."""
        return pool(self._last_map(x), like=self.head.weight)

    def activation_map(self, x: Tensor) -> Tensor:
        """Returns the class activation map of malignancy (B, H/32, W/32).

        Its mean plus the difference of the biases is the log-odds of malignancy.

        Paper:
            Fig. 9.
        """
        last = self._last_map(x).to(self.head.weight.dtype)  # (B, E, H/32, W/32)
        return (last * log_odds_row(self.head).view(1, -1, 1, 1)).sum(dim=1)

    def _last_map(self, x: Tensor) -> Tensor:
        last: Tensor = self.backbone(self.normalise(x))
        return last


def log_odds_row(head: nn.Linear) -> Tensor:
    """Returns how each channel of an embedding moves the log-odds of malignancy, (E,).

    It is the malignant row less the benign one. What both rows share moves both logits alike and
    says nothing about the class: softmax leaves it out, training never changes it, and in a
    trained head it has as large weights as what was learnt.

    Args:
        head: From the embedding to the logits (2, E).
    """
    return head.weight[Label.MALIGNANT] - head.weight[Label.BENIGN]


def pool(maps: Tensor, *, like: Tensor) -> Tensor:
    """Returns the global average of each channel, (B, E), in the type of ``like``.

    Under bf16 autocast the weights stay float32: pooling in their type keeps the small
    differences between two embeddings that bf16 would round away.
    """
    return maps.mean(dim=(2, 3), dtype=like.dtype)


class PairLogits(NamedTuple):
    """Logits of the pair network, each (B, 2).

    Attributes:
        class_a: Benign, malignant of stream a.
        class_b: Benign, malignant of stream b.
        discriminant: Different-class pair, same-class pair.
    """

    class_a: Tensor
    class_b: Tensor
    discriminant: Tensor


class DiscriminantNetwork(nn.Module):
    """DC-network: streams a and b share one backbone; two class heads, one discriminant branch.

    The discriminant branch reads (embedding_a - embedding_b)^2, so it does not care which image
    came first.

    Args:
        backbone: E = ``backbone.embedding_channels``.
        dropout: Share of the embedding that is dropped before the class heads while training.

    Shape:
        two RGB batches in [0, 1] (B, 3, H, W) -> three logits (B, 2)

    Paper:
        Fig. 2, equations 2 and 3. DC-MobileNetV1 has 3,736,902 trainable parameters,
        DC-DenseNet121 7,483,782.
    """

    def __init__(self, backbone: Backbone, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        embedding = backbone.embedding_channels
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        self.head_a = nn.Linear(embedding, CLASSES)
        self.head_b = nn.Linear(embedding, CLASSES)
        self.discriminant = nn.Sequential(
            nn.Linear(embedding, DISCRIMINANT_UNITS),
            nn.ReLU(inplace=True),
            nn.Linear(DISCRIMINANT_UNITS, 2),
        )

    def forward(self, a: Tensor, b: Tensor) -> PairLogits:
        """Returns the logits of a pair batch, in one pass over both streams."""
        embedding_a, embedding_b = self.embed(torch.cat((a, b))).chunk(2)
        return self.pair_logits(embedding_a, embedding_b)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the embedding (B, E) of one stream."""
        return pool(self.backbone(self.normalise(x)), like=self.head_a.weight)

    def pair_logits(self, embedding_a: Tensor, embedding_b: Tensor) -> PairLogits:
        """Returns the logits from the embeddings (B, E) of both streams."""
        return PairLogits(
            class_a=self.head_a(self.dropout(embedding_a)),
            class_b=self.head_b(self.dropout(embedding_b)),
            discriminant=self.discriminant((embedding_a - embedding_b).square()),
        )

    def deploy(self, head: Literal["a", "b", "mean"]) -> Classifier:
        """Returns the classifier that is kept after training; it shares this network's modules.

        Args:
            head: The class head that did better on validation, as in the paper; or ``mean``, whose
                logits are the mean of both heads', which needs no validation to choose by.
        """
        kept = self.head_b if head == "b" else self.head_a
        if head == "mean":  # both heads read the same embedding, and both are linear
            kept = copy.deepcopy(self.head_a)
            with torch.no_grad():
                kept.weight.lerp_(self.head_b.weight, 0.5)
                kept.bias.lerp_(self.head_b.bias, 0.5)
        classifier = Classifier(self.backbone, head=kept)
        classifier.normalise = self.normalise
        return classifier.train(self.training)


class JointLogits(NamedTuple):
    """Logits of the joint network.

    Attributes:
        class_logits: Benign, malignant, (B, 2).
        mask_logits: Logit of lesion at each pixel, (B, 1, H, W).
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
