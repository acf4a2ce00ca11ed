"""The baseline classifier: backbone, global average pooling, one dense layer."""

from torch import Tensor, nn

from dermfuse.models.backbones.base import Backbone, Normalise
from dermfuse.scores import Label

CLASSES = 2
"""Benign and malignant, in the order of ``dermfuse.scores.Label``."""


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
