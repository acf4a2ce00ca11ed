"""Trained networks to export, and planted runs to make a release of."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from dermfuse.config import Config, DataConfig, ModelConfig
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.data.splits import write_split
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.imaging.preprocess import read_image
from dermfuse.models import build_network
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.publishing import gate
from dermfuse.publishing import measured as out_of_fold
from dermfuse.records.folders import RunFolder, write_json, write_text
from dermfuse.release.cards import NetworkCard, read_card
from dermfuse.training.prediction import TrainedNetwork
from dermfuse.training.recorder import write_weights
from dermfuse.training.samples import select_lesions

from ..small_release import class_graph, mask_graph, write_network

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


@pytest.fixture(scope="session")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 3 test images; malignant ones are redder, most of them; read only."""
    folder = tmp_path_factory.mktemp("tinted") / "data"
    synthesize_isic2016(folder, train_count=60, test_count=3, seed=1, size_px=(80, 64))
    rng = np.random.default_rng(0)
    for lesion in load_isic2016(folder, "train").lesions:
        image = read_image(lesion.image_path).astype(np.int64)
        red = rng.normal(150.0 if lesion.label else 120.0, 15.0)
        image[..., 0] += round(red - image[..., 0].mean())
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(lesion.image_path)
    return folder


@pytest.fixture
def hand_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports networks whose answers can be followed by hand in place of those of the runs.

    What scores sees red, what outlines sees where green is dark; see ``small_release``.
    """
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)
    monkeypatch.setattr(gate, "other_images", lambda seed: {"noise": list(noise)})
    monkeypatch.setattr(out_of_fold, "_export", _export)


def _export(
    trained: TrainedNetwork, data: object, out: Path, precision: object
) -> tuple[NetworkCard, NetworkCard]:
    name, task = trained.run.name, trained.config.model.task
    graph = class_graph(130.0, rows=16) if task == "classification" else mask_graph(tilted=False)
    write_network(out, name, task, graph)
    card = read_card(out / f"{name}.json")
    return card, card


def plant(config: Config, data: Path, run: Path) -> None:
    """Leaves a run as a training would, with weights that learnt nothing."""
    folder, chosen = RunFolder(run), select_lesions(data, config)
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(config.name.encode()))
        network = build_network(config.model)
    write_text(folder.config, config.to_toml())
    write_split(folder.split, chosen.split)
    write_weights(folder.weights, network, {"epoch": "1"})
    record = {"status": "finished", "epochs": 1, "seconds": 1.0, "data": {"summary": "drawn"}}
    write_json(folder.record, record)
