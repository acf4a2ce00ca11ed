"""The weighted mean of predictions folders: what fusion and ensembles have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Task, has_masks, has_scores
from dermfuse.errors import PredictionsError
from dermfuse.predictions import (
    SCORES_NAME,
    Predictions,
    check_same_images,
    mask_path,
    name_some,
    probability_path,
    size_in_words,
)
from dermfuse.preprocess import read_probability, write_mask, write_probability
from dermfuse.scores import ScoreTable, write_scores

LEVELS = 256
"""A probability map is stored in 8 bits."""


def shared_task(predicted: Sequence[Predictions]) -> Task:
    """Returns what all folders predict: ``joint`` where all hold scores and masks.

    Raises:
        PredictionsError: They have nothing in common.
    """
    scored = all(one.scores is not None for one in predicted)
    segmented = all(one.masks for one in predicted)
    if scored and segmented:
        return "joint"
    if scored or segmented:
        return "classification" if scored else "segmentation"
    raise PredictionsError(
        f"{' and '.join(str(one.folder) for one in predicted)} have no task in common",
        expected="scores in all, or masks in all",
    )


def images_of(predictions: Predictions, task: Task) -> set[str]:
    """Returns the images that a folder holds predictions of, for a task.

    Raises:
        PredictionsError: The task is joint, and an image has a score or a mask alone.
    """
    scored, segmented = set(predictions.score_by_id()), set(predictions.masks)
    if task == "joint" and scored != segmented:
        raise PredictionsError(
            f"{predictions.folder} holds a score or a mask alone of "
            f"{name_some(sorted(scored ^ segmented))}",
            expected="both of every image, or a folder for each task",
        )
    return scored if has_scores(task) else segmented


def match_folders(predicted: Sequence[Predictions]) -> tuple[Task, tuple[str, ...]]:
    """Returns the task that folders share and their images, which are the same, sorted.

    Raises:
        PredictionsError: They share no task, predict different images, or lack a map to average.
    """
    task = shared_task(predicted)
    if has_masks(task):
        for one in predicted:
            _require_maps(one)
    ids = [images_of(one, task) for one in predicted]
    for other, other_ids in zip(predicted[1:], ids[1:], strict=True):
        check_same_images(predicted[0], other, ids[0], other_ids)
    return task, tuple(sorted(ids[0]))


def scores_of(predictions: Predictions, ids: Sequence[str]) -> NDArray[np.float64]:
    """Returns the scores of some images, (N,)."""
    by_id = predictions.score_by_id()
    return np.array([by_id[image_id] for image_id in ids])


def is_lesion(mean_level: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns where the weighted mean of maps, in levels of 0 to 255, stands for 0.5 or more."""
    # The margin holds what is exactly 0.5 on the lesion's side, however its sum is rounded.
    return np.asarray(mean_level >= (LEVELS - 1) / 2 - 1e-9)


def read_levels(predicted: Sequence[Predictions], image_id: str) -> list[NDArray[np.uint8]]:
    """Returns every folder's map of an image in levels of 0 to 255; they have one size.

    Raises:
        PredictionsError: They have not.
    """
    paths = [one.probabilities[image_id] for one in predicted]
    levels = [np.rint(read_probability(path) * (LEVELS - 1)).astype(np.uint8) for path in paths]
    for path, one in zip(paths, levels, strict=True):
        if one.shape != levels[0].shape:
            raise PredictionsError(
                f"{paths[0]} is {size_in_words(levels[0])} and {path} is {size_in_words(one)}",
                expected="maps of one size, the image's",
            )
    return levels


def write_mean(
    folder: Path,
    task: Task,
    predicted: Sequence[Predictions],
    ids: Sequence[str],
    weights: Sequence[float],
) -> None:
    """Writes the weighted mean of folders: scores, and maps with the masks they make.

    Args:
        folder: Where to; new.
        task: What the folders have in common.
        predicted: The folders.
        ids: Their images.
        weights: One for each folder; they add up to 1.
    """
    if has_scores(task):
        scores = _weighted([scores_of(one, ids) for one in predicted], weights)
        write_scores(folder / SCORES_NAME, ScoreTable(tuple(ids), np.clip(scores, 0.0, 1.0)))
    for image_id in ids if has_masks(task) else ():
        mean = _weighted(read_levels(predicted, image_id), weights)
        probability = (mean / (LEVELS - 1)).astype(np.float32)
        write_probability(probability_path(folder, image_id), probability)
        write_mask(mask_path(folder, image_id), is_lesion(mean))


def _weighted(parts: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[np.float64]:
    mean = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        mean += weight * part
    return mean


def _require_maps(predictions: Predictions) -> None:
    lacking = sorted(set(predictions.masks) - set(predictions.probabilities))
    if lacking:
        raise PredictionsError(
            f"{predictions.folder} holds no probability map of {name_some(lacking)}",
            expected="probabilities/*.png, as masks cannot be averaged",
            action="Predict again with probability maps",
        )
