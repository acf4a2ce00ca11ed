"""The pair network: one backbone sees two images and also tells whether their classes agree."""

import copy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dermfuse.models.backbones.base import Backbone, Normalise
from dermfuse.models.classifier import CLASSES, Classifier, pool

DISCRIMINANT_UNITS = 512
"""Width of the discriminant branch's hidden layer."""


class PairLogits(NamedTuple):
    """What the pair network answers, each (B, 2).

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
        kept = {"a": self.head_a, "b": self.head_b}.get(head) or self._mean_head()
        classifier = Classifier(self.backbone, head=kept)
        classifier.normalise = self.normalise
        return classifier.train(self.training)

    def _mean_head(self) -> nn.Linear:
        """Returns one head for two: both read the same embedding, and both are linear."""
        head = copy.deepcopy(self.head_a)
        with torch.no_grad():
            head.weight.lerp_(self.head_b.weight, 0.5)
            head.bias.lerp_(self.head_b.bias, 0.5)
        return head
