from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dermfuse.config import load_preset
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import RunError
from dermfuse.models.build import build_network
from dermfuse.models.classifier import Classifier
from dermfuse.training.insight import activation_maps, embed_images
from dermfuse.training.prediction import TrainedNetwork, ask_in_batches


@pytest.fixture(scope="module")
def trained() -> TrainedNetwork:
    """A classifier with random weights that sees images at 64 px, four at a time."""
    torch.manual_seed(0)
    config = load_preset("mobilenetv1").override(
        ["model.init=random", "data.input_size=64", "train.batch_size=4"]
    )
    return TrainedNetwork(build_network(config.model).eval(), config, 1, Path("run"))


def test_scores_and_embeddings_are_those_of_the_network(
    trained: TrainedNetwork, drawn: Path
) -> None:
    lesions = load_isic2016(drawn, "test").lesions
    done: list[tuple[int, int]] = []
    insight = embed_images(trained, lesions, progress=lambda *at: done.append(at))
    logits = torch.cat(
        [batch.answer for batch in ask_in_batches(trained, lesions, trained.network)]
    )
    assert insight.embeddings.shape == (6, 1024)
    assert insight.scores == pytest.approx(logits.double().softmax(1)[:, 1].numpy(), abs=1e-5)
    assert done == [(4, 6), (6, 6)]


def test_the_mean_of_a_map_is_the_malignant_logit_without_its_bias(
    trained: TrainedNetwork, drawn: Path
) -> None:
    lesions = load_isic2016(drawn, "test").lesions
    maps = activation_maps(trained, lesions)
    assert maps.shape == (6, 2, 2)
    network = trained.network
    assert isinstance(network, Classifier)
    logits = torch.cat(
        [batch.answer for batch in ask_in_batches(trained, lesions, trained.network)]
    )
    expected = logits[:, 1].numpy() - network.head.bias[1].item()
    assert maps.mean(axis=(1, 2)) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(maps[0]) > 0


def test_a_u_net_has_no_activation_map(trained: TrainedNetwork, drawn: Path) -> None:
    other = replace(trained, network=torch.nn.Identity())
    with pytest.raises(RunError, match=r"run holds Identity.*a class network"):
        activation_maps(other, load_isic2016(drawn, "test").lesions)
