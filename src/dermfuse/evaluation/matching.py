"""Which predictions meet which truth, and what is refused or left out.

- A prediction of an image that the truth folder does not know is an error.
- A prediction of a known image that has no truth (a training mask that is missing, say) is left
  out, and listed.
- The test split is evaluated whole: a truth there without a prediction is an error, unless
  ``allow_partial`` is set. So is everything in a plain truth folder, whose split is unknown.
- Of the training images any number may be predicted: the validation part differs between runs.
  Predictions whose manifest names another split than ``test`` are a subset by their nature.
- What was withheld (``dermfuse.analysis``) is not missing: it is listed, and counted apart.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import Truth
from dermfuse.data.isic2016 import Label
from dermfuse.errors import DataError, PredictionsError
from dermfuse.imaging.masks import read_mask
from dermfuse.predictions.folder import Predictions, name_some, size_in_words
from dermfuse.predictions.metrics import Counts, count

_SUBSETS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which images an evaluation stands on.

    Args:
        evaluated: Predicted, and with a truth; sorted.
        missing: Should have been predicted and were not (only with ``allow_partial``).
        without_truth: Predicted, and left out as the folder knows no truth for them.
        truth_count: How many images of the truth folder have this kind of truth.
        withheld: With a truth and without a prediction, as they are unlike those learnt from.
    """

    evaluated: tuple[str, ...]
    missing: tuple[str, ...]
    without_truth: tuple[str, ...]
    truth_count: int
    withheld: tuple[str, ...] = ()

    def only(self, ids: Collection[str]) -> tuple["Coverage", NDArray[np.bool_]]:
        """Returns what it covers of some images, and which of the evaluated ones they are."""
        kept = np.array([image_id in ids for image_id in self.evaluated], np.bool_)
        return replace(self, evaluated=tuple(i for i in self.evaluated if i in ids)), kept


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImages:
    """Scores beside labels.

    Args:
        coverage: Which images, in this order.
        malignant: Their labels. (N,)
        scores: Their scores. (N,)
        withheld: Whether each image that was withheld is malignant. (W,)
    """

    coverage: Coverage
    malignant: NDArray[np.bool_]
    scores: NDArray[np.float64]
    withheld: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def only(self, ids: Collection[str]) -> "ScoredImages":
        """Returns the scores of some images alone."""
        coverage, kept = self.coverage.only(ids)
        return ScoredImages(coverage, self.malignant[kept], self.scores[kept])


@dataclass(frozen=True, slots=True)
class SegmentedImages:
    """Counts of predicted masks against true ones.

    Args:
        coverage: Which images, in this order.
        counts: Pixels of each image, at the true mask's size.
    """

    coverage: Coverage
    counts: tuple[Counts, ...]

    def only(self, ids: Collection[str]) -> "SegmentedImages":
        """Returns the counts of some images alone."""
        coverage, kept = self.coverage.only(ids)
        return SegmentedImages(
            coverage, tuple(c for c, k in zip(self.counts, kept, strict=True) if k)
        )


def match_scores(
    predictions: Predictions, truth: Truth, *, allow_partial: bool = False
) -> ScoredImages | None:
    """Returns the scores beside their labels; None where either folder has none at all.

    Raises:
        PredictionsError: An image is unknown, or one of a complete split is not predicted.
        DataError: No predicted image has a label.
    """
    scores = predictions.score_by_id()
    if not scores or not truth.labels:
        return None
    coverage = _cover(predictions, truth, scores, truth.labels, allow_partial=allow_partial)
    return ScoredImages(
        coverage,
        np.array([truth.labels[i] is Label.MALIGNANT for i in coverage.evaluated]),
        np.array([scores[i] for i in coverage.evaluated]),
        np.array([truth.labels[i] is Label.MALIGNANT for i in coverage.withheld], np.bool_),
    )


def match_masks(
    predictions: Predictions, truth: Truth, *, allow_partial: bool = False
) -> SegmentedImages | None:
    """Returns the counts of each predicted mask; None where either folder has no masks at all.

    Raises:
        PredictionsError: An image is unknown, one of a complete split is not predicted, or a
            mask has not its truth's size.
        DataError: No predicted image has a true mask.
        ImageError: A mask cannot be read.
    """
    if not predictions.masks or not truth.masks:
        return None
    coverage = _cover(
        predictions, truth, predictions.masks, truth.masks, allow_partial=allow_partial
    )
    return SegmentedImages(
        coverage,
        tuple(_count_mask(predictions.masks[i], truth.masks[i]) for i in coverage.evaluated),
    )


def _count_mask(predicted: Path, truth: Path) -> Counts:
    predicted_mask, true_mask = read_mask(predicted), read_mask(truth)
    if predicted_mask.shape != true_mask.shape:
        raise PredictionsError(
            f"{predicted} is {size_in_words(predicted_mask)}",
            expected=f"{size_in_words(true_mask)}, the size of {truth.name}",
            action="Resize the prediction to its image before writing it",
        )
    return count(predicted_mask, true_mask)


def _cover(
    predictions: Predictions,
    truth: Truth,
    predicted: Iterable[str],
    with_truth: Iterable[str],
    *,
    allow_partial: bool,
) -> Coverage:
    ids, true_ids = set(predicted), set(with_truth)
    withheld = set(predictions.manifest.withheld)
    unknown = sorted((ids | withheld) - truth.known)
    if unknown:
        raise PredictionsError(
            f"{predictions.folder} predicts {name_some(unknown)}, unknown in {truth.source}",
            expected="predictions of images that the truth folder knows",
            action="Check that both folders are of the same data set",
        )
    if not ids & true_ids:
        raise DataError(
            f"{truth.source} has no truth for any of the {len(ids)} images predicted in "
            f"{predictions.folder}",
            expected="labels for scores, masks for masks, of the same split",
            action="Add the ground truth of that split",
        )
    missing: list[str] = []
    if predictions.manifest.split not in _SUBSETS and ids & truth.complete:
        missing = sorted((true_ids & truth.complete) - ids - withheld)
    if missing and not allow_partial:
        raise PredictionsError(
            f"{predictions.folder} does not predict {name_some(missing)}",
            expected=f"all {len(true_ids & truth.complete)} images with truth",
            action="Predict them, or allow a partial evaluation",
        )
    return Coverage(
        evaluated=tuple(sorted(ids & true_ids)),
        missing=tuple(missing),
        without_truth=tuple(sorted(ids - true_ids)),
        truth_count=len(true_ids),
        withheld=tuple(sorted(withheld & true_ids)),
    )
