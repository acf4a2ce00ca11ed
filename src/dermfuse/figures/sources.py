"""What figures are drawn from: run folders, predictions folders and a dataset folder, read."""

import csv
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dermfuse.config import Config, Task, load_config
from dermfuse.data.folders import DataFolders, Truth, has_split, load_dataset, load_truth
from dermfuse.data.isic2016 import TEST_DUPLICATES, Lesion
from dermfuse.data.splits import Split, read_split
from dermfuse.errors import DataError, DermfuseError, RunError
from dermfuse.evaluation.matching import match_masks, match_scores
from dermfuse.figures.curves import History
from dermfuse.figures.ranking import ScoredNetwork
from dermfuse.folders import RunFolder
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, resize_image
from dermfuse.predictions.folder import Predictions, read_predictions
from dermfuse.predictions.metrics import jaccard
from dermfuse.records import MOST_RECORD_BYTES, read_plain, show_value

_LOG = logging.getLogger(__name__)
_Matched = TypeVar("_Matched")

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SHOWN_PX = 320
"""Longer side of the images in a figure."""

_METRICS = {
    "classification": ("average_precision", "auc"),
    "segmentation": ("jaccard", "dice"),
    "joint": ("average_precision", "jaccard"),
}


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run folder that was read.

    Args:
        path: The folder.
        name: The network, and its seed.
        config: What was trained.
        split: Which images it was trained and validated on.
        history: How the training went.
    """

    path: Path
    name: str
    config: Config
    split: Split
    history: History


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything there is to draw from.

    Args:
        runs: The run folders.
        predictions: The predictions folders.
        truth: Labels and masks of the dataset folder.
        lesions: Its images, by id; no training image that shows a lesion of the test set.
    """

    runs: tuple[RunSource, ...]
    predictions: tuple[Predictions, ...]
    truth: Truth
    lesions: Mapping[str, Lesion]

    def runs_for(self, task: Task) -> list[RunSource]:
        """Returns the runs of one task."""
        return [run for run in self.runs if run.config.model.task == task]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredGroup:
    """Networks that scored the same labelled images.

    Args:
        split: Of the images.
        image_ids: In the order of the scores.
        networks: Each with its scores.
    """

    split: str
    image_ids: tuple[str, ...]
    networks: tuple[ScoredNetwork, ...]


@dataclass(frozen=True, slots=True)
class SegmentedNetwork:
    """A network's masks beside the true ones.

    Args:
        name: The network.
        predictions: Its folder.
        agreement: The Jaccard of each image with a true mask and a photograph.
    """

    name: str
    predictions: Predictions
    agreement: Mapping[str, float]


def read_sources(
    runs: Sequence[Path], predictions: Sequence[Path], *, data: DataFolders
) -> Sources:
    """Returns what the folders hold; a run that validated on nothing is left out, and logged.

    Raises:
        DataError: There is no folder, none but such runs, or the dataset cannot be used.
        RunError: A run folder cannot be used.
        PredictionsError: A predictions folder cannot be used.
    """
    if not runs and not predictions:
        raise DataError(
            "no run folder and no predictions folder",
            expected="one or more",
            action="Name the folders to draw from",
        )
    tested = load_dataset(data, "test").lesions if has_split(data, "test") else ()
    trained = load_dataset(data, "train").lesions if has_split(data, "train") else ()
    own = (lesion for lesion in trained if lesion.image_id not in TEST_DUPLICATES)
    lesions = {lesion.image_id: lesion for lesion in (*own, *tested)}
    drawable = [run for run in runs if _validates(run)]
    if not drawable and not predictions:
        raise DataError(
            f"{runs[0]} was trained on all images and validated on none",
            expected="a run with validation images, or predictions folders",
            action="Name its predictions of the test split",
        )
    for run in runs:
        if run not in drawable:
            _LOG.warning("%s is left out: it validated on no image", run)
    return Sources(
        runs=tuple(read_run(run) for run in drawable),
        predictions=tuple(read_predictions(folder) for folder in predictions),
        truth=load_truth(data),
        lesions=lesions,
    )


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a run; a predictions folder has no configuration."""
    return RunFolder(folder).is_run


def read_run(path: Path) -> RunSource:
    """Returns what a run folder says about its training.

    Raises:
        RunError: It is no run, or has no finished epoch.
        ConfigError: Its configuration cannot be read.
    """
    config = _read_config(path)
    folder = RunFolder(path)
    name = f"{config.name}, seed {config.train.seed}"
    columns = read_columns(folder.metrics)
    epochs = columns.pop("epoch")
    history = History(name, epochs, columns, _METRICS[config.model.task])
    return RunSource(path, name, config, read_split(folder.split), history)


def _read_config(path: Path) -> Config:
    folder = RunFolder(path)
    folder.require_run(expected="a folder with config.toml and metrics.csv")
    return load_config(folder.config)


def _validates(run: Path) -> bool:
    return _read_config(run).data.validates


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Returns the columns of ``metrics.csv``; NaN where a cell is empty.

    Raises:
        RunError: The file is missing, holds no epoch, or is not such a table.
    """
    try:
        text = read_plain(path, most_bytes=MOST_RECORD_BYTES).decode("utf-8")
        names, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
        columns = {
            name: np.array([_number(row[i]) for row in rows], dtype=np.float64)
            for i, name in enumerate(names)
        }
        odd = len(columns) != len(names) or any(len(row) != len(names) for row in rows)
    except (csv.Error, ValueError, IndexError) as error:
        raise RunError(
            f"{path} cannot be read ({error})", expected="the table of a run's epochs"
        ) from error
    if odd or np.isnan(columns.get("epoch", np.zeros(0))).any():
        raise RunError(
            f"{path} has rows or columns that do not fit its header",
            expected="the table of a run's epochs, each column once",
        )
    if not len(columns.get("epoch", ())):
        raise RunError(
            f"{path} holds no epoch",
            expected="a row for each finished epoch",
            action="Train it, or go on with --resume",
        )
    return columns


