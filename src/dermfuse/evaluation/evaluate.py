"""A predictions folder against the truth, every metric with its bootstrap interval."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders
from dermfuse.data.truth import Truth, load_truth
from dermfuse.errors import ConfigError, DataError
from dermfuse.evaluation.bootstrap import DRAWS, percentile_interval, resample
from dermfuse.evaluation.delong import delong_interval
from dermfuse.evaluation.matching import (
    ScoredImages,
    SegmentedImages,
    match_masks,
    match_scores,
)
from dermfuse.evaluation.reports import (
    UNDEFINED,
    ClassificationReport,
    Estimate,
    EvaluationReport,
    SegmentationReport,
    WithheldReport,
)
from dermfuse.evaluation.resampled import (
    SEGMENTATION_METRICS,
    ResampledRanking,
    per_image,
    resampled_brier_score,
    resampled_calibration_error,
    resampled_means,
    resampled_pooled_jaccard,
    resampled_rates,
)
from dermfuse.metrics import (
    SENSITIVITIES,
    accuracy,
    auc,
    average_precision,
    brier_score,
    count,
    expected_calibration_error,
    pooled_jaccard,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
)
from dermfuse.predictions import Predictions, read_predictions


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
        draws: Of the bootstrap.
        seed: Of the bootstrap.
        threshold: A score above it is called malignant; None takes what the predictions name:
            the operating point of an analysis, else the challenge's 0.5.
        allow_partial: Evaluate what is there when images of the test split are not predicted;
            the report lists them.

    Raises:
        PredictionsError: The predictions cannot be read, or do not fit the truth.
        DataError: The truth cannot be read, or is of another kind than the predictions.
        ConfigError: ``draws`` or ``threshold`` is out of range.
    """
    predictions = Path(predictions)
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold is {threshold}", expected="a number in [0, 1]")
    check_draws(draws)
    predicted = read_predictions(predictions, allow_withheld=True)
    true = load_truth(truth)
    threshold = predicted.manifest.threshold if threshold is None else threshold
    scored = match_scores(predicted, true, allow_partial=allow_partial)
    segmented = match_masks(predicted, true, allow_partial=allow_partial)
    if scored is None and segmented is None:
        raise no_common_task(predicted, true)
    return EvaluationReport(
        source=predicted.manifest.source or predictions.name,
        split=predicted.manifest.split,
        draws=draws,
        seed=seed,
        classification=(
            evaluate_scores(scored, draws=draws, seed=seed, threshold=threshold) if scored else None
        ),
        segmentation=evaluate_masks(segmented, draws=draws, seed=seed) if segmented else None,
    )


def evaluate_scores(
    images: ScoredImages, *, draws: int = DRAWS, seed: int = 0, threshold: float = 0.5
) -> ClassificationReport:
    """Returns the classification metrics of scores beside their labels."""
    malignant, scores = images.malignant, images.scores
    predicted = scores > threshold
    has_both = bool(malignant.any() and not malignant.all())
    counts = count(predicted, malignant)
    values = [
        accuracy(counts),
        sensitivity(counts),
        specificity(counts),
        expected_calibration_error(malignant, scores),
        brier_score(malignant, scores),
    ]
    if has_both:
        values += [average_precision(malignant, scores), auc(malignant, scores)]
        values += [specificity_at_sensitivity(malignant, scores, s) for s in SENSITIVITIES]

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [
            *resampled_rates(malignant, predicted, draw),
            resampled_calibration_error(malignant, scores, draw),
            resampled_brier_score(malignant, scores, draw),
        ]
        if has_both:
            ranking = ResampledRanking(malignant, scores, draw)
            columns += [ranking.average_precision(), ranking.auc()]
            columns += [ranking.specificity_at_sensitivity(s) for s in SENSITIVITIES]
        return np.stack(columns, axis=1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    estimates = _estimates(values, drawn)
    rates, ranked = estimates[:5], estimates[5:] or [UNDEFINED] * (2 + len(SENSITIVITIES))
    return ClassificationReport(
        coverage=images.coverage,
        malignant_count=int(malignant.sum()),
        threshold=threshold,
        average_precision=ranked[0],
        auc=ranked[1],
        auc_delong=(
            delong_interval(malignant, scores)
            if min(malignant.sum(), (~malignant).sum()) >= 2
            else None
        ),
        accuracy=rates[0],
        sensitivity=rates[1],
        specificity=rates[2],
        specificity_at_sensitivity=dict(zip(SENSITIVITIES, ranked[2:], strict=True)),
        expected_calibration_error=rates[3],
        brier_score=rates[4],
        withheld=_count_withheld(images, predicted, draws=draws, seed=seed),
    )


def _count_withheld(
    images: ScoredImages, predicted: NDArray[np.bool_], *, draws: int, seed: int
) -> WithheldReport | None:
    """Returns how many were withheld, and the sensitivity over all images, those missed."""
    withheld = images.withheld
    if not withheld.size:
        return None
    malignant = np.concatenate([images.malignant, withheld])
    called = np.concatenate([predicted, np.zeros_like(withheld)])
    found = sensitivity(count(called, malignant))

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        return resampled_rates(malignant, called, draw)[1][:, None]

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    return WithheldReport(
        malignant=int(withheld.sum()),
        benign=int((~withheld).sum()),
        all_malignant=int(malignant.sum()),
        all_benign=int((~malignant).sum()),
        sensitivity=_estimates([found], drawn)[0],
    )


def evaluate_masks(
    images: SegmentedImages, *, draws: int = DRAWS, seed: int = 0
) -> SegmentationReport:
    """Returns the segmentation metrics of counted masks."""
    counts = list(images.counts)
    of_images = per_image(counts)  # (N, 6)

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        pooled = resampled_pooled_jaccard(counts, draw)
        return np.column_stack([resampled_means(of_images, draw), pooled])

    drawn = resample(statistic, np.zeros(len(counts), dtype=np.int64), draws=draws, seed=seed)
    estimates = _estimates([*of_images.mean(axis=0).tolist(), pooled_jaccard(counts)], drawn)
    named = dict(zip((*SEGMENTATION_METRICS, "pooled_jaccard"), estimates, strict=True))
    return SegmentationReport(coverage=images.coverage, images=images.counts, **named)


def check_draws(draws: int) -> None:
    """Raises ConfigError unless the bootstrap has draws to take."""
    if draws < 1:
        raise ConfigError(f"draws is {draws}", expected="1 or more")


def no_common_task(predicted: Predictions, true: Truth) -> DataError:
    """Returns the error for scores without any label, or masks without any true mask."""
    found = "labels" if true.labels else "masks"
    needed = "masks" if true.labels else "labels"
    return DataError(
        f"{true.source} holds {found}, and {predicted.folder} has nothing to hold against them",
        expected=f"a truth folder with {needed}",
        action="Name the folder that holds them",
    )


def _estimates(values: list[float], drawn: NDArray[np.float64]) -> list[Estimate]:
    """Returns each metric's value with the interval of its column of draws."""
    intervals = [percentile_interval(column) for column in drawn.T]
    return [
        Estimate(value, interval.low, interval.high)
        for value, interval in zip(values, intervals, strict=True)
    ]
