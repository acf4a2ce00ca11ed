"""Several predictions folders as one: two models fused, folds joined, networks averaged.

fuse      the same images    a weighted mean of scores, or of probability maps
join      disjoint images    every image once, predicted by the network that never saw it
average   the same images    the plain mean of several folds, seeds or networks

Paper:
    Section 2: the fused score is a weighted average of the malignant probabilities of the two
    networks. The paper does not name the weight; here it is chosen on validation predictions, or
    given. Section 3: the fused map is the mean of the two probability maps.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Task, has_masks, has_scores
from dermfuse.data.folders import DataFolders, Truth, load_truth
from dermfuse.data.isic2016 import Label
from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability, write_mask, write_probability
from dermfuse.predictions.folder import (
    SCORES_NAME,
    Manifest,
    Predictions,
    check_same_images,
    mask_path,
    name_some,
    new_predictions,
    probability_path,
    read_predictions,
    size_in_words,
    write_manifest,
)
from dermfuse.predictions.metrics import Counts, average_precision, jaccard
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.records.folders import NOTICE, storage_faults

LEVELS = 256
"""A probability map is stored in 8 bits."""

WEIGHTS: NDArray[np.float64] = np.arange(101) / 100
"""The weights of A that are tried: 0 (B alone) to 1 (A alone)."""

_FITTABLE = ("train", "validation")
_SCALES = ("threshold", "calibrated")  # by which scores, or masks, mean the same in all folders
_OUT_OF_FOLD = {"", "validation"}  # a folder without a manifest does not say


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
    for one in predicted if has_masks(task) else ():
        if lacking := sorted(one.masks.keys() - one.probabilities.keys()):
            raise PredictionsError(
                f"{one.folder} holds no probability map of {name_some(lacking)}",
                expected="probabilities/*.png, as masks cannot be averaged",
                action="Predict again with probability maps",
            )
    ids = [images_of(one, task) for one in predicted]
    for other, other_ids in zip(predicted[1:], ids[1:], strict=True):
        check_same_images(predicted[0], other, ids[0], other_ids)
    return task, tuple(sorted(ids[0]))


def scores_of(predictions: Predictions, ids: Sequence[str]) -> NDArray[np.float64]:
    """Returns the scores of some images, (N,)."""
    by_id = predictions.score_by_id()
    return np.array([by_id[image_id] for image_id in ids])


def is_lesion(mean_level: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns where the weighted mean of maps, in levels of 0 to 255, is 0.5 or more."""
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
        ids: The images of the folders.
        weights: One for each folder; they add up to 1.
    """
    if has_scores(task):
        scores = mean_scores([scores_of(one, ids) for one in predicted], weights)
        write_scores(folder / SCORES_NAME, ScoreTable(tuple(ids), scores))
    for image_id in ids if has_masks(task) else ():
        mean = _weighted(read_levels(predicted, image_id), weights)
        probability = (mean / (LEVELS - 1)).astype(np.float32)
        write_probability(probability_path(folder, image_id), probability)
        write_mask(mask_path(folder, image_id), is_lesion(mean))


def mean_scores(
    parts: Sequence[NDArray[np.float64]], weights: Sequence[float]
) -> NDArray[np.float64]:
    """Returns the weighted mean of scores, in [0, 1] as all are.

    Example:
        >>> mean_scores([np.array([0.2]), np.array([0.6])], [0.25, 0.75])
        array([0.5])
    """
    return np.clip(_weighted(parts, weights), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class FitOn:
    """Predictions to choose the weight on, and their truth.

    Args:
        validation_a: The predictions of model A for images that it was not trained on.
        validation_b: The predictions of model B for the same images.
        truth: See ``dermfuse.evaluation.evaluate``.
    """

    validation_a: Path
    validation_b: Path
    truth: DataFolders

    def __post_init__(self) -> None:
        for name in ("validation_a", "validation_b"):
            object.__setattr__(self, name, Path(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Fit:
    """How the weight was chosen.

    Args:
        metric: ``average_precision`` or ``jaccard``.
        image_count: How many images it was chosen on.
        a: The metric of A alone on them.
        b: The metric of B alone.
        fused: The metric at the weight chosen; of the best of many, so not an estimate of how
            well the fusion does.
    """

    metric: str
    image_count: int
    a: float
    b: float
    fused: float


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What was fused, and how.

    Args:
        task: What was fused: ``classification``, ``segmentation``, or ``joint`` for both.
        weight: The weight of A; B has the rest.
        image_count: How many images were fused.
        fit: How the weight was chosen; None where it was given, or is the plain mean.
    """

    task: Task
    weight: float
    image_count: int
    fit: Fit | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {**asdict(self), "notice": NOTICE}


