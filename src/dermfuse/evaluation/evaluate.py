"""Predictions folders against the truth: every metric with its bootstrap interval.

One folder is evaluated; two are compared on the same images, by differences with intervals and
paired tests.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders, Truth, load_truth
from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    check_draws,
    delong_interval,
    delong_test,
    draw_calls,
    draw_masks,
    draw_ranking,
    draw_shares,
    paired_test,
)
from dermfuse.evaluation.matching import ScoredImages, SegmentedImages, match_masks, match_scores
from dermfuse.evaluation.reports import (
    ClassificationComparison,
    ClassificationReport,
    ComparisonReport,
    EvaluationReport,
    SegmentationComparison,
    SegmentationReport,
    WithheldReport,
)
from dermfuse.predictions.folder import Predictions, check_same_images, read_predictions
from dermfuse.predictions.metrics import SENSITIVITIES


def evaluate(
    predictions: str | Path,
    truth: DataFolders,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    threshold: float | None = None,
    allow_partial: bool = False,
) -> EvaluationReport:
    """Returns the challenge's metrics of a predictions folder, with bootstrap intervals.

    Args:
        predictions: Holds ``scores.csv`` or ``masks/``, or both.
        truth: ISIC 2016 in its official layout (images are not needed), or a plain folder with
            a CSV of ``image_id,label`` or with ``masks/``; or several of these, joined.
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.
        threshold: A score above it is called malignant; None takes what the predictions name:
            the operating point of an analysis, else the challenge's 0.5.
        allow_partial: Evaluate what is there when images of the test split are not predicted;
            the report lists them.

    Raises:
        PredictionsError: The predictions cannot be read, or do not fit the truth.
        DataError: The truth cannot be read, or is of another kind than the predictions.
        ConfigError: ``draws`` or ``threshold`` is out of range.
    """
    check_draws(draws)  # before folders are read, which may take minutes
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold is {threshold}", expected="a number in [0, 1]")
    predicted, true = read_predictions(predictions, allow_withheld=True), load_truth(truth)
    manifest = predicted.manifest
    threshold = manifest.threshold if threshold is None else threshold
    scored = match_scores(predicted, true, allow_partial=allow_partial)
    segmented = match_masks(predicted, true, allow_partial=allow_partial)
    if scored is None and segmented is None:
        raise _no_common_task(predicted, true)
    return EvaluationReport(
        source=manifest.source or Path(predictions).name,
        split=manifest.split,
        draws=draws,
        seed=seed,
        classification=(
            evaluate_scores(scored, draws=draws, seed=seed, threshold=threshold) if scored else None
        ),
        segmentation=evaluate_masks(segmented, draws=draws, seed=seed) if segmented else None,
        details=manifest.details,
    )


def evaluate_scores(
    images: ScoredImages, *, draws: int = DRAWS, seed: int = 0, threshold: float = 0.5
) -> ClassificationReport:
    """Returns the classification metrics of scores beside their labels."""
    malignant, scores = images.malignant, images.scores
    called = scores > threshold
    ranked = {}
    if malignant.any() and not malignant.all():
        ranked = draw_ranking(
            malignant, scores, sensitivities=SENSITIVITIES, draws=draws, seed=seed
        ).estimates()
    return ClassificationReport(
        coverage=images.coverage,
        malignant_count=int(malignant.sum()),
        threshold=threshold,
        average_precision=ranked.get("average_precision"),
        auc=ranked.get("auc"),
        auc_delong=delong_interval(malignant, scores) if _has_variance(malignant) else None,
        specificity_at_sensitivity={
            target: ranked.get(f"specificity_at_{target}") for target in SENSITIVITIES
        },
        withheld=_count_withheld(images, called, draws=draws, seed=seed),
        **draw_calls(malignant, scores, called, draws=draws, seed=seed).estimates(),
    )


def evaluate_masks(
    images: SegmentedImages, *, draws: int = DRAWS, seed: int = 0
) -> SegmentationReport:
    """Returns the segmentation metrics of counted masks."""
    found = draw_masks(images.counts, draws=draws, seed=seed).estimates()
    return SegmentationReport(coverage=images.coverage, images=images.counts, **found)


def compare(
    a: str | Path,
    b: str | Path,
    truth: DataFolders,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    allow_partial: bool = False,
) -> ComparisonReport:
    """Returns how two predictions folders differ: paired bootstrap, and DeLong's test for AUC.

    Args:
        a: The predictions of model A.
        b: The predictions of model B, of the same images.
        truth: See ``evaluate``.
        draws: Number of bootstrap draws; both models see the same ones.
        seed: Seed of the bootstrap.
        allow_partial: See ``evaluate``; A and B must lack the same images.

    Raises:
        PredictionsError: A and B predict different images, or different tasks, or one of them
            does not fit the truth.
        DataError: The truth cannot be read or is of another kind, or a class is missing.
        ConfigError: ``draws`` is out of range.
    """
    check_draws(draws)  # before folders are read, which may take minutes
    pair, true = [read_predictions(folder) for folder in (a, b)], load_truth(truth)
    has_scores, has_masks = _common_tasks(*pair)
    classification, segmentation = None, None
    if has_scores:
        scored = [match_scores(one, true, allow_partial=allow_partial) for one in pair]
        if scored[0] and scored[1]:
            classification = compare_scores(scored[0], scored[1], draws=draws, seed=seed)
    if has_masks:
        masks = [match_masks(one, true, allow_partial=allow_partial) for one in pair]
        if masks[0] and masks[1]:
            segmentation = compare_masks(masks[0], masks[1], draws=draws, seed=seed)
    if classification is None and segmentation is None:
        raise _no_common_task(pair[0], true)
    return ComparisonReport(
        source_a=pair[0].manifest.source or Path(a).name,
        source_b=pair[1].manifest.source or Path(b).name,
        draws=draws,
        seed=seed,
        classification=classification,
        segmentation=segmentation,
    )


def compare_scores(
    a: ScoredImages, b: ScoredImages, *, draws: int = DRAWS, seed: int = 0
) -> ClassificationComparison:
    """Returns how two models' scores of the same images differ.

    Raises:
        DataError: A class is missing.
    """
    malignant = a.malignant
    of_a, of_b = (draw_ranking(malignant, model.scores, draws=draws, seed=seed) for model in (a, b))
    return ClassificationComparison(
        image_count=malignant.size,
        average_precision=paired_test(of_a, of_b, "average_precision"),
        auc=paired_test(of_a, of_b, "auc"),
        auc_delong=(
            delong_test(malignant, a.scores, b.scores) if _has_variance(malignant) else None
        ),
    )


def compare_masks(
    a: SegmentedImages, b: SegmentedImages, *, draws: int = DRAWS, seed: int = 0
) -> SegmentationComparison:
    """Returns how two models' masks of the same images differ."""
    of_a, of_b = (draw_masks(model.counts, draws=draws, seed=seed) for model in (a, b))
    return SegmentationComparison(
        image_count=len(a.counts),
        jaccard=paired_test(of_a, of_b, "jaccard"),
        dice=paired_test(of_a, of_b, "dice"),
    )


