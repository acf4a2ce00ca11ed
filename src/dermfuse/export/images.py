"""The images an export needs: some to calibrate on, others to measure on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dermfuse.config import has_masks, has_scores
from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.loaders import load_cache
from dermfuse.export.execution import run_onnx
from dermfuse.masks import read_mask
from dermfuse.metrics import auc, average_precision, count, jaccard
from dermfuse.preprocess import resize_probability
from dermfuse.training.prediction import MASK_THRESHOLD, TrainedNetwork, split_lesions

CALIBRATION_IMAGES = 64
"""Four times as many moved no metric that was measured by more than it differs between seeds."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The validation images of a run, with the truth about them.

    Attributes:
        images: As the network sees them, (N, S, S, 3).
        malignant: (N,), or None where the network does not answer classes.
        masks: Files, at the images' own sizes; none where it does not answer masks.
    """

    images: NDArray[np.uint8]
    malignant: NDArray[np.bool_] | None
    masks: Sequence[Path]


def load_calibration(
    trained: TrainedNetwork,
    data: DataFolders,
    *,
    count: int = CALIBRATION_IMAGES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Returns some of a run's training images as the network sees them, (N, S, S, 3).

    Args:
        trained: Its run says which images it was trained on.
        data: The dataset folder, or several.
        count: How many at most.
        seed: Of the choice.
        progress: Called with (done, all).

    Raises:
        DermfuseError: The run has no split, or the folder lacks its images.
    """
    lesions = split_lesions(trained, data, "train")
    order = np.random.default_rng(seed).permutation(len(lesions))[:count]
    return load_squares(trained, [lesions[i] for i in sorted(order)], progress)


def load_held_out(
    trained: TrainedNetwork,
    data: DataFolders,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> HeldOut | None:
    """Returns the validation images of a run; None where it has none of which it saw no copy.

    Raises:
        DermfuseError: The run has no split, or the folder lacks its images.
    """
    if trained.config.data.split != "source":  # copies of all images, or all, were trained on
        return None
    task = trained.config.model.task
    lesions = split_lesions(trained, data, "validation")
    malignant = np.array([bool(lesion.label) for lesion in lesions]) if has_scores(task) else None
    masks = [lesion.mask_path for lesion in lesions if lesion.mask_path] if has_masks(task) else []
    return HeldOut(load_squares(trained, lesions, progress), malignant, masks)


def measure(session: onnxruntime.InferenceSession, held_out: HeldOut) -> Mapping[str, float]:
    """Returns ``auc`` and ``average_precision``, ``jaccard``, or all of them.

    The Jaccard index is the mean over the images, at their own sizes. Where only one class is
    there, neither of the first two is defined, and neither is returned.
    """
    answers = run_onnx(session, held_out.images)
    metrics = {}
    malignant = held_out.malignant
    if malignant is not None and malignant.any() and not malignant.all():
        metrics["auc"] = auc(malignant, answers["malignant"])
        metrics["average_precision"] = average_precision(malignant, answers["malignant"])
    if held_out.masks:
        overlaps = [
            _jaccard(lesion, read_mask(path))
            for lesion, path in zip(answers["lesion"], held_out.masks, strict=True)
        ]
        metrics["jaccard"] = float(np.mean(overlaps))
    return metrics


def _jaccard(lesion: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    return jaccard(count(resize_probability(lesion, *mask.shape) >= MASK_THRESHOLD, mask))


def load_squares(
    trained: TrainedNetwork,
    lesions: Sequence[Lesion],
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Returns images as a network sees them, (N, S, S, 3).

    Args:
        trained: Its run says how large it sees them.
        lesions: The images.
        progress: Called with (done, all).

    Raises:
        ImageError: An image cannot be read.
    """
    cache = load_cache(lesions, trained.config.data.input_size, progress=progress)
    return np.ascontiguousarray(cache.images.permute(0, 2, 3, 1).numpy())
