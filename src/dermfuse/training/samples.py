"""From a dataset folder and a configuration to everything a training looks at."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from dermfuse.config import Config, Task, has_masks, has_scores
from dermfuse.data.augment import Plan, classification_plan, hold_out, segmentation_plan
from dermfuse.data.folders import DataFolders, has_split, load_dataset
from dermfuse.data.groups import LeaveOut, read_leave_out
from dermfuse.data.isic2016 import TEST_DUPLICATES, Dataset, Label, Lesion, name_some
from dermfuse.data.loaders import Fit, SampleSource, fit_probability, load_cache
from dermfuse.data.splits import Split, split_by_source, split_rows
from dermfuse.errors import DataError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Predictions of the teachers for each image, means over those that held it back.

    Attributes:
        scores: Malignant probability by image id; None where only masks are learnt.
        maps: Files of lesion probability maps by image id; none where only classes are learnt.
    """

    scores: Mapping[str, float] | None
    maps: Mapping[str, Sequence[Path]]

    def scores_of(self, image_ids: Sequence[str]) -> NDArray[np.float32] | None:
        """Returns the scores of images, (N,); 0 for one that is not taught."""
        if self.scores is None:
            return None
        return np.array([self.scores.get(image_id, 0.0) for image_id in image_ids], np.float32)

    def maps_of(
        self, image_ids: Sequence[str], size: int, fit: Fit = "squeeze"
    ) -> NDArray[np.uint8] | None:
        """Returns the maps of images fitted to squares, (N, 1, S, S) of 0 to 255."""
        if not self.maps:
            return None
        squares = np.zeros((len(image_ids), 1, size, size), np.uint8)
        for square, image_id in zip(squares, image_ids, strict=True):
            paths = self.maps.get(image_id, ())
            if paths:
                found = [fit_probability(read_probability(path), size, fit) for path in paths]
                square[0] = np.rint(255 * np.clip(np.mean(found, axis=0), 0, 1))
        return squares


