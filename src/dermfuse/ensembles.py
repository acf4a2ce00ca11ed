"""Many predictions folders as one: the folds of a cross-validation joined, or networks averaged.

join      disjoint images    every image once, predicted by the network that never saw it
average   the same images    the plain mean of several folds, seeds or networks
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dermfuse.blending import images_of, match_folders, shared_task, write_mean
from dermfuse.config import Task, has_masks, has_scores
from dermfuse.errors import PredictionsError, StorageError
from dermfuse.predictions import (
    SCORES_NAME,
    Manifest,
    Predictions,
    mask_path,
    name_some,
    new_predictions,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.runs import NOTICE
from dermfuse.scores import ScoreTable, write_scores

_OUT_OF_FOLD = {"", "validation"}  # a folder without a manifest does not say


@dataclass(frozen=True, slots=True)
class EnsembleReport:
    """What was put together.

    Args:
        kind: ``join`` or ``average``.
        task: What was predicted.
        split: Of the images; empty where the folders are of different ones.
        folder_count: How many folders it was made of.
        image_count: How many images it predicts.
    """

    kind: Literal["join", "average"]
    task: Task
    split: str
    folder_count: int
    image_count: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {**asdict(self), "notice": NOTICE}


def join(folders: Sequence[str | Path], out: str | Path) -> EnsembleReport:
    """Writes the predictions of disjoint images as one folder, of the validation split.

    With the validation predictions of every fold of a cross-validation, each image is predicted
    once, by a network that was not trained on it. Probability maps are taken along.

    Args:
        folders: Two or more predictions folders of one task.
        out: The predictions folder to write; it may exist if it is empty.

    Raises:
        PredictionsError: A folder cannot be read; tasks, thresholds or calibration differ; an
            image is predicted twice; or a folder is of the test or the training split, whose
            predictions are not out of fold. Folders that are all of the test split are parts
            of it, and can be joined.
        RunError: ``out`` exists and is not empty.
        StorageError: ``out`` cannot be written.
    """
    out = Path(out)
    predicted = _read_all([Path(each) for each in folders])
    task = _only_task(predicted)
    split = _joined_split(predicted)
    _refuse_overlaps(predicted, task)
    _refuse_mixed_scales(predicted)
    first = predicted[0].manifest
    with new_predictions(out) as folder:
        if has_scores(task):
            _join_scores(folder, predicted)
        if has_masks(task):
            _copy_maps(folder, predicted)
        manifest = Manifest(
            task,
            source=f"{_sources(predicted)}, {len(predicted)} folders joined",
            split=split,
            threshold=first.threshold,
            calibrated=first.calibrated,
            details=_details(predicted, "join"),
        )
        write_manifest(folder, manifest)
    count = sum(len(images_of(one, task)) for one in predicted)
    return EnsembleReport("join", task, split, len(predicted), count)


def average(folders: Sequence[str | Path], out: str | Path) -> EnsembleReport:
    """Writes the unweighted mean of the predictions of the same images as one folder.

    Scores are averaged, and probability maps; a pixel of a mean map is lesion from 0.5 on.

    Args:
        folders: Two or more predictions folders; maps need ``probabilities/``.
        out: The predictions folder to write; it may exist if it is empty.

    Raises:
        PredictionsError: A folder cannot be read or is given twice, or they do not match.
        RunError: ``out`` exists and is not empty.
        StorageError: ``out`` cannot be written.
    """
    out = Path(out)
    predicted = _read_all([Path(each) for each in folders])
    task, ids = match_folders(predicted)
    splits = {one.manifest.split for one in predicted}
    split = splits.pop() if len(splits) == 1 else ""
    count = len(predicted)
    with new_predictions(out) as folder:
        write_mean(folder, task, predicted, ids, [1 / count] * count)
        manifest = Manifest(
            task,
            source=f"mean of {count}: {_sources(predicted)}",
            split=split,
            details=_details(predicted, "average"),
        )
        write_manifest(folder, manifest)
    return EnsembleReport("average", task, split, count, len(ids))


def _read_all(folders: Sequence[Path]) -> list[Predictions]:
    if len(folders) < 2:
        raise PredictionsError(
            f"{len(folders)} predictions folders are given", expected="two or more"
        )
    resolved = [folder.resolve() for folder in folders]
    repeated = [f for f, path in zip(folders, resolved, strict=True) if resolved.count(path) > 1]
    if repeated:
        raise PredictionsError(f"{repeated[0]} is given twice", expected="each folder once")
    return [read_predictions(folder) for folder in folders]


def _only_task(predicted: Sequence[Predictions]) -> Task:
    """Returns the one task of all folders: what only some of them predict cannot be joined."""
    task = shared_task(predicted)
    for one in predicted:
        if task != "joint" and one.scores is not None and one.masks:
            raise PredictionsError(
                f"{one.folder} holds scores and masks, other folders only one of them",
                expected="folders of one task",
                action="Join folders of the same preset",
            )
    return task


def _joined_split(predicted: Sequence[Predictions]) -> str:
    splits = {one.manifest.split for one in predicted}
    if splits == {"test"}:
        return "test"
    for one in predicted:
        if one.manifest.split not in _OUT_OF_FOLD:
            raise PredictionsError(
                f"{one.folder} predicts the {one.manifest.split} split",
                expected="out-of-fold predictions: each run's own validation split",
                action="Predict with: dermfuse predict RUN --split validation",
            )
    return "validation"


def _refuse_overlaps(predicted: Sequence[Predictions], task: Task) -> None:
    seen: dict[str, Path] = {}
    for one in predicted:
        ids = images_of(one, task)
        if both := sorted(ids & seen.keys()):
            raise PredictionsError(
                f"{name_some(both)}: predicted in {seen[both[0]]} and in {one.folder}",
                expected="each image in one folder, as with the folds of a cross-validation",
                action="Average folders of the same images with: dermfuse average",
            )
        seen |= dict.fromkeys(ids, one.folder)


def _refuse_mixed_scales(predicted: Sequence[Predictions]) -> None:
    """Refuses scores, or masks, that do not mean the same from folder to folder."""
    first = predicted[0]
    for one in predicted[1:]:
        for key in ("threshold", "calibrated"):
            before, now = getattr(first.manifest, key), getattr(one.manifest, key)
            if before != now:
                raise PredictionsError(
                    f"{key} is {before} in {first.folder} and {now} in {one.folder}",
                    expected=f"the same {key} in all",
                )


def _join_scores(folder: Path, predicted: Sequence[Predictions]) -> None:
    tables = [one.scores for one in predicted if one.scores is not None]
    ids = tuple(image_id for table in tables for image_id in table.image_ids)
    scores = np.concatenate([table.scores for table in tables])
    write_scores(folder / SCORES_NAME, ScoreTable(ids, scores))


def _copy_maps(folder: Path, predicted: Sequence[Predictions]) -> None:
    copies = [
        (path, place(folder, image_id))
        for one in predicted
        for files, place in ((one.masks, mask_path), (one.probabilities, probability_path))
        for image_id, path in files.items()
    ]
    for source, target in copies:
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise StorageError(
                f"{source} cannot be copied ({error.strerror or error})",
                expected="a readable file and free space",
            ) from error


def _sources(predicted: Sequence[Predictions]) -> str:
    names = dict.fromkeys(one.manifest.source or one.folder.name for one in predicted)
    return name_some(list(names), most=5)


def _details(predicted: Sequence[Predictions], kind: str) -> dict[str, Any]:
    """Returns the details that all folders have in common, and where each prediction is from."""
    first, *others = (one.manifest.details for one in predicted)
    common: Mapping[str, Any] = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }
    members = [
        {"folder": one.folder.name, "source": one.manifest.source, "split": one.manifest.split}
        for one in predicted
    ]
    return {**common, "ensemble": kind, "members": members}
