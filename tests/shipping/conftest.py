"""What the tests of releases share: images whose class is their tint, and runs that know it."""

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
from dermfuse.models.classifier import Classifier
from dermfuse.preprocess import read_image, squeeze
from dermfuse.runs import RunFolder, write_json, write_text
from dermfuse.training.recorder import write_weights
from dermfuse.training.samples import select_lesions

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
        image[..., 0] += round(rng.normal(60.0 if lesion.label else 0.0, 20.0))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(lesion.image_path)
    return folder


@pytest.fixture(scope="session")
def plant() -> Plant:
    """Leaves a run as a training would, with a head that was fitted to its training images."""
    return _plant


def _plant(config: Config, data: Path, run: Path) -> None:
    folder, chosen = RunFolder(run), select_lesions(data, config)
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(config.name.encode()))
        network = build_network(config.model)
    if isinstance(network, Classifier):
        learnt = [x for x in chosen.lesions if x.image_id in set(chosen.split.train)]
        squares = np.stack([squeeze(read_image(x.image_path), 32) for x in learnt])
        images = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            seen = network.eval().embed(images)
            mean, spread = seen.mean(0), seen.std(0) + 1e-6
            targets = torch.tensor([2.0 * int(x.label or 0) - 1 for x in learnt])
            design = (seen - mean) / spread
            dual = torch.linalg.solve(design @ design.T + 30 * torch.eye(len(learnt)), targets)
            row = design.T @ dual / spread
            network.head.weight.zero_()
            network.head.weight[1] = row
            network.head.bias.copy_(torch.stack([torch.tensor(0.0), -(row @ mean)]))
    write_text(folder.config, config.to_toml())
    write_split(folder.split, chosen.split)
    write_weights(folder.weights, network, {"epoch": "1"})
    record = {"status": "finished", "epochs": 1, "seconds": 1.0, "data": {"summary": "drawn"}}
    write_json(folder.record, record)
