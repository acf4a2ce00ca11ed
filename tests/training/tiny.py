"""The smallest trainings: 32 pixels, an epoch, few samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dermfuse.config import Config, load_preset
from dermfuse.records.folders import RunFolder, read_json
from dermfuse.training.train import TrainingReport, train

TINY = [
    "model.init=random",
    "train.backbone=trained",
    "train.frozen_stages=0",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "train.learning_rate=0.0009765625",  # 2^-10: the same as float32 and as float64
    "augment.benign_copies=1",
    "augment.malignant_copies=2",
    "augment.segmentation_draws=4",
    "train.precision=float32",
    "train.threads=1",
]
ALL = ["data.split=all", "train.schedule=cosine", "train.epochs=2"]
"""Trains on every image and validates on none."""
MANY = ["augment.policy=label_blind", "augment.mixup=0.4", "model.dropout=0.3"]
MANY += ["train.weight_decay=0.1", "train.gradient_clip=1.0", "train.ema_decay=0.9"]
"""What the paper has not, as far as it goes together."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Trains presets cut down on drawn images: ``fit("unet", "train.seed=1", run="name")``."""

    data: Path
    folder: Path

    def __call__(self, preset: str, *more: str, run: str = "run", **options: Any) -> TrainingReport:
        given = {"data": self.data, "run": self.folder / run, **options}
        return train(tiny(preset, *more), **given)

    def run(self, name: str = "run") -> RunFolder:
        return RunFolder(self.folder / name)

    def record(self, name: str = "run") -> Any:
        return read_json(self.run(name).record)

    def weights(self, name: str = "run") -> dict[str, torch.Tensor]:
        return load_file(self.run(name).weights)


def tiny(preset: str, *more: str) -> Config:
    """Returns a preset cut down."""
    return load_preset(preset).override([*TINY, *more])


def training_ids(data: Path) -> list[str]:
    """Returns the ids of the training images of a dataset folder, sorted."""
    return sorted(path.stem for path in (data / "ISBI2016_ISIC_Part3_Training_Data").iterdir())


def rows(run: Path) -> list[dict[str, float]]:
    """Returns the table of epochs."""
    header, *lines = (line.split(",") for line in RunFolder(run).metrics.read_text().splitlines())
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]
