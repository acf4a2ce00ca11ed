"""What the tests of releases share: images whose class is their tint, networks that see it."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dermfuse.config import Config
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.data.splits import write_split
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.models.build import build_network
from dermfuse.preprocess import read_image
from dermfuse.release.cards import NetworkCard, read_card
from dermfuse.runs import RunFolder, write_json, write_text
from dermfuse.shipping import gate, out_of_fold
from dermfuse.training.prediction import TrainedNetwork
from dermfuse.training.recorder import write_weights
from dermfuse.training.samples import select_lesions

from ..small_release import class_graph, mask_graph, write_network

TINY = (
    "model.init=random",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "train.precision=float32",
    "train.threads=1",
)
Plant = Callable[[Config, Path, Path], None]


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


@pytest.fixture(scope="session")
def plant() -> Plant:
    """Leaves a run as a training would, with weights that learnt nothing."""
    return _plant


def _plant(config: Config, data: Path, run: Path) -> None:
    folder, chosen = RunFolder(run), select_lesions(data, config)
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(config.name.encode()))
        network = build_network(config.model)
    write_text(folder.config, config.to_toml())
    write_split(folder.split, chosen.split)
    write_weights(folder.weights, network, {"epoch": "1"})
    record = {"status": "finished", "epochs": 1, "seconds": 1.0, "data": {"summary": "drawn"}}
    write_json(folder.record, record)