def fuse(
    a: str | Path,
    b: str | Path,
    out: str | Path,
    *,
    weight: float | None = None,
    fit: FitOn | None = None,
) -> FusionReport:
    """Writes the weighted mean of two predictions folders as a third.

    Scores are averaged, and probability maps; a pixel of a fused map is lesion from 0.5 on.

    Args:
        a: The predictions of model A; maps need ``probabilities/``.
        b: The predictions of model B, of the same images.
        out: The predictions folder to write; it may exist if it is empty.
        weight: The share of A, in [0, 1]; the plain mean (0.5) if neither it nor ``fit`` is given.
        fit: Choose the weight that does best on these: average precision for scores, Jaccard
            for maps; 0 to 1 in steps of 0.01, of equally good ones the nearest to 0.5.

    Raises:
        ConfigError: ``weight`` is out of range, or given together with ``fit``.
        PredictionsError: A folder cannot be read, A and B do not match, or the weight would be
            chosen on the images that it is for, or for scores and masks at once.
        DataError: The truth to fit on cannot be read or lacks what is needed.
        RunError: ``out`` exists and is not empty.
        StorageError: ``out`` cannot be written.
    """
    if weight is not None and fit is not None:
        raise ConfigError(
            "both a weight and predictions to fit it on", expected="one of them, or neither"
        )
    if weight is not None and not 0.0 <= weight <= 1.0:
        raise ConfigError(f"the weight of A is {weight}", expected="a number in [0, 1]")
    predicted_a, predicted_b = read_predictions(a), read_predictions(b)
    task, ids = match_folders((predicted_a, predicted_b))
    found: Fit | None = None
    if fit is not None:
        weight, found = _fit(fit, task, predicted_a, ids)
    weight = 0.5 if weight is None else weight
    first, second = (one.manifest.source or one.folder.name for one in (predicted_a, predicted_b))
    manifest = Manifest(
        task,
        source=f"fusion of {first} and {second}",
        split=_shared_split((predicted_a, predicted_b)),
        details={"weight": weight, "fit": asdict(found) if found else None},
    )
    with new_predictions(Path(out)) as folder:
        write_mean(folder, task, (predicted_a, predicted_b), ids, (weight, 1.0 - weight))
        write_manifest(folder, manifest)
    return FusionReport(task=task, weight=weight, image_count=len(ids), fit=found)


