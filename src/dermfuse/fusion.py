"""Fusion of two models: a weighted mean of scores, or of probability maps.

Paper:
    Section 2: the fused score is a weighted average of the malignant probabilities of the two
    networks. The paper does not name the weight; here it is chosen on validation predictions, or
    given. Section 3: the fused map is the mean of the two probability maps.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.blending import (
    LEVELS,
    is_lesion,
    match_folders,
    read_levels,
    scores_of,
    write_mean,
)
from dermfuse.config import Task
from dermfuse.data.folders import DataFolders
from dermfuse.data.truth import Truth, load_truth
from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.masks import read_mask
from dermfuse.metrics import Counts, average_precision, jaccard
from dermfuse.predictions import (
    Manifest,
    Predictions,
    name_some,
    new_predictions,
    read_predictions,
    size_in_words,
    write_manifest,
)
from dermfuse.runs import NOTICE
from dermfuse.scores import Label

WEIGHTS: NDArray[np.float64] = np.arange(101) / 100
"""The weights of A that are tried: 0 (B alone) to 1 (A alone)."""

_FITTABLE = ("train", "validation")


@dataclass(frozen=True, slots=True)
class FitOn:
    """Predictions to choose the weight on, and their truth.

    Args:
        validation_a: The predictions of model A for images that it was not trained on.
        validation_b: The predictions of model B for the same images.
        truth: As for ``dermfuse.evaluation.evaluate``.
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
        weight: Of A; B has the rest.
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
        weight: Of A, in [0, 1]; the plain mean (0.5) if neither it nor ``fit`` is given.
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
    a = Path(a)
    b = Path(b)
    out = Path(out)
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
        _refuse_fit_of_both(task, predicted_a)
        weight, found = _fit(fit, task, predicted_a, ids)
    weight = 0.5 if weight is None else weight
    with new_predictions(out) as folder:
        write_mean(folder, task, (predicted_a, predicted_b), ids, (weight, 1.0 - weight))
        write_manifest(folder, _manifest(task, predicted_a, predicted_b, weight, found))
    return FusionReport(task=task, weight=weight, image_count=len(ids), fit=found)


def fuse_scores(
    a: NDArray[np.float64], b: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Returns ``weight * a + (1 - weight) * b``, in [0, 1] as both are.

    Example:
        >>> fuse_scores(np.array([0.2]), np.array([0.6]), 0.25)
        array([0.5])
    """
    return np.clip(weight * a + (1.0 - weight) * b, 0.0, 1.0)


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
    precisions = [average_precision(labels, fuse_scores(a, b, float(w))) for w in WEIGHTS]
    return _best_weight(np.array(precisions))


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


def _best_weight(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    best = np.flatnonzero(values == values.max())
    nearest = best[np.argmin(np.abs(best - len(WEIGHTS) // 2))]  # of two, the lower
    return float(WEIGHTS[nearest]), values


def _fit(
    fit: FitOn, task: Task, target: Predictions, target_ids: tuple[str, ...]
) -> tuple[float, Fit]:
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


def _refuse_fit_of_both(task: Task, target: Predictions) -> None:
    """Refuses one weight for two tasks: the best for scores need not be the best for masks."""
    if task == "joint":
        raise PredictionsError(
            f"{target.folder} holds scores and masks",
            expected="predictions for one task to fit a weight for",
            action="Give the weight, or take the plain mean",
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


def _manifest(
    task: Task, a: Predictions, b: Predictions, weight: float, fit: Fit | None
) -> Manifest:
    sources = [one.manifest.source or one.folder.name for one in (a, b)]
    same_split = a.manifest.split == b.manifest.split
    return Manifest(
        task=task,
        source=f"fusion of {sources[0]} and {sources[1]}",
        split=a.manifest.split if same_split else "",
        details={"weight": weight, "fit": asdict(fit) if fit else None},
    )
