"""What figures are drawn from: run folders, predictions folders and a dataset folder, read."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Config, Task, load_config
from dermfuse.data.folders import DataFolders, Truth, has_split, load_dataset, load_truth
from dermfuse.data.isic2016 import TEST_DUPLICATES, Lesion
from dermfuse.data.splits import Split, read_split
from dermfuse.errors import DataError, DermfuseError, RunError
from dermfuse.evaluation.matching import match_masks, match_scores
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, resize_map
from dermfuse.predictions.folder import Predictions, read_predictions
from dermfuse.predictions.metrics import jaccard
from dermfuse.records import MOST_RECORD_BYTES, read_plain, show_value
from dermfuse.records.folders import RunFolder

_LOG = logging.getLogger(__name__)
_Matched = TypeVar("_Matched")

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

SHOWN_PX = 320
"""Longer side of the images in a figure."""

_METRICS = {
    "classification": ("average_precision", "auc"),
    "segmentation": ("jaccard", "dice"),
    "joint": ("average_precision", "jaccard"),
}


@dataclass(frozen=True, slots=True, eq=False)
class RunSource:
    """A run folder that was read.

    Args:
        path: The folder.
        config: What was trained.
        split: Which images it was trained and validated on.
        columns: ``metrics.csv``: what was measured after each epoch, NaN where it was not. (E,)
            each; ``train_`` and a metric's name is the same on training images.
    """

    path: Path
    config: Config
    split: Split
    columns: Mapping[str, Values]

    def __post_init__(self) -> None:
        needed = ["train_loss", "validation_loss", self.metrics[0]]
        if missing := [name for name in needed if name not in self.columns]:
            raise DataError(
                f"the history of {self.name} has no column {', '.join(missing)}",
                expected=f"the columns {', '.join(needed)}",
            )
        if np.isnan(self.columns[self.metrics[0]]).all():
            raise DataError(
                f"{self.metrics[0]} of {self.name} was measured after no epoch",
                expected="a number for one epoch or more",
            )

    @property
    def name(self) -> str:
        """The network, and its seed."""
        return f"{self.config.name}, seed {self.config.train.seed}"

    @property
    def metrics(self) -> tuple[str, str]:
        """The columns that tell how well it does, the one the epoch is chosen by first."""
        return _METRICS[self.config.model.task]

    @property
    def best_epoch(self) -> float:
        """The epoch with the highest metric; the earliest of equals."""
        return float(self.columns["epoch"][np.nanargmax(self.columns[self.metrics[0]])])


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
class ScoredNetwork:
    """One network's scores beside the labels.

    Args:
        name: The network.
        split: The images' split.
        image_ids: In the order of the scores.
        malignant: Labels. (N,)
        scores: Scores of malignancy, in [0, 1]. (N,)
        threshold: A score above it is called malignant.
        is_fusion: Whether it stands for two others.
    """

    name: str
    split: str
    image_ids: tuple[str, ...]
    malignant: NDArray[np.bool_]
    scores: Values
    threshold: float = 0.5
    is_fusion: bool = False


@dataclass(frozen=True, slots=True)
class SegmentedNetwork:
    """A network's masks beside the true ones.

    Args:
        name: The network.
        predictions: Its folder.
        agreement: The Jaccard of each image with a true mask and a photograph.
        is_fusion: Whether it stands for two others.
    """

    name: str
    predictions: Predictions
    agreement: Mapping[str, float]
    is_fusion: bool = False


_Network = TypeVar("_Network", ScoredNetwork, SegmentedNetwork)


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
    drawable = [run for run in runs if _read_config(run).data.validates]
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


def read_run(path: Path) -> RunSource:
    """Returns what a run folder says about its training.

    Raises:
        RunError: It is no run, or has no finished epoch.
        ConfigError: Its configuration cannot be read.
    """
    config = _read_config(path)
    folder = RunFolder(path)
    return RunSource(path, config, read_split(folder.split), read_columns(folder.metrics))


def read_columns(path: Path) -> dict[str, Values]:
    """Returns the columns of ``metrics.csv``; NaN where a cell is empty.

    Raises:
        RunError: The file is missing, holds no epoch, or is not such a table.
    """
    text = read_plain(path, most_bytes=MOST_RECORD_BYTES)
    try:
        head, *lines = [line for line in text.decode("utf-8").splitlines() if line] or [""]
        if not lines:
            raise RunError(
                f"{path} holds no epoch",
                expected="a row for each finished epoch",
                action="Train it, or continue with --resume",
            )
        table = np.loadtxt(lines, delimiter=",", converters=_number, comments=None, ndmin=2)
        columns = dict(zip(head.split(","), table.T, strict=True))
    except ValueError as error:
        raise RunError(
            f"{path} cannot be read ({error})", expected="the table of a run's epochs"
        ) from error
    if len(columns) < len(table.T) or np.isnan(columns.get("epoch", np.nan)).any():
        raise RunError(
            f"{path} has no epoch in a row, or a column twice",
            expected="the table of a run's epochs, each column once",
        )
    return columns


def name_of(predictions: Predictions) -> str:
    """Returns who predicted, in words."""
    return predictions.manifest.source or predictions.folder.name


def is_fusion(predictions: Predictions) -> bool:
    """Returns whether predictions are the mean of two others."""
    return "weight" in predictions.manifest.details


def without_members(networks: Sequence[_Network]) -> list[_Network]:
    """Returns the fusions among networks, which stand for their members, or all where none is."""
    return [network for network in networks if network.is_fusion] or list(networks)


def even_ranks(count: int, wanted: int) -> list[int]:
    """Returns ranks spread evenly from the first to the last, without repetition.

    Example:
        >>> even_ranks(10, 4), even_ranks(2, 4), even_ranks(0, 4)
        ([0, 3, 6, 9], [0, 1], [])
    """
    ranks = np.linspace(0, max(count - 1, 0), min(wanted, count))
    return [int(rank) for rank in ranks]


def scored_groups(sources: Sources) -> list[list[ScoredNetwork]]:
    """Returns the networks that have scores and labels, by the images they scored.

    Raises:
        DermfuseError: No folder with scores fits the labels.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[ScoredNetwork]] = {}
    for predictions, scored in _matched(sources, match_scores):
        key = predictions.manifest.split, scored.coverage.evaluated
        network = ScoredNetwork(
            name_of(predictions),
            *key,
            malignant=scored.malignant,
            scores=scored.scores,
            threshold=predictions.manifest.threshold,
            is_fusion=is_fusion(predictions),
        )
        groups.setdefault(key, []).append(network)
    return list(groups.values())


