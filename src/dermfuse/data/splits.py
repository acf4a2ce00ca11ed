"""Which images are trained on and which are validated on.

Both tasks share one partition of the source images, stratified by label, so that the mask and
the class of a lesion are always learnt on the same side.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import DataConfig
from dermfuse.data.augment import Plan
from dermfuse.data.isic2016 import TRAIN_DUPLICATES, Lesion
from dermfuse.errors import DataError, RunError
from dermfuse.runs import write_text

_FIRST_OF = {image_id: pair[0] for pair in TRAIN_DUPLICATES for image_id in pair}


@dataclass(frozen=True, slots=True)
class Split:
    """A partition of source images.

    Attributes:
        train: Ids of the images that are trained on.
        validation: Ids of the images that are validated on.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]


def split_by_source(lesions: Sequence[Lesion], config: DataConfig, *, seed: int) -> Split:
    """Returns the hold-out or cross-validation split by source image, stratified by label.

    With ``split = "all"`` every image is trained on, and none validated on.

    Images are ordered by a lot of their own, drawn from the seed and the id: an image that is
    missing moves no other one to the other side by more than the cut. Two files that show one
    photograph stay together.

    Args:
        lesions: The images; one without a label is a stratum of its own.
        config: Fraction, folds and fold.
        seed: Of the run.

    Raises:
        DataError: If either side would be empty, the validation side of ``all`` aside.
    """
    if not config.validates:
        if not lesions:
            raise DataError("there is no image to train on", expected="one or more")
        return Split(tuple(lesion.image_id for lesion in lesions), ())
    validation: set[str] = set()
    for label in sorted({lesion.label for lesion in lesions}, key=str):
        photographs: dict[str, list[str]] = {}
        for lesion in lesions:
            if lesion.label == label:
                first = _FIRST_OF.get(lesion.image_id, lesion.image_id)
                photographs.setdefault(first, []).append(lesion.image_id)
        drawn = sorted(photographs, key=lambda image_id: _lot(seed, image_id))
        if config.folds:
            chosen = drawn[config.fold :: config.folds]
        else:
            chosen = drawn[: round(len(drawn) * config.validation_fraction)]
        validation.update(image_id for first in chosen for image_id in photographs[first])
    train = tuple(lesion.image_id for lesion in lesions if lesion.image_id not in validation)
    if not train or not validation:
        raise DataError(
            f"{len(lesions)} images leave {len(train)} to train on and {len(validation)} to"
            " validate on",
            expected="at least one of each",
            action="Use more images or another data.validation_fraction",
        )
    return Split(train, tuple(sorted(validation)))


def split_rows(
    plan: Plan, image_ids: Sequence[str], config: DataConfig, split: Split, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the plan's rows to train on and to validate on.

    By source: all rows of the training images, and the unchanged validation images. As in the
    paper: the augmented rows are split 0.8 / 0.2, and copies of one lesion stand on both sides.
    All: every row is trained on.

    Args:
        plan: The plan over ``image_ids``.
        image_ids: The source images, in the plan's order.
        config: Which of the three, and the fraction.
        split: The split by source (the paper's does not look at it).
        seed: Of the run.
    """
    if config.split == "paper":
        rows = np.random.default_rng(seed).permutation(len(plan)).astype(np.int64)
        count = round(len(rows) * config.validation_fraction)
        return np.sort(rows[count:]), np.sort(rows[:count])
    if not config.validates:
        return np.arange(len(plan), dtype=np.int64), np.empty(0, np.int64)
    held_out = np.isin(np.asarray(image_ids), np.asarray(split.validation))[plan.source]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out & plan.original)


def _lot(seed: int, image_id: str) -> float:
    return float(np.random.default_rng([seed, zlib.crc32(f"split:{image_id}".encode())]).random())


def write_split(path: Path, split: Split) -> None:
    """Writes ``image_id,part``."""
    rows = [(image_id, "train") for image_id in split.train]
    rows += [(image_id, "validation") for image_id in split.validation]
    lines = [f"{image_id},{part}" for image_id, part in sorted(rows)]
    write_text(path, "\n".join(["image_id,part", *lines]) + "\n")


def read_split(path: Path) -> Split:
    """Returns the split that ``write_split`` wrote.

    Raises:
        RunError: If the file is missing or not such a table.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        rows = [tuple(line.split(",")) for line in lines]
        parts = {part: tuple(i for i, p in rows if p == part) for part in ("train", "validation")}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})", expected="image_id,part") from error
    if header != "image_id,part" or len(rows) != sum(map(len, parts.values())):
        raise RunError(f"{path} is no split", expected="rows image_id,train or image_id,validation")
    return Split(**parts)
