"""A predictions folder against the truth, every metric with its bootstrap interval.

Two models on the same images: differences with intervals, and paired tests.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders, Truth, load_truth
from dermfuse.errors import ConfigError, DataError, PredictionsError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    SEGMENTATION_METRICS,
    DelongTest,
    ResampledRanking,
    delong_interval,
    delong_test,
    paired_p_value,
    per_image,
    percentile_interval,
    resample,
    resampled_brier_score,
    resampled_calibration_error,
    resampled_means,
    resampled_pooled_jaccard,
    resampled_rates,
)
from dermfuse.evaluation.matching import ScoredImages, SegmentedImages, match_masks, match_scores
from dermfuse.evaluation.reports import (
    UNDEFINED,
    ClassificationReport,
    Estimate,
    EvaluationReport,
    SegmentationReport,
    WithheldReport,
)
from dermfuse.folders import NOTICE
from dermfuse.predictions.folder import Predictions, check_same_images, read_predictions
from dermfuse.predictions.metrics import (
    SENSITIVITIES,
    accuracy,
    auc,
    average_precision,
    brier_score,
    count,
    dice,
    expected_calibration_error,
    jaccard,
    pooled_jaccard,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
)


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


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """One metric of two models.

    Args:
        a: Of model A.
        b: Of model B.
        difference: A less B, with the interval of the paired bootstrap.
        p_value: Two-sided, of "no difference", by the paired bootstrap.
    """

    a: float
    b: float
    difference: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class ClassificationComparison:
    """Two score tables of the same images.

    Args:
        image_count: How many images both were compared on.
        average_precision: By the bootstrap.
        auc: By the bootstrap.
        auc_delong: The same difference of AUC by DeLong's test; None unless each class has
            two images.
    """

    image_count: int
    average_precision: PairedDifference
    auc: PairedDifference
    auc_delong: DelongTest | None


@dataclass(frozen=True, slots=True)
class SegmentationComparison:
    """Two sets of masks of the same images.

    Args:
        image_count: How many images both were compared on.
        jaccard: Mean over the images.
        dice: Mean over the images.
    """

    image_count: int
    jaccard: PairedDifference
    dice: PairedDifference


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two predictions folders against the same truth.

    Args:
        source_a: Who predicted A, in the manifest's words, or the folder's name.
        source_b: The same of B.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
        classification: Where both have scores, and the truth has labels.
        segmentation: Where both have masks, and the truth has masks.
    """

    source_a: str
    source_b: str
    draws: int
    seed: int
    classification: ClassificationComparison | None
    segmentation: SegmentationComparison | None

    def rows(self) -> list[tuple[str, PairedDifference]]:
        """Returns (name, difference) of each metric, for tables; DeLong's test stands apart."""
        rows: list[tuple[str, PairedDifference]] = []
        if self.classification:
            rows += [
                ("average precision", self.classification.average_precision),
                ("AUC", self.classification.auc),
            ]
        if self.segmentation:
            rows += [("Jaccard", self.segmentation.jaccard), ("Dice", self.segmentation.dice)]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "a": self.source_a,
            "b": self.source_b,
            "bootstrap": {"draws": self.draws, "seed": self.seed, "level": 0.95},
            "classification": asdict(self.classification) if self.classification else None,
            "segmentation": asdict(self.segmentation) if self.segmentation else None,
            "notice": NOTICE,
        }


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
        truth: As for ``evaluate``.
        draws: Of the bootstrap; both models see the same draws.
        seed: Of the bootstrap.
        allow_partial: As for ``evaluate``; A and B must lack the same images.

    Raises:
        PredictionsError: A and B predict different images, or different tasks, or one of them
            does not fit the truth.
        DataError: The truth cannot be read or is of another kind, or a class is missing.
        ConfigError: ``draws`` is out of range.
    """
    a = Path(a)
    b = Path(b)
    check_draws(draws)
    predicted_a, predicted_b, true = read_predictions(a), read_predictions(b), load_truth(truth)
    has_scores, has_masks = _common_tasks(predicted_a, predicted_b)
    classification, segmentation = None, None
    if has_scores:
        scored_a, scored_b = (
            match_scores(p, true, allow_partial=allow_partial) for p in (predicted_a, predicted_b)
        )
        if scored_a and scored_b:
            classification = compare_scores(scored_a, scored_b, draws=draws, seed=seed)
    if has_masks:
        masks_a, masks_b = (
            match_masks(p, true, allow_partial=allow_partial) for p in (predicted_a, predicted_b)
        )
        if masks_a and masks_b:
            segmentation = compare_masks(masks_a, masks_b, draws=draws, seed=seed)
    if classification is None and segmentation is None:
        raise no_common_task(predicted_a, true)
    return ComparisonReport(
        source_a=predicted_a.manifest.source or a.name,
        source_b=predicted_b.manifest.source or b.name,
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
    points = [
        [metric(malignant, model.scores) for model in (a, b)] for metric in (average_precision, auc)
    ]

    def statistic(draw: NDArray[np.float64]) -> NDArray[np.float64]:
        rankings = [ResampledRanking(malignant, model.scores, draw) for model in (a, b)]
        precisions = [ranking.average_precision() for ranking in rankings]
        areas = [ranking.auc() for ranking in rankings]
        return np.stack([precisions[0] - precisions[1], areas[0] - areas[1]], axis=1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    has_variance = min(malignant.sum(), (~malignant).sum()) >= 2
    return ClassificationComparison(
        image_count=malignant.size,
        average_precision=_difference(points[0], drawn[:, 0]),
        auc=_difference(points[1], drawn[:, 1]),
        auc_delong=delong_test(malignant, a.scores, b.scores) if has_variance else None,
    )


def compare_masks(
    a: SegmentedImages, b: SegmentedImages, *, draws: int = DRAWS, seed: int = 0
) -> SegmentationComparison:
    """Returns how two models' masks of the same images differ."""
    of_a, of_b = (
        np.array([[jaccard(c), dice(c)] for c in model.counts]) for model in (a, b)
    )  # (N, 2) each
    # One mean of differences, as two means would leave rounding where the models agree.
    drawn = resample(
        lambda draw: resampled_means(of_a - of_b, draw),
        np.zeros(len(of_a), dtype=np.int64),
        draws=draws,
        seed=seed,
    )
    points = np.stack([of_a.mean(axis=0), of_b.mean(axis=0)], axis=1).tolist()
    return SegmentationComparison(
        image_count=len(of_a),
        jaccard=_difference(points[0], drawn[:, 0]),
        dice=_difference(points[1], drawn[:, 1]),
    )


def _difference(points: list[float], drawn: NDArray[np.float64]) -> PairedDifference:
    interval = percentile_interval(drawn)
    return PairedDifference(
        a=points[0],
        b=points[1],
        difference=Estimate(points[0] - points[1], interval.low, interval.high),
        p_value=paired_p_value(drawn),
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
