"""A release from runs: networks trained on all images, measured by those trained in folds."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.networks import load_network
from dermfuse.data.folders import DataFolders, name_folders
from dermfuse.errors import ExportError
from dermfuse.evaluation.bootstrap import percentile_interval, resample
from dermfuse.evaluation.calibrate import calibrate
from dermfuse.evaluation.operating import choose_points
from dermfuse.evaluation.resampled import ResampledRanking
from dermfuse.fusion import fit_score_weight
from dermfuse.metrics import auc, average_precision, count, jaccard
from dermfuse.preprocess import read_mask, resize_probability
from dermfuse.release.cards import NetworkCard, Precision
from dermfuse.release.folder import (
    ClassRelease,
    Gate,
    MaskRelease,
    Member,
    Release,
    write_release,
)
from dermfuse.runs import environment, whole_folder
from dermfuse.shipping.gate import fit_gate
from dermfuse.shipping.out_of_fold import (
    FoldAnswers,
    ask_folds,
    export_shipped,
    require_recipe,
)
from dermfuse.training.prediction import (
    MASK_THRESHOLD,
    TrainedNetwork,
    load_run,
    split_lesions,
)

DEFAULT_POINT = "sensitivity90"
"""Missing a melanoma costs more than a needless look."""

Stage = Callable[[str, int, int], None]
"""Called with (what begins, its number from 1, how many)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What shall be released.

    Args:
        runs: The networks that ship: one or two that score, one or two that outline.
        folds: Runs of the same presets, trained in folds; all that is measured comes from them.
        data: The dataset folder, or several.
        out: The release folder; new.
        name: Of the release.
        precision: Of the networks.
    """

    runs: Sequence[Path]
    folds: Sequence[Path]
    data: DataFolders
    out: Path
    name: str
    precision: Precision = "int8-weights"


def build_release(request: ReleaseRequest, *, stage: Stage | None = None) -> Release:
    """Writes a release folder and returns its record.

    Of a pair network the mean of both class heads ships: what ships validated on nothing, so there
    is no better one to choose, and none is chosen in the folds either.

    Args:
        request: What shall be released.
        stage: Called when a stage begins.

    Raises:
        ExportError: The runs are not one or two of each kind, a network has no folds, or they
            were trained in another way.
        DermfuseError: A run, the data or the folder cannot be used.
    """
    announce = stage or (lambda *_: None)
    finals = [load_run(run, mean_head=True) for run in request.runs]
    folds = [load_run(run, mean_head=True) for run in request.folds]
    groups = {final.run: _folds_of(final, folds) for final in finals}
    classes = [final for final in finals if final.config.model.task == "classification"]
    masks = [final for final in finals if final.config.model.task == "segmentation"]
    _require_one_or_two(classes, masks)
    with whole_folder(request.out, what="release") as out:
        return _build(request, groups, classes, masks, out, announce)


def _build(
    request: ReleaseRequest,
    groups: Mapping[Path, Sequence[TrainedNetwork]],
    classes: Sequence[TrainedNetwork],
    masks: Sequence[TrainedNetwork],
    out: Path,
    announce: Stage,
) -> Release:
    finals = [*classes, *masks]
    announce("exporting the networks", 1, 3)
    cards = {
        final.run: export_shipped(final, request.data, out, precision=request.precision)
        for final in finals
    }
    announce("asking the folds", 2, 3)
    with tempfile.TemporaryDirectory(prefix="dermfuse-folds-") as temporary:
        asked = {
            run: ask_folds(folds, request.data, Path(temporary), precision=request.precision)
            for run, folds in groups.items()
        }
    announce("calibrating and measuring", 3, 3)
    lesions = split_lesions(classes[0], request.data, "train")
    networks = [load_network(out / f"{cards[one.run].name}.json", threads=1) for one in classes]
    gate = fit_gate([asked[one.run] for one in classes], networks, lesions, out)
    release = Release(
        name=request.name,
        classes=_class_release([(cards[one.run], asked[one.run]) for one in classes]),
        masks=_mask_release([(cards[one.run], asked[one.run]) for one in masks]),
        gate=gate,
        facts=_facts(finals, request, gate),
    )
    write_release(out, release)
    return release


def _folds_of(final: TrainedNetwork, folds: Sequence[TrainedNetwork]) -> list[TrainedNetwork]:
    """Returns the folds of a network's recipe: those of its preset."""
    chosen = [fold for fold in folds if fold.config.name == final.config.name]
    for fold in chosen:
        require_recipe(final, fold)
    if not chosen:
        raise ExportError(
            f"{final.run} has no folds",
            expected=f"runs of {final.config.name} that held images back",
            action="Train some with: dermfuse train --set data.folds=3 --set data.fold=0",
        )
    return chosen


def _require_one_or_two(classes: Sequence[TrainedNetwork], masks: Sequence[TrainedNetwork]) -> None:
    if not (1 <= len(classes) <= 2 and 1 <= len(masks) <= 2):
        raise ExportError(
            f"{len(classes)} networks that score and {len(masks)} that outline",
            expected="one or two of each",
        )