@dataclass(frozen=True, slots=True)
class Samples:
    """What a training looks at.

    Attributes:
        source: The decoded images and the plan over them.
        labels: Label of every plan row, (n,) int64; zeros where only masks are learnt.
        train_rows: Plan rows that are trained on.
        validation_rows: Plan rows that are validated on.
        own_masks: For every source image that is validated on, its mask at its own size.
        original: Which plan rows are the source image itself, (n,) bool.
        redraw: Returns the plan of an epoch, from 0; None where one plan serves all epochs.
        taught: Teachers' score of every plan row; None without teachers.
    """

    source: SampleSource
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    own_masks: dict[int, NDArray[np.bool_]]
    original: NDArray[np.bool_]
    redraw: Callable[[int], Plan] | None = None
    taught: NDArray[np.float32] | None = None

    @property
    def shown(self) -> SampleSource:
        """The source of the rows that are validated on, most of them as they are."""
        return self.source.narrowed(self.validation_rows)

    def at_epoch(self, epoch: int) -> Self:
        """Returns the samples as ``epoch`` sees them; only draws of every epoch tell them apart."""
        if self.redraw is None:
            return self
        return replace(self, source=self.source.redrawn(self.redraw(epoch)))

    def to(self, device: torch.device) -> Self:
        """Returns the samples with the decoded images and the plan on ``device``."""
        return replace(self, source=self.source.to(device))

    def in_place_of(self, other: Self) -> Self:
        """Returns these samples with their plan in the memory of another's."""
        return replace(self, source=self.source.in_place_of(other.source))

    def truth(self, row: int) -> NDArray[np.bool_]:
        """Returns the mask a row is measured against.

        That is the mask at its own size for an image as it is, as the challenge's rule demands;
        for an augmented row (``split = "paper"`` only) the mask moved with it, at input size.
        """
        index = int(self.source.plan.source[row])
        if self.original[row]:
            return self.own_masks[index]
        device = self.source.planes.device
        moved = self.source.masks(torch.tensor([row], device=device))[0, 0]
        return np.asarray(moved.cpu().numpy() >= 0.5)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The images that a configuration trains and validates on.

    Attributes:
        lesions: Those that can be used, in the order of the plan.
        split: The partition of them by source image.
        left_out: Sentences about what was left out, and why.
        fingerprint: SHA-256 over ids, labels, groups, file sizes and what a list leaves out:
            another set has another one.
        held_out: The images on the validation side of the split, usable or not: all images of
            every lesion that is validated on.
        leave_out: The list of what may not be used, where one was given.
    """

    lesions: tuple[Lesion, ...]
    split: Split
    left_out: tuple[str, ...]
    fingerprint: str
    held_out: tuple[str, ...] = ()
    leave_out: LeaveOut | None = None


def select_lesions(
    data: DataFolders, config: Config, *, leave_out: Path | None = None
) -> TrainingSet:
    """Returns the usable training images of a data set, and how they are split.

    The split is that of all images, with a mask and a label or without, so that both tasks share
    one partition and a list of what is left out moves no image to another side.

    Args:
        data: The dataset folder, or several.
        config: Says which images, and how they are split.
        leave_out: A list of what may not be used; see ``dermfuse.data.groups``.

    Raises:
        DataError: If there is nothing to train on, or the data or the list cannot be used.
    """
    dataset = load_dataset(data, "train")
    known = {*dataset.missing_images, *(lesion.image_id for lesion in dataset.lesions)}
    listed = read_leave_out(leave_out, known=known) if leave_out else None
    task = config.model.task
    excluded = _test_duplicates(data, dataset.lesions, config)
    lesions = [lesion for lesion in dataset.lesions if lesion.image_id not in excluded]
    whole = split_by_source(lesions, config.data, seed=config.train.seed)
    allowed = listed.apply(lesions) if listed else lesions
    sides = {*whole.train, *whole.validation}
    usable = tuple(x for x in allowed if x.image_id in sides and _usable(x, task))
    ids = {lesion.image_id for lesion in usable}
    train, validation = (
        tuple(image_id for image_id in side if image_id in ids)
        for side in (whole.train, whole.validation)
    )
    split = Split(train, validation)
    validated = bool(split.validation) or not config.data.validates
    if not split.train or not validated:
        lacking = {"classification": "a label", "segmentation": "a mask"}.get(task, "both")
        raise DataError(
            f"{dataset.name} has {len(usable)} training images with {lacking}",
            expected="some to train on and, unless data.split is all, some to validate on",
            action="Check the folder with: dermfuse data verify",
        )
    left_out = _left_out(dataset, task, sorted(excluded)) + dataset.second_copies()
    left_out += listed.sentences() if listed else ()
    fingerprint = _fingerprint(usable, listed)
    return TrainingSet(usable, split, left_out, fingerprint, whole.validation, listed)


def require_classes(chosen: TrainingSet, config: Config, *, run: str = "") -> None:
    """Refuses a split whose sides do not hold images of both classes, where classes are learnt.

    Args:
        chosen: The images.
        config: What is learnt from them.
        run: Whose split it is, for the message, where there are several.

    Raises:
        DataError: A side has no malignant, or no benign image.
    """
    if not has_scores(config.model.task):
        return
    labels = {lesion.image_id: int(lesion.label or 0) for lesion in chosen.lesions}
    sides = {"trained on": chosen.split.train, "validated on": chosen.split.validation}
    if config.data.split == "paper":  # which divides rows, not images
        sides = {"used": tuple(labels)}
    for words, ids in sides.items():
        _require_both([labels[image_id] for image_id in ids], f"images that are {words}", run)


def require_classes_of_rows(samples: Samples, config: Config) -> None:
    """Refuses samples of one class on a side, as ``require_classes`` refuses images.

    Raises:
        DataError: A side has no malignant, or no benign sample.
    """
    if has_scores(config.model.task):
        _require_both(samples.labels[samples.train_rows], "samples that are trained on")
        _require_both(samples.labels[samples.validation_rows], "samples that are validated on")


def load_samples(
    chosen: TrainingSet,
    config: Config,
    *,
    lessons: Lessons | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Returns the decoded images with their plan; see ``load_cache`` for the errors.

    Args:
        chosen: The images.
        config: Says how large they are, and how they are augmented.
        lessons: The teachers' predictions, if there are teachers.
        progress: Called with (done, all).
    """
    lesions, seed = chosen.lesions, config.train.seed
    image_ids = [lesion.image_id for lesion in lesions]
    masks = has_masks(config.model.task)
    held_out = np.isin(image_ids, chosen.split.validation)
    plan = _plan(lesions, config, held_out, epoch=0)
    train_rows, validation_rows = split_rows(plan, image_ids, config.data, chosen.split, seed=seed)
    labels = np.array([int(lesion.label or 0) for lesion in lesions], np.int64)[plan.source]
    size, fit = config.data.input_size, config.data.fit
    cache = load_cache(lesions, size, masks=masks, fit=fit, progress=progress)
    measured = validation_rows[plan.original[validation_rows] & masks]
    own_masks = {
        index: read_mask(path)
        for index in plan.source[measured].tolist()
        if (path := lesions[index].mask_path)
    }
    taught = None
    if lessons is not None:
        scores = lessons.scores_of(image_ids)
        taught = None if scores is None else scores[plan.source]
        maps = lessons.maps_of(image_ids, size, fit)
        if maps is not None:
            cache = replace(cache, taught=torch.from_numpy(maps))
    source = SampleSource.from_plan(cache, plan)

    def redraw(epoch: int) -> Plan:
        return plan.replace_rows(train_rows, _plan(lesions, config, held_out, epoch=epoch))

    blind = config.augment.policy == "label_blind"
    fresh = redraw if config.augment.fresh or blind else None
    return Samples(
        source, labels, train_rows, validation_rows, own_masks, plan.original, fresh, taught
    )