def fit_score_weight(
    labels: NDArray[np.bool_], a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Returns the weight of A with the best average precision, and that of every weight tried.

    Args:
        labels: Which images are malignant. (N,)
        a: Scores of model A. (N,)
        b: Scores of model B. (N,)

    Raises:
        DataError: No image is malignant.
    """
    fused = (mean_scores([a, b], [weight, 1.0 - weight]) for weight in WEIGHTS.tolist())
    return _best_weight(np.array([average_precision(labels, scores) for scores in fused]))


def count_fused(
    a: NDArray[np.uint8], b: NDArray[np.uint8], truth: NDArray[np.bool_]
) -> list[Counts]:
    """Returns the counts of the fused mask of one image for every weight tried.

    Maps have 256 levels each, so an image is the number of its pixels at each pair of levels,
    within the lesion and outside; a weight calls some of the 65,536 pairs lesion.

    Args:
        a: Levels of model A's map. (H, W)
        b: Levels of model B's map. (H, W)
        truth: The true mask. (H, W)
    """
    pairs = a.astype(np.int64) * LEVELS + b
    lesion = np.bincount(pairs[truth], minlength=LEVELS**2)
    skin = np.bincount(pairs[~truth], minlength=LEVELS**2)
    present = np.flatnonzero(lesion + skin)
    levels_a, levels_b = np.divmod(present, LEVELS)
    weights = WEIGHTS[:, None]
    called = is_lesion(weights * levels_a + (1.0 - weights) * levels_b)  # (101, pairs)
    found, false = called @ lesion[present], called @ skin[present]
    return [
        Counts(tp=int(tp), fp=int(fp), tn=int(skin.sum() - fp), fn=int(lesion.sum() - tp))
        for tp, fp in zip(found, false, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class EnsembleReport:
    """What was put together.

    Args:
        kind: ``join`` or ``average``.
        task: What was predicted.
        split: The split of the images; empty where the folders are of different ones.
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
    predicted = _read_all([Path(each) for each in folders])
    task, split = _check_folds(predicted)
    first = predicted[0].manifest
    scores = {key: score for one in predicted for key, score in one.score_by_id().items()}
    with new_predictions(Path(out)) as folder:
        if has_scores(task):
            table = ScoreTable(tuple(scores), np.array(list(scores.values())))
            write_scores(folder / SCORES_NAME, table)
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
    predicted = _read_all([Path(each) for each in folders])
    task, ids = match_folders(predicted)
    split, count = _shared_split(predicted), len(predicted)
    source, details = f"mean of {count}: {_sources(predicted)}", _details(predicted, "average")
    with new_predictions(Path(out)) as folder:
        write_mean(folder, task, predicted, ids, [1 / count] * count)
        write_manifest(folder, Manifest(task, source=source, split=split, details=details))
    return EnsembleReport("average", task, split, count, len(ids))


def _weighted(parts: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[np.float64]:
    mean = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        mean += weight * part
    return mean


def _best_weight(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    best = np.flatnonzero(values == values.max())
    nearest = best[np.argmin(np.abs(best - len(WEIGHTS) // 2))]  # of two, the lower
    return float(WEIGHTS[nearest]), values


def _fit(
    fit: FitOn, task: Task, target: Predictions, target_ids: tuple[str, ...]
) -> tuple[float, Fit]:
    if task == "joint":  # the best weight for scores need not be the best for masks
        raise PredictionsError(
            f"{target.folder} holds scores and masks",
            expected="predictions for one task to fit a weight for",
            action="Give the weight, or take the plain mean",
        )
    a, b = read_predictions(fit.validation_a), read_predictions(fit.validation_b)
    fit_task, ids = match_folders((a, b))
    if fit_task != task:
        raise PredictionsError(
            f"{a.folder} is for {fit_task}", expected=f"predictions for {task} to fit on"
        )
    _check_is_validation(a, ids, target, target_ids)
    truth = load_truth(fit.truth)
    if task == "classification":
        ids = _with_truth(ids, truth.labels.keys(), "label", truth)
        labels = np.array([truth.labels[i] is Label.MALIGNANT for i in ids])
        weight, values = fit_score_weight(labels, scores_of(a, ids), scores_of(b, ids))
    else:
        ids = _with_truth(ids, truth.masks.keys(), "mask", truth)
        weight, values = _best_weight(_mean_jaccards(a, b, ids, truth))
    return weight, Fit(
        metric="average_precision" if task == "classification" else "jaccard",
        image_count=len(ids),
        a=float(values[-1]),
        b=float(values[0]),
        fused=float(values.max()),
    )


def _check_is_validation(
    fit: Predictions, fit_ids: tuple[str, ...], target: Predictions, target_ids: tuple[str, ...]
) -> None:
    """Refuses to choose a weight on the test set, or on the very images that it is for."""
    overlap = sorted(set(fit_ids) & set(target_ids))
    if fit.manifest.split == "test":
        found = f"{fit.folder} holds predictions of the test split"
    elif overlap and target.manifest.split not in _FITTABLE:
        found = f"{fit.folder} predicts {name_some(overlap)}, as {target.folder} does"
    else:
        return
    raise PredictionsError(
        found,
        expected="validation predictions to choose the weight on",
        action="Predict the validation split with both models",
    )


def _with_truth(
    ids: tuple[str, ...], having: Collection[str], name: str, truth: Truth
) -> tuple[str, ...]:
    kept = tuple(i for i in ids if i in having)
    if not kept:
        raise DataError(
            f"{truth.source} has no {name} of any of the {len(ids)} images to fit on",
            expected=f"a {name} for each of them",
        )
    return kept


def _mean_jaccards(
    a: Predictions, b: Predictions, ids: tuple[str, ...], truth: Truth
) -> NDArray[np.float64]:
    """Returns the mean Jaccard of the fused masks for every weight tried, (101,)."""
    totals = np.zeros(len(WEIGHTS))
    for image_id in ids:
        levels_a, levels_b = read_levels((a, b), image_id)
        true_mask = read_mask(truth.masks[image_id])
        if true_mask.shape != levels_a.shape:
            raise PredictionsError(
                f"{a.probabilities[image_id]} is {size_in_words(levels_a)}",
                expected=f"{size_in_words(true_mask)}, the size of {truth.masks[image_id].name}",
            )
        totals += [jaccard(c) for c in count_fused(levels_a, levels_b, true_mask)]
    return totals / len(ids)


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


def _check_folds(predicted: Sequence[Predictions]) -> tuple[Task, str]:
    """Returns the task and the split of folders that can be joined, or refuses them."""
    task, split = shared_task(predicted), _shared_split(predicted)
    first = predicted[0]
    seen: dict[str, Path] = {}
    for one in predicted:
        action = ""
        pairs = [(k, getattr(first.manifest, k), getattr(one.manifest, k)) for k in _SCALES]
        differing = [pair for pair in pairs if pair[1] != pair[2]]
        if task != "joint" and one.scores is not None and one.masks:
            found = f"{one.folder} holds scores and masks, other folders only one of them"
            expected, action = "folders of one task", "Join folders of the same preset"
        elif split != "test" and one.manifest.split not in _OUT_OF_FOLD:
            found = f"{one.folder} predicts the {one.manifest.split} split"
            expected = "out-of-fold predictions: each run's own validation split"
            action = "Predict with: dermfuse predict RUN --split validation"
        elif differing:
            key, before, now = differing[0]
            found = f"{key} is {before} in {first.folder} and {now} in {one.folder}"
            expected = f"the same {key} in all"
        elif both := sorted(images_of(one, task) & seen.keys()):
            found = f"{name_some(both)}: predicted in {seen[both[0]]} and in {one.folder}"
            expected = "each image in one folder, as with the folds of a cross-validation"
            action = "Average folders of the same images with: dermfuse average"
        else:
            seen |= dict.fromkeys(images_of(one, task), one.folder)
            continue
        raise PredictionsError(found, expected=expected, action=action)
    return task, "test" if split == "test" else "validation"


def _copy_maps(folder: Path, predicted: Sequence[Predictions]) -> None:
    for one in predicted:
        for files, place in ((one.masks, mask_path), (one.probabilities, probability_path)):
            for image_id, source in files.items():
                target = place(folder, image_id)
                with storage_faults(f"{source} cannot be copied"):
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(source, target)


def _shared_split(predicted: Sequence[Predictions]) -> str:
    """Returns the split of all folders; empty where they are of different ones."""
    splits = {one.manifest.split for one in predicted}
    return splits.pop() if len(splits) == 1 else ""


def _sources(predicted: Sequence[Predictions]) -> str:
    names = dict.fromkeys(one.manifest.source or one.folder.name for one in predicted)
    return name_some(list(names), most=5)


def _details(predicted: Sequence[Predictions], kind: str) -> dict[str, Any]:
    """Returns the details that all folders have in common, and where each prediction is from."""
    first, *others = (one.manifest.details for one in predicted)
    common = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }
    members = [
        {"folder": one.folder.name, "source": one.manifest.source, "split": one.manifest.split}
        for one in predicted
    ]
    return {**common, "ensemble": kind, "members": members}
