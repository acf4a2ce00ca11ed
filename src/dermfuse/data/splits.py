"""Which images are trained on and which are validated on.

Both tasks share one partition of the source images, stratified by label, so that the mask and
the class of a lesion are always learnt on the same side, in whichever of its photographs.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import DataConfig
from dermfuse.data.augment import Plan
from dermfuse.data.groups import join_pairs
from dermfuse.data.isic2016 import TRAIN_DUPLICATES, Lesion
from dermfuse.errors import DataError, RunError
from dermfuse.records import MOST_RECORD_BYTES, read_plain
from dermfuse.records.folders import write_text


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

    With ``split = "all"`` every image is trained on, and none validated on. With ``outer_folds``
    the images of the outer fold are on neither side.

    Images of one lesion or patient, and two files that show one photograph, stay together: a
    group is malignant if one of its images is. Groups are ordered by size and by a lot of their
    own, drawn from the seed and the smallest id in them, and each goes to the fold that has the
    fewest images of its class so far, so that the folds validate every image once.

    Args:
        lesions: The images; those without a label are a stratum of their own.
        config: Fraction, folds and fold.
        seed: The run's seed.

    Raises:
        DataError: If either side would be empty, the validation side of ``all`` aside.
    """
    if not config.validates:
        if not lesions:
            raise DataError("there is no image to train on", expected="one or more")
        return Split(tuple(lesion.image_id for lesion in lesions), ())
    strata: dict[str, list[list[str]]] = {}
    for group in _groups(lesions, seed=seed):
        ids = [lesion.image_id for lesion in group]
        strata.setdefault(_stratum(group), []).append(ids)
    away: set[str] = set()
    if config.outer_folds:
        away = _fold(strata, folds=config.outer_folds, fold=config.outer_fold)
        strata = {
            name: [ids for ids in groups if away.isdisjoint(ids)] for name, groups in strata.items()
        }
    if config.folds:
        chosen = _fold(strata, folds=config.folds, fold=config.fold)
    else:
        chosen = _hold_out(strata, config)
    train = tuple(x.image_id for x in lesions if x.image_id not in chosen | away)
    if not train or not chosen:
        raise DataError(
            f"{len(lesions)} images leave {len(train)} to train on and {len(chosen)} to"
            " validate on",
            expected="at least one of each",
            action="Use more images or "
            + ("fewer folds" if config.folds else "another data.validation_fraction"),
        )
    return Split(train, tuple(sorted(chosen)))


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
        seed: The run's seed.
    """
    if config.split == "paper":
        rows = np.random.default_rng(seed).permutation(len(plan)).astype(np.int64)
        count = round(len(rows) * config.validation_fraction)
        return np.sort(rows[count:]), np.sort(rows[:count])
    if not config.validates:
        return np.arange(len(plan), dtype=np.int64), np.empty(0, np.int64)
    held_out = np.isin(np.asarray(image_ids), np.asarray(split.validation))[plan.source]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out & plan.original)


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
        text = read_plain(path, most_bytes=MOST_RECORD_BYTES).decode("utf-8")
        header, *lines = text.splitlines()
        rows = [tuple(line.split(",")) for line in lines]
        parts = {part: tuple(i for i, p in rows if p == part) for part in ("train", "validation")}
    except ValueError as error:
        raise RunError(f"{path} cannot be read ({error})", expected="image_id,part") from error
    if len({image_id for image_id, _ in rows}) != len(rows):
        raise RunError(f"{path} names an image twice", expected="each image once")
    if header != "image_id,part" or len(rows) != sum(map(len, parts.values())):
        raise RunError(f"{path} is no split", expected="rows image_id,train or image_id,validation")
    return Split(**parts)


def _groups(lesions: Sequence[Lesion], *, seed: int) -> list[list[Lesion]]:
    """Returns the images that stay together, in the order of their groups' lots."""
    mates = [(lesion.lesion_group or lesion.image_id, lesion.image_id) for lesion in lesions]
    smallest = join_pairs([*mates, *TRAIN_DUPLICATES])
    groups: dict[str, list[Lesion]] = {}
    for lesion in lesions:
        groups.setdefault(smallest[lesion.image_id], []).append(lesion)
    return [groups[of] for of in sorted(groups, key=lambda of: _lot(seed, of))]


def _stratum(group: Sequence[Lesion]) -> str:
    labels = [lesion.label for lesion in group if lesion.label is not None]
    return str(max(labels)) if labels else "unknown"


def _fold(strata: Mapping[str, Sequence[Sequence[str]]], *, folds: int, fold: int) -> set[str]:
    """Returns the ids of one fold: the next group goes to the fold with the fewest images."""
    chosen: set[str] = set()
    for groups in strata.values():
        counts = [0] * folds
        for ids in sorted(groups, key=len, reverse=True):
            smallest = counts.index(min(counts))
            counts[smallest] += len(ids)
            if smallest == fold:
                chosen.update(ids)
    return chosen


def _hold_out(strata: Mapping[str, Sequence[Sequence[str]]], config: DataConfig) -> set[str]:
    """Returns the ids of the first groups, as many as make up the fraction of each class."""
    chosen: set[str] = set()
    for groups in strata.values():
        room = round(sum(map(len, groups)) * config.validation_fraction)
        for ids in groups:
            if len(ids) <= room:
                chosen.update(ids)
                room -= len(ids)
    return chosen


def _lot(seed: int, image_id: str) -> float:
    return float(np.random.default_rng([seed, zlib.crc32(f"split:{image_id}".encode())]).random())