def segmented_networks(sources: Sources) -> list[SegmentedNetwork]:
    """Returns the networks that have masks and true masks, each with its Jaccards.

    Raises:
        DermfuseError: No folder with masks fits the true ones.
    """
    networks = []
    for predictions, segmented in _matched(sources, match_masks):
        pairs = zip(segmented.coverage.evaluated, segmented.counts, strict=True)
        agreement = {i: jaccard(counts) for i, counts in pairs if i in sources.lesions}
        name, fused = name_of(predictions), is_fusion(predictions)
        networks.append(SegmentedNetwork(name, predictions, agreement, fused))
    return networks


def common_validation(sources: Sources, runs: Sequence[RunSource]) -> list[Lesion]:
    """Returns the labelled images that every one of the runs validated on.

    Raises:
        DataError: There is none.
    """
    common = set.intersection(*(set(run.split.validation) for run in runs))
    known = (sources.lesions[image_id] for image_id in sorted(common & sources.lesions.keys()))
    lesions = [lesion for lesion in known if lesion.label is not None]
    if not lesions:
        raise DataError(
            "the runs validated on no labelled image in common",
            expected="runs of one split, and their data set",
            action="Draw them one by one, with the --data they were trained on",
        )
    return lesions


def shrunk(lesion: Lesion, longer_px: int = SHOWN_PX) -> Image:
    """Returns a lesion's photograph at the size it has in a figure.

    Raises:
        ImageError: It cannot be read.
    """
    return reduce_image(read_image(lesion.image_path), long_side_px=longer_px).image


def shrunk_mask(path: Path, like: Image) -> Mask:
    """Returns a mask at the size of a photograph in a figure.

    Raises:
        ImageError: It cannot be read.
    """
    return resize_map(read_mask(path).astype(np.float32), *like.shape[:2]) >= 0.5


def _read_config(path: Path) -> Config:
    folder = RunFolder(path)
    folder.require_run(expected="a folder with config.toml and metrics.csv")
    return load_config(folder.config)


def _number(cell: str) -> float:
    """Returns the number in a cell; NaN where it is empty."""
    if not cell:
        return math.nan
    if not math.isfinite(number := float(cell)):
        raise ValueError(f"a cell holds {show_value(cell)}")
    return number


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