def _number(cell: str) -> float:
    """Returns the number in a cell; NaN where it is empty."""
    if not cell:
        return math.nan
    if not math.isfinite(number := float(cell)):
        raise ValueError(f"a cell holds {show_value(cell)}")
    return number


def name_of(predictions: Predictions) -> str:
    """Returns who predicted, in words."""
    return predictions.manifest.source or predictions.folder.name


def is_fusion(predictions: Predictions) -> bool:
    """Returns whether predictions are the mean of two others."""
    return "weight" in predictions.manifest.details


def without_members(sources: Sources, names: Sequence[str]) -> list[str]:
    """Returns the fusions among networks, which stand for their members, or all where none is."""
    fusions = {name_of(each) for each in sources.predictions if is_fusion(each)}
    return [name for name in names if name in fusions] or list(names)


def scored_groups(sources: Sources) -> list[ScoredGroup]:
    """Returns the networks that have scores and labels, by the images they scored.

    Raises:
        DermfuseError: No folder with scores fits the labels.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[ScoredNetwork]] = {}
    for predictions, scored in _matched(sources, match_scores):
        key = predictions.manifest.split, scored.coverage.evaluated
        network = ScoredNetwork(
            name_of(predictions), scored.malignant, scored.scores, predictions.manifest.threshold
        )
        groups.setdefault(key, []).append(network)
    return [ScoredGroup(*key, tuple(networks)) for key, networks in groups.items()]


def segmented_networks(sources: Sources) -> list[SegmentedNetwork]:
    """Returns the networks that have masks and true masks, each with its Jaccards.

    Raises:
        DermfuseError: No folder with masks fits the true ones.
    """
    networks = []
    for predictions, segmented in _matched(sources, match_masks):
        pairs = zip(segmented.coverage.evaluated, segmented.counts, strict=True)
        agreement = {i: jaccard(counts) for i, counts in pairs if i in sources.lesions}
        networks.append(SegmentedNetwork(name_of(predictions), predictions, agreement))
    return networks


def common_validation(sources: Sources, runs: Sequence[RunSource]) -> list[Lesion]:
    """Returns the labelled images that every one of the runs validated on.

    Raises:
        DataError: There is none.
    """
    common = set.intersection(*(set(run.split.validation) for run in runs))
    lesions = [
        sources.lesions[image_id]
        for image_id in sorted(common & sources.lesions.keys())
        if sources.lesions[image_id].label is not None
    ]
    if not lesions:
        raise DataError(
            "the runs validated on no labelled image in common",
            expected="runs of one split, and their data set",
            action="Draw them one by one, with the --data they were trained on",
        )
    return lesions


def _matched(
    sources: Sources, match: Callable[..., _Matched | None]
) -> list[tuple[Predictions, _Matched]]:
    """Returns the predictions that meet a truth; a folder that cannot is left out, and logged.

    Raises:
        DermfuseError: There are predictions, and none of them meets a truth.
    """
    found, errors = [], []
    for predictions in sources.predictions:
        try:
            matched = match(predictions, sources.truth, allow_partial=True)
        except DermfuseError as error:
            errors.append(error)
            _LOG.warning("%s is left out: %s", predictions.folder, error)
        else:
            if matched is not None:
                found.append((predictions, matched))
    if errors and not found:
        raise errors[0]
    return found


def shrunk(lesion: Lesion) -> Image:
    """Returns a lesion's photograph at the size it has in a figure.

    Raises:
        ImageError: It cannot be read.
    """
    return scale_image(read_image(lesion.image_path), SHOWN_PX, enlarge=False)


def shrunk_mask(path: Path, like: Image) -> Mask:
    """Returns a mask at the size of a photograph in a figure.

    Raises:
        ImageError: It cannot be read.
    """
    return scale_mask(read_mask(path), like.shape[0], like.shape[1])


def scale_image(image: Image, longer_px: int, *, enlarge: bool) -> Image:
    """Returns an image whose longer side has so many pixels; a smaller one only if asked for."""
    height, width = image.shape[:2]
    ratio = longer_px / max(height, width)
    if ratio >= 1 and not enlarge:
        return image
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return resize_image(image, size)


def scale_mask(mask: Mask, height: int, width: int) -> Mask:
    """Returns a mask of another size: lesion where half of a pixel's area or more is."""
    grey = PillowImage.fromarray(mask.astype(np.uint8) * np.uint8(255))
    resized = grey.resize((width, height), PillowImage.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8) >= 128
