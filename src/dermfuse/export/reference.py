"""What torch answers: the yardstick of an export, by the networks' own code."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermfuse.models.classifier import Classifier, log_odds_row
from dermfuse.models.joint import JointNetwork
from dermfuse.scores import Label

Answers = dict[str, NDArray[np.float32]]
"""What a network answers, by output, an image a row."""

IMAGES_AT_ONCE = 8


def run_torch(network: nn.Module, images: NDArray[np.uint8]) -> Answers:
    """Returns what a trained network answers about images, under the names of the exported one.

    Args:
        network: A classifier, U-Net or joint network in evaluation mode.
        images: (N, S, S, 3), RGB.
    """
    parts = []
    with torch.inference_mode():
        for first in range(0, len(images), IMAGES_AT_ONCE):
            batch = torch.from_numpy(images[first : first + IMAGES_AT_ONCE].copy())
            parts.append(_ask(network, batch.permute(0, 3, 1, 2).float() / 255))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _ask(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    if isinstance(network, Classifier):
        embedding = network.embed(x)
        return _classes(network.head(embedding), network.activation_map(x), embedding)
    if isinstance(network, JointNetwork):
        embedding, mask_logits = network.embed_and_segment(x)
        maps = network.backbone.features(network.normalise(x))
        row = log_odds_row(network.class_head)
        activation = (network.backbone.embedding_map(maps[-1]) * row.view(1, -1, 1, 1)).sum(dim=1)
        lesion = mask_logits.sigmoid()[:, 0]
        return {**_classes(network.class_head(embedding), activation, embedding), "lesion": lesion}
    return {"lesion": network(x).sigmoid()[:, 0]}


def _classes(logits: Tensor, activation_map: Tensor, embedding: Tensor) -> dict[str, Tensor]:
    malignant = logits.softmax(1)[:, Label.MALIGNANT]
    return {
        "logits": logits,
        "malignant": malignant,
        "activation_map": activation_map,
        "embedding": embedding,
    }
