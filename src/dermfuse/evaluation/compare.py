"""Two models on the same images: differences with intervals, and paired tests."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders
from dermfuse.data.truth import load_truth
from dermfuse.errors import PredictionsError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    paired_p_value,
    percentile_interval,
    resample,
)
from dermfuse.evaluation.delong import DelongTest, delong_test
from dermfuse.evaluation.evaluate import check_draws, no_common_task
from dermfuse.evaluation.matching import (
    ScoredImages,
    SegmentedImages,
    match_masks,
    match_scores,
)
from dermfuse.evaluation.reports import Estimate
from dermfuse.evaluation.resampled import ResampledRanking, resampled_means
from dermfuse.metrics import auc, average_precision, dice, jaccard
from dermfuse.predictions import Predictions, check_same_images, read_predictions
from dermfuse.runs import NOTICE


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
