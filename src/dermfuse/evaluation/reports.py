"""What an evaluation found: records with rows for tables and ``to_dict`` for JSON.

A metric that is not defined for the images at hand (a ranking metric with one class) has value
None, null in JSON; NaN stands nowhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dermfuse.evaluation.bootstrap import AucEstimate
from dermfuse.evaluation.matching import Coverage
from dermfuse.folders import NOTICE
from dermfuse.predictions.metrics import Counts
from dermfuse.report.words import MISSED


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric and its 95 % interval; all three None where the metric is not defined.

    Args:
        value: On the images at hand.
        low: The interval's lower end.
        high: The interval's upper end.
    """

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Estimate(None, None, None)


@dataclass(frozen=True, slots=True)
class WithheldReport:
    """Images that were withheld, and the sensitivity that counts them.

    Args:
        malignant: How many malignant images were withheld.
        benign: How many benign ones.
        all_malignant: How many malignant images there are, scored or withheld.
        all_benign: How many benign ones.
        sensitivity: At the threshold, withheld malignant images counted as missed.
    """

    malignant: int
    benign: int
    all_malignant: int
    all_benign: int
    sensitivity: Estimate


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """Scores against labels.

    Args:
        coverage: Which images.
        malignant_count: How many of them are malignant.
        threshold: A score above it is called malignant (accuracy, sensitivity, specificity).
        average_precision: The challenge's ranking score; None unless both classes are there.
        auc: With the bootstrap's interval; None unless both classes are there.
        auc_delong: With DeLong's interval; None unless each class has two images.
        accuracy: At the threshold.
        sensitivity: At the threshold; 1 where no image is malignant.
        specificity: At the threshold; 1 where no image is benign.
        specificity_at_sensitivity: By the sensitivity asked for.
        expected_calibration_error: Over 15 bins. Resampling adds noise to every bin, so its
            interval leans upwards.
        brier_score: Mean squared distance of score and label.
        withheld: What all of this leaves out; None where nothing was withheld.
    """

    coverage: Coverage
    malignant_count: int
    threshold: float
    average_precision: Estimate
    auc: Estimate
    auc_delong: AucEstimate | None
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    specificity_at_sensitivity: Mapping[float, Estimate]
    expected_calibration_error: Estimate
    brier_score: Estimate
    withheld: WithheldReport | None = None

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return len(self.coverage.evaluated)

    def rows(self) -> list[tuple[str, Estimate]]:
        """Returns (name, estimate) of each metric, for tables."""
        delong = self.auc_delong
        rows = [
            ("average precision", self.average_precision),
            ("AUC", self.auc),
            ("AUC (DeLong)", _as_estimate(delong)),
            ("accuracy", self.accuracy),
            ("sensitivity", self.sensitivity),
        ]
        if self.withheld:
            rows.append((f"sensitivity, {MISSED}", self.withheld.sensitivity))
        rows.append(("specificity", self.specificity))
        rows += [
            (f"specificity at sensitivity {target:.2f}", estimate)
            for target, estimate in self.specificity_at_sensitivity.items()
        ]
        return [
            *rows,
            ("calibration error", self.expected_calibration_error),
            ("Brier score", self.brier_score),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "images": self.image_count,
            "malignant": self.malignant_count,
            **_coverage_to_dict(self.coverage),
            "threshold": self.threshold,
            "average_precision": asdict(self.average_precision),
            "auc": asdict(self.auc),
            "auc_delong": asdict(self.auc_delong) if self.auc_delong else None,
            "accuracy": asdict(self.accuracy),
            "sensitivity": asdict(self.sensitivity),
            "specificity": asdict(self.specificity),
            "specificity_at_sensitivity": {
                f"{target:.2f}": asdict(estimate)
                for target, estimate in self.specificity_at_sensitivity.items()
            },
            "expected_calibration_error": asdict(self.expected_calibration_error),
            "brier_score": asdict(self.brier_score),
            "withheld": asdict(self.withheld) if self.withheld else None,
        }


@dataclass(frozen=True, slots=True)
class SegmentationReport:
    """Predicted masks against true ones.

    Args:
        coverage: Which images.
        images: The counts of each, in the order of ``coverage.evaluated``; not in the JSON.
        jaccard: The challenge's ranking score: per image, then the mean, as the next four.
        dice: Dice coefficient.
        accuracy: Share of pixels.
        sensitivity: Share of the lesion's pixels.
        specificity: Share of the skin's pixels.
        thresholded_jaccard: Images below 0.65 count 0 (the challenges from 2018 on).
        pooled_jaccard: Of all pixels of all images as one mask.
    """

    coverage: Coverage
    images: tuple[Counts, ...]
    jaccard: Estimate
    dice: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    thresholded_jaccard: Estimate
    pooled_jaccard: Estimate

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return len(self.coverage.evaluated)

    def rows(self) -> list[tuple[str, Estimate]]:
        """Returns (name, estimate) of each metric, for tables."""
        return [
            ("Jaccard", self.jaccard),
            ("Dice", self.dice),
            ("accuracy", self.accuracy),
            ("sensitivity", self.sensitivity),
            ("specificity", self.specificity),
            ("Jaccard, 0 below 0.65", self.thresholded_jaccard),
            ("Jaccard, pooled pixels", self.pooled_jaccard),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "images": self.image_count,
            **_coverage_to_dict(self.coverage),
            "jaccard": asdict(self.jaccard),
            "dice": asdict(self.dice),
            "accuracy": asdict(self.accuracy),
            "sensitivity": asdict(self.sensitivity),
            "specificity": asdict(self.specificity),
            "thresholded_jaccard": asdict(self.thresholded_jaccard),
            "pooled_jaccard": asdict(self.pooled_jaccard),
        }


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """One predictions folder against the truth.

    Args:
        source: Who predicted, in the manifest's words, or the folder's name.
        split: ``train``, ``validation`` or ``test``; empty where it is not known.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
        classification: Where there are scores, and labels to hold them against.
        segmentation: Where there are masks, and true ones to hold them against.
    """

    source: str
    split: str
    draws: int
    seed: int
    classification: ClassificationReport | None
    segmentation: SegmentationReport | None

    def rows(self) -> list[tuple[str, Estimate]]:
        """Returns (name, estimate) of each metric, for tables."""
        parts = (self.classification, self.segmentation)
        return [row for part in parts if part for row in part.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "source": self.source,
            "split": self.split,
            "bootstrap": {"draws": self.draws, "seed": self.seed, "level": 0.95},
            "classification": self.classification.to_dict() if self.classification else None,
            "segmentation": self.segmentation.to_dict() if self.segmentation else None,
            "notice": NOTICE,
        }


def _coverage_to_dict(coverage: Coverage) -> dict[str, Any]:
    return {
        "truth_images": coverage.truth_count,
        "missing": list(coverage.missing),
        "without_truth": list(coverage.without_truth),
        "withheld_images": list(coverage.withheld),
    }


def _as_estimate(delong: AucEstimate | None) -> Estimate:
    return Estimate(delong.value, delong.low, delong.high) if delong else UNDEFINED
