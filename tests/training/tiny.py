"""The smallest trainings: 32 pixels, an epoch, few samples."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from dermfuse.config import Config, load_preset
from dermfuse.folders import RunFolder

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
IMAGES = "ISBI2016_ISIC_Part3_Training_Data"


def tiny(preset: str, *more: str) -> Config:
    """Returns a preset cut down."""
    return load_preset(preset).override([*TINY, *more])


def training_ids(data: Path) -> list[str]:
    """Returns the ids of the training images of a dataset folder, sorted."""
    return sorted(path.stem for path in (data / IMAGES).iterdir())


def rows(run: Path) -> list[dict[str, float]]:
    """Returns the table of epochs."""
    header, *lines = (line.split(",") for line in RunFolder(run).metrics.read_text().splitlines())
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]


def assert_same_run(once: Path, again: Path) -> None:
    """Holds two runs to the same table and the same weights."""
    assert RunFolder(once).metrics.read_text() == RunFolder(again).metrics.read_text()
    weights, others = (load_file(RunFolder(run).weights) for run in (once, again))
    assert all(torch.equal(weights[key], others[key]) for key in weights | others)
