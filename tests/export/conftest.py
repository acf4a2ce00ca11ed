"""What the tests of the export share: networks whose answers differ from image to image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dermfuse.config import Config, DataConfig, ModelConfig
from dermfuse.models.build import build_network
from dermfuse.models.discriminant import DiscriminantNetwork
from dermfuse.training.prediction import TrainedNetwork

SIZE = 32
MOMENTUM = {"resnext50": 0.5}
"""Of the one batch in the statistics. With all of it, torch itself in float32 is 9e-5 from float64
here on ResNeXt-50, whose deepest maps hardly vary; with less, MobileNets tell no images apart."""
MakeTrained = Callable[[str, str], TrainedNetwork]


@pytest.fixture
def images() -> NDArray[np.uint8]:
    """Five images of even colours and noise."""
    rng = np.random.default_rng(3)
    colours = rng.integers(30, 226, (5, 1, 1, 3))
    noise = rng.integers(-30, 30, (5, SIZE, SIZE, 3))
    return (colours + noise).astype(np.uint8)


@pytest.fixture
def make_trained(tmp_path: Path) -> MakeTrained:
    """Makes a network of a kind and a backbone, with BatchNorm statistics of some batch."""

    def make(network: str, backbone: str) -> TrainedNetwork:
        torch.manual_seed(1)
        model = ModelConfig(network=network, backbone=backbone, init="random")  # type: ignore[arg-type]
        built = build_network(model)
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM.get(backbone, 1.0)
        batch = torch.rand(6, 3, SIZE, SIZE)
        built.train()(*([batch, batch.flip(0)] if network == "discriminant" else [batch]))
        if isinstance(built, DiscriminantNetwork):
            built = built.deploy("b")
        config = Config(name="tiny", model=model, data=DataConfig(input_size=SIZE))
        return TrainedNetwork(built.eval(), config, 7, tmp_path / "tiny-run")

    return make
