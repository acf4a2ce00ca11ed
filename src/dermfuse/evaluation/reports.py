"""What an evaluation found: records with rows for tables and ``to_dict`` for JSON.

A metric that is not defined for the images at hand (a ranking metric with one class) is None, in
JSON an estimate of nulls; NaN stands nowhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dermfuse.evaluation.bootstrap import LEVEL, SEGMENTATION_METRICS, AucEstimate
from dermfuse.evaluation.matching import Coverage
from dermfuse.predictions.metrics import Counts
from dermfuse.records import Estimate, PairedTest
from dermfuse.records.folders import NOTICE
from dermfuse.report import METRICS, MISSED

Row = tuple[str, Estimate | None]
"""A metric in words, and what it is."""

_MASK_METRICS = (*SEGMENTATION_METRICS, "pooled_jaccard")


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
        specificity_at_sensitivity: By the sensitivity asked for; None as for ``auc``.
        expected_calibration_error: Over 15 bins. Resampling adds noise to every bin, so its
            interval leans upwards.
        brier_score: Mean squared distance of score and label.
        withheld: What all of this leaves out; None where nothing was withheld.
    """

    coverage: Coverage
    malignant_count: int
    threshold: float
    average_precision: Estimate | None
    auc: Estimate | None
    auc_delong: AucEstimate | None
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    specificity_at_sensitivity: Mapping[float, Estimate | None]
    expected_calibration_error: Estimate
    brier_score: Estimate
    withheld: WithheldReport | None = None

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return len(self.coverage.evaluated)

    def rows(self) -> list[Row]:
        """Returns each metric in words, for tables."""
        withheld = self.withheld
        return [
            *_rows(self, ("average_precision", "auc", "auc_delong", "accuracy", "sensitivity")),
            *([(f"sensitivity, {MISSED}", withheld.sensitivity)] if withheld else []),
            *_rows(self, ("specificity",)),
            *(
                (f"specificity at sensitivity {target:.2f}", estimate)
                for target, estimate in self.specificity_at_sensitivity.items()
            ),
            *_rows(self, ("expected_calibration_error", "brier_score")),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "images": self.image_count,
            "malignant": self.malignant_count,
            **_coverage_to_dict(self.coverage),
            "threshold": self.threshold,
            **_to_dict(self, ("average_precision", "auc")),
            "auc_delong": asdict(self.auc_delong) if self.auc_delong else None,
            **_to_dict(self, ("accuracy", "sensitivity", "specificity")),
            "specificity_at_sensitivity": {
                f"{target:.2f}": _estimate_to_dict(estimate)
                for target, estimate in self.specificity_at_sensitivity.items()
            },
            **_to_dict(self, ("expected_calibration_error", "brier_score")),
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
        pooled_jaccard: Jaccard of all pixels of all images as one mask.
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

    def rows(self) -> list[Row]:
        """Returns each metric in words, for tables."""
        return _rows(self, _MASK_METRICS)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "images": self.image_count,
            **_coverage_to_dict(self.coverage),
            **_to_dict(self, _MASK_METRICS),
        }


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """One predictions folder against the truth.

    Args:
        source: Who predicted, in the manifest's words, or the folder's name.
        split: ``train``, ``validation`` or ``test``; empty where it is not known.
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.
        classification: Where there are scores, and labels to hold them against.
        segmentation: Where there are masks, and true ones to hold them against.
        details: What the manifest says of the training: data, epochs, machine; not in the JSON.
    """

    source: str
    split: str
    draws: int
    seed: int
    classification: ClassificationReport | None
    segmentation: SegmentationReport | None
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Returns each metric in words, for tables."""
        parts = (self.classification, self.segmentation)
        return [row for part in parts if part for row in part.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "source": self.source,
            "split": self.split,
            "bootstrap": {"draws": self.draws, "seed": self.seed, "level": LEVEL},
            "classification": self.classification.to_dict() if self.classification else None,
            "segmentation": self.segmentation.to_dict() if self.segmentation else None,
            "notice": NOTICE,
        }


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
    average_precision: PairedTest
    auc: PairedTest
    auc_delong: PairedTest | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the comparison as JSON values."""
        delong = None
        if self.auc_delong:
            of = asdict(self.auc_delong.difference)
            delong = {"difference": of.pop("value"), **of, "p_value": self.auc_delong.p_value}
        return {**asdict(self), "auc_delong": delong}


@dataclass(frozen=True, slots=True)
class SegmentationComparison:
    """Two sets of masks of the same images.

    Args:
        image_count: How many images both were compared on.
        jaccard: Mean over the images.
        dice: Mean over the images.
    """

    image_count: int
    jaccard: PairedTest
    dice: PairedTest


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two predictions folders against the same truth.

    Args:
        source_a: Who predicted A, in the manifest's words, or the folder's name.
        source_b: Who predicted B, likewise.
        draws: Number of bootstrap draws.
        seed: Seed of the bootstrap.
        classification: Where both have scores, and the truth has labels.
        segmentation: Where both have masks, and the truth has masks.
    """

    source_a: str
    source_b: str
    draws: int
    seed: int
    classification: ClassificationComparison | None
    segmentation: SegmentationComparison | None

    def rows(self) -> list[tuple[str, PairedTest]]:
        """Returns each metric in words and its test, for tables; DeLong's test stands apart."""
        scores, masks = self.classification, self.segmentation
        return [
            *(_rows(scores, ("average_precision", "auc")) if scores else []),
            *(_rows(masks, ("jaccard", "dice")) if masks else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "a": self.source_a,
            "b": self.source_b,
            "bootstrap": {"draws": self.draws, "seed": self.seed, "level": LEVEL},
            "classification": self.classification.to_dict() if self.classification else None,
            "segmentation": asdict(self.segmentation) if self.segmentation else None,
            "notice": NOTICE,
        }


def _rows(report: object, names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(METRICS[name], getattr(report, name)) for name in names]


def _to_dict(report: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: _estimate_to_dict(getattr(report, name)) for name in names}


def _estimate_to_dict(estimate: Estimate | None) -> dict[str, float | None]:
    return asdict(estimate) if estimate else dict.fromkeys(("value", "low", "high"))


def _coverage_to_dict(coverage: Coverage) -> dict[str, Any]:
    return {
        "truth_images": coverage.truth_count,
        "missing": list(coverage.missing),
        "without_truth": list(coverage.without_truth),
        "withheld_images": list(coverage.withheld),
    }
