"""What a class network shows beside the score of an image: its embedding and activation map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.errors import RunError
from dermfuse.models.classifier import Classifier
from dermfuse.training.prediction import TrainedNetwork, ask_in_batches


@dataclass(frozen=True, slots=True, eq=False)
class Insight:
    """One network's view of some images, in their order.

    Attributes:
        embeddings: Inputs of its head, (N, E).
        scores: Malignant probabilities, (N,).
    """

    embeddings: NDArray[np.float64]
    scores: NDArray[np.float64]


def embed_images(trained: TrainedNetwork, lesions: Sequence[Lesion]) -> Insight:
    """Returns the embedding and the score of each image, in one pass over them.

    Args:
        trained: A classifier as ``load_run`` returns it.
        lesions: One or more.

    Raises:
        RunError: The network is no classifier.
        ImageError: An image cannot be read.
    """
    classifier = _classifier(trained)
    embeddings, scores = [], []
    for batch in ask_in_batches(trained, lesions, classifier.embed):
        with torch.inference_mode():
            probability = classifier.head(batch.answer).double().softmax(1)
        embeddings.append(batch.answer.double().numpy())
        scores.append(probability[:, Label.MALIGNANT].numpy())
    return Insight(np.concatenate(embeddings), np.concatenate(scores))


def activation_maps(trained: TrainedNetwork, lesions: Sequence[Lesion]) -> NDArray[np.float32]:
    """Returns the class activation map of malignancy of each image, (N, S/32, S/32).

    Args:
        trained: A classifier as ``load_run`` returns it.
        lesions: One or more.

    Raises:
        RunError: The network is no classifier.
        ImageError: An image cannot be read.
    """
    ask = _classifier(trained).activation_map
    parts = [batch.answer.numpy() for batch in ask_in_batches(trained, lesions, ask)]
    return np.concatenate(parts).astype(np.float32)


def _classifier(trained: TrainedNetwork) -> Classifier:
    if not isinstance(trained.network, Classifier):
        raise RunError(
            f"{trained.run} holds {type(trained.network).__name__}", expected="a class network"
        )
    return trained.network