def _class_release(
    asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]],
) -> ClassRelease:
    scores = [_by_id(folds, "malignant") for _, folds in asked]
    exact = [_by_id(folds, "malignant", exact=True) for _, folds in asked]
    labels = _labels(asked[0][1])
    ids = sorted(set.intersection(*(set(one) for one in scores)) & labels.keys())
    malignant = np.array([labels[image_id] for image_id in ids])
    columns, exact_columns = (
        [np.array([float(one[image_id]) for image_id in ids]) for one in found]
        for found in (scores, exact)
    )
    weight = 1.0
    if len(columns) == 2:
        weight, _ = fit_score_weight(malignant, columns[0], columns[1])
    weights = [weight, 1.0 - weight][: len(columns)]
    fused = np.average(columns, axis=0, weights=weights)
    calibration = calibrate(malignant, fused)
    points = choose_points(malignant, calibration.calibration(fused))
    measured: dict[str, Any] = {
        "images": len(ids),
        "malignant": int(malignant.sum()),
        "how": "out of fold; the weight of the fusion was chosen on the same images",
        "fusion": _ranking(malignant, fused),
        "fusion_in_float32": _ranking(
            malignant, np.average(exact_columns, axis=0, weights=weights)
        ),
        "networks": {
            card.name: _ranking(malignant, column)
            for (card, _), column in zip(asked, columns, strict=True)
        },
        "calibration": calibration.to_dict(),
    }
    members = tuple(
        Member(card.name, float(w)) for (card, _), w in zip(asked, weights, strict=True)
    )
    return ClassRelease(members, calibration.calibration, points, DEFAULT_POINT, measured)


def _mask_release(asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]]) -> MaskRelease:
    maps = [_by_id(folds, "lesion") for _, folds in asked]
    exact = [_by_id(folds, "lesion", exact=True) for _, folds in asked]
    paths = {
        lesion.image_id: lesion.mask_path
        for fold in asked[0][1]
        for lesion in fold.held_back
        if lesion.mask_path
    }
    ids = sorted(set.intersection(*(set(one) for one in maps)) & paths.keys())
    weight = 1.0 / len(maps)
    overlaps: list[list[float]] = []
    for image_id in ids:
        truth = read_mask(paths[image_id])
        resized, unrounded = (
            [resize_probability(one[image_id], *truth.shape) for one in of] for of in (maps, exact)
        )
        found = [np.mean(resized, axis=0), np.mean(unrounded, axis=0), *resized]
        overlaps.append([jaccard(count(one >= MASK_THRESHOLD, truth)) for one in found])
    means = [_mean(np.array(column)) for column in zip(*overlaps, strict=True)]
    measured = {
        "images": len(ids),
        "how": "out of fold; maps are averaged with equal weights",
        "fusion": {"jaccard": means[0]},
        "fusion_in_float32": {"jaccard": means[1]},
        "networks": {
            card.name: {"jaccard": mean} for (card, _), mean in zip(asked, means[2:], strict=True)
        },
    }
    members = tuple(Member(card.name, weight) for card, _ in asked)
    return MaskRelease(members, MASK_THRESHOLD, measured)


def _by_id(
    folds: Sequence[FoldAnswers], output: str, *, exact: bool = False
) -> dict[str, NDArray[np.float32]]:
    return {
        lesion.image_id: answer
        for fold in folds
        for lesion, answer in zip(
            fold.held_back, (fold.exact if exact else fold.answers)[output], strict=True
        )
    }


def _labels(folds: Sequence[FoldAnswers]) -> dict[str, bool]:
    return {
        lesion.image_id: bool(lesion.label)
        for fold in folds
        for lesion in fold.held_back
        if lesion.label is not None
    }


def _ranking(malignant: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, Any]:
    """Returns AUC and AP with 95 % intervals."""

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        ranking = ResampledRanking(malignant, scores, draw)
        return np.stack([ranking.auc(), ranking.average_precision()], axis=1)

    drawn = resample(statistic, malignant.astype(np.int64))
    values = (auc(malignant, scores), average_precision(malignant, scores))
    found = {}
    for index, (name, value) in enumerate(zip(("auc", "average_precision"), values, strict=True)):
        interval = percentile_interval(drawn[:, index])
        found[name] = {"value": value, "low": interval.low, "high": interval.high}
    return found


def _mean(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns a mean over the images with its 95 % interval."""

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(draw @ values / draw.sum(axis=1))[:, None]

    interval = percentile_interval(resample(statistic, np.zeros(values.size, dtype=np.int64))[:, 0])
    return {"value": float(values.mean()), "low": interval.low, "high": interval.high}


def _facts(
    finals: Sequence[TrainedNetwork], request: ReleaseRequest, gate: Gate
) -> Mapping[str, Any]:
    return {
        "precision": request.precision,
        "data": name_folders(request.data),
        "fold_runs": [run.resolve().name for run in request.folds],
        "recipes": {final.config.name: final.config.to_mapping() for final in finals},
        "told_apart": dict(gate.measured),
        "measured_on": environment(),
    }
