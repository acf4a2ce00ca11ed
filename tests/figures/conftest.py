"""Runs and predictions folders as trainings would leave them, made without a training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import load_preset
from dermfuse.data.isic2016 import Lesion, load_isic2016
from dermfuse.data.splits import Split, write_split
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import write_mask, write_probability
from dermfuse.predictions.folder import (
    Manifest,
    mask_path,
    new_predictions,
    probability_path,
    write_manifest,
)
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.records.folders import RunFolder, write_text

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def validated(drawn: Path) -> list[Lesion]:
    """Twelve drawn images of both classes, three of them malignant."""
    lesions = load_isic2016(drawn, "train").lesions
    of_class = [[x for x in lesions if x.label == label] for label in (0, 1)]
    return sorted(of_class[0][:9] + of_class[1][:3], key=lambda lesion: lesion.image_id)


@pytest.fixture(scope="session")
def make_run(validated: list[Lesion]) -> Make:
    """Writes a run folder whose network has random weights; torch is imported here alone."""
    from dermfuse.models import build_network
    from dermfuse.training.recorder import write_weights

    def make(folder: Path, preset: str) -> Path:
        config = load_preset(preset).override(["model.init=random", "data.input_size=32"])
        run, task = RunFolder(folder), config.model.task
        write_text(run.config, config.to_toml())
        write_split(run.split, Split(("ISIC_0000000",), tuple(x.image_id for x in validated)))
        metrics = ("average_precision", "auc") if task != "segmentation" else ()
        metrics += ("jaccard", "dice") if task != "classification" else ()
        losses = [
            {"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e} for e in (1.0, 2.0, 3.0)
        ]
        run.write_metrics([x | dict.fromkeys(metrics, 0.5 + 0.1 * x["epoch"]) for x in losses])
        metadata = {"epoch": "3", "config": config.to_toml(), "head": "a"}
        write_weights(run.weights, build_network(config.model), metadata)
        return folder

    return make


@pytest.fixture(scope="session")
def make_scores(validated: list[Lesion]) -> Make:
    """Writes scores that are right but for the first image of each class."""

    def make(folder: Path, source: str, *, seed: int = 0, split: str = "validation") -> Path:
        labels = np.array([int(lesion.label or 0) for lesion in validated])
        scores = 0.2 + 0.6 * labels + np.random.default_rng(seed).uniform(-0.1, 0.1, labels.size)
        firsts = [int(np.argmax(labels == label)) for label in (0, 1)]
        scores[firsts] = 1 - scores[firsts]
        with new_predictions(folder) as staging:
            ids = tuple(lesion.image_id for lesion in validated)
            write_scores(staging / "scores.csv", ScoreTable(ids, scores))
            write_manifest(staging, Manifest("classification", source=source, split=split))
        return folder

    return make


@pytest.fixture(scope="session")
def make_masks(validated: list[Lesion]) -> Make:
    """Writes masks and maps that are the true ones, moved to the right."""

    def make(folder: Path, source: str, *, moved_px: int) -> Path:
        with new_predictions(folder) as staging:
            for lesion in validated:
                assert lesion.mask_path is not None
                moved = np.roll(read_mask(lesion.mask_path), moved_px, axis=1)
                write_mask(mask_path(staging, lesion.image_id), moved)
                probability = np.where(moved, np.float32(0.9), np.float32(0.2))
                write_probability(probability_path(staging, lesion.image_id), probability)
            write_manifest(staging, Manifest("segmentation", source=source, split="validation"))
        return folder

    return make