def _require_both(labels: Sequence[int] | NDArray[np.int64], what: str, run: str = "") -> None:
    """Refuses labels of one class; none at all are fine."""
    for label in (Label.MALIGNANT, Label.BENIGN):
        if len(labels) and int(label) not in labels:
            raise DataError(
                f"{f'{run}: ' if run else ''}none of the {len(labels)} {what} is"
                f" {label.name.lower()}",
                expected="malignant and benign images to train on and to validate on",
                action="Add labelled images of both classes, or set data.validation_fraction,"
                " data.folds or train.seed to another value",
            )


def _plan(
    lesions: Sequence[Lesion], config: Config, held_out: NDArray[np.bool_], *, epoch: int
) -> Plan:
    """Returns the plan of an epoch; what is validated on is in it as it is.

    The joint network learns from the class-balanced plan: malignant images are the scarcer
    lesson, and that plan holds every image, too.
    """
    image_ids, seed = [lesion.image_id for lesion in lesions], config.train.seed
    if config.model.task == "segmentation":
        plan = segmentation_plan(image_ids, config.augment, seed=seed, epoch=epoch)
    else:
        labels = [lesion.label for lesion in lesions if lesion.label is not None]
        plan = classification_plan(image_ids, labels, config.augment, seed=seed, epoch=epoch)
    return hold_out(plan, held_out) if config.augment.policy == "label_blind" else plan


def _test_duplicates(data: DataFolders, lesions: Sequence[Lesion], config: Config) -> set[str]:
    """Returns the training images that show a lesion of the test set.

    Those that are known to, those with the id or the very file of a test image, and those in a
    group with any of these.
    """
    if not config.data.exclude_test_duplicates:
        return set()
    tested = load_dataset(data, "test").lesions if has_split(data, "test") else ()
    shown = {*TEST_DUPLICATES, *(lesion.image_id for lesion in tested)}
    shown |= _equal_files(lesions, [lesion.image_path for lesion in tested])
    groups = {x.lesion_group for x in (*lesions, *tested) if x.lesion_group and x.image_id in shown}
    return {x.image_id for x in lesions if x.image_id in shown or x.lesion_group in groups}


def _equal_files(lesions: Sequence[Lesion], tested: Sequence[Path]) -> set[str]:
    """Returns the lesions whose file is one of ``tested``, byte by byte."""
    sizes = {path.stat().st_size for path in tested}
    alike = [lesion for lesion in lesions if lesion.image_path.stat().st_size in sizes]
    digests = {_sha256(path) for path in tested} if alike else set()
    return {x.image_id for x in alike if _sha256(x.image_path) in digests}


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _usable(lesion: Lesion, task: Task) -> bool:
    lacks_mask = has_masks(task) and lesion.mask_path is None
    lacks_label = has_scores(task) and lesion.label is None
    return not (lacks_mask or lacks_label)


def _left_out(dataset: Dataset, task: Task, duplicates: Sequence[str]) -> tuple[str, ...]:
    reasons = (
        (dataset.missing_images, "no image file"),
        (dataset.missing_masks if has_masks(task) else (), "no mask"),
        (dataset.missing_labels if has_scores(task) else (), "no label"),
        (duplicates, "a lesion of the test set"),
    )
    return tuple(
        f"{len(ids)} left out ({reason}): {name_some(ids)}" for ids, reason in reasons if ids
    )


def _fingerprint(lesions: Sequence[Lesion], leave_out: LeaveOut | None) -> str:
    digest = hashlib.sha256()
    for lesion in lesions:
        size = lesion.image_path.stat().st_size
        mask = lesion.mask_path.stat().st_size if lesion.mask_path else None
        group = f",{lesion.lesion_group}" if lesion.lesion_group else ""
        digest.update(f"{lesion.image_id},{lesion.label},{size},{mask}{group}\n".encode())
    for line in leave_out.lines() if leave_out else ():
        digest.update(f"without {line}\n".encode())
    return digest.hexdigest()