def _has_variance(malignant: NDArray[np.bool_]) -> bool:
    return bool(min(malignant.sum(), (~malignant).sum()) >= 2)


def _count_withheld(
    images: ScoredImages, called: NDArray[np.bool_], *, draws: int, seed: int
) -> WithheldReport | None:
    """Returns how many were withheld, and the sensitivity over all images, those missed."""
    withheld = images.withheld
    if not withheld.size:
        return None
    malignant = np.concatenate([images.malignant, withheld])
    found = np.concatenate([called, np.zeros_like(withheld)]) & malignant
    drawn = draw_shares({"sensitivity": (found, malignant)}, malignant, draws=draws, seed=seed)
    return WithheldReport(
        malignant=int(withheld.sum()),
        benign=int((~withheld).sum()),
        all_malignant=int(malignant.sum()),
        all_benign=int((~malignant).sum()),
        sensitivity=drawn.estimates()["sensitivity"],
    )


def _no_common_task(predicted: Predictions, true: Truth) -> DataError:
    """Returns the error for scores without any label, or masks without any true mask."""
    found, needed = ("labels", "masks") if true.labels else ("masks", "labels")
    return DataError(
        f"{true.source} holds {found}, and {predicted.folder} has nothing to hold against them",
        expected=f"a truth folder with {needed}",
        action="Name the folder that holds them",
    )


def _common_tasks(a: Predictions, b: Predictions) -> tuple[bool, bool]:
    """Returns whether both have scores, and whether both have masks, of the same images."""
    scores_a, scores_b = (set(p.scores.image_ids if p.scores else ()) for p in (a, b))
    has_scores, has_masks = bool(scores_a and scores_b), bool(a.masks and b.masks)
    if not has_scores and not has_masks:
        raise PredictionsError(
            f"{a.folder} and {b.folder} have no task in common",
            expected="scores in both, or masks in both",
        )
    if has_scores:
        check_same_images(a, b, scores_a, scores_b)
    if has_masks:
        check_same_images(a, b, set(a.masks), set(b.masks))
    return has_scores, has_masks
