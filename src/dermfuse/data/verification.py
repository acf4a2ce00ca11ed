"""What a folder of ISIC 2016 holds, beside what it should: counts, classes, missing, odd files.

Every image and mask is decoded once. Nothing stops at the first odd file: whoever has to
repair a folder wants the whole list.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.isic2016 import (
    Isic2016,
    Lesion,
    Split,
    collect_split,
    find_split,
    locate_split,
    read_labels,
)
from dermfuse.errors import DataError, ImageError
from dermfuse.masks import ONE_LEVEL, decide_mask
from dermfuse.preprocess import read_image
from dermfuse.scores import Label

TINY_FRACTION = 0.01
"""Masks that cover less of their frame are told as odd."""
HUGE_FRACTION = 0.95
"""Masks that cover more of their frame are told as odd."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How many of each a split has.

    Args:
        images: Photographs.
        benign: Labels benign.
        malignant: Labels malignant.
        masks: Lesion masks.
    """

    images: int
    benign: int
    malignant: int
    masks: int


OFFICIAL_TOTALS: dict[Split, Totals] = {
    "train": Totals(images=900, benign=727, malignant=173, masks=900),
    "test": Totals(images=379, benign=304, malignant=75, masks=379),
}
"""The challenge's own numbers."""


@dataclass(frozen=True, slots=True)
class OddFile:
    """One thing that does not belong or cannot be used as it is.

    Args:
        kind: ``unreadable image``, ``unreadable mask``, ``mask size``, ``empty mask``,
            ``whole-frame mask``, ``tiny mask``, ``huge mask``, ``mask rule`` (read by another rule
            than most masks are), ``labels`` or ``folder``.
        image_id: Whose file it is; empty where it belongs to no image.
        sentence: What is odd about it.
    """

    kind: str
    image_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What one split holds.

    Args:
        split: ``train`` or ``test``.
        found: The totals on disk.
        official: The challenge's totals.
        missing_images: Ids known from labels or masks that have no image.
        missing_masks: Ids that have no mask.
        missing_labels: Ids that have no label.
        odd: Everything odd, images first.
        mask_rules: How many masks were read by which rule (see ``dermfuse.masks``), the most
            frequent first.
    """

    split: Split
    found: Totals
    official: Totals
    missing_images: tuple[str, ...]
    missing_masks: tuple[str, ...]
    missing_labels: tuple[str, ...]
    odd: tuple[OddFile, ...]
    mask_rules: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether the split holds exactly what the challenge published."""
        return self.found == self.official and not (
            self.missing_images or self.missing_masks or self.missing_labels
        )


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What a folder holds.

    Args:
        folder: The data set's folder.
        splits: The splits that are there, train first.
        absent_splits: Those that are not.
    """

    folder: Path
    splits: tuple[SplitReport, ...]
    absent_splits: tuple[Split, ...]

    @property
    def complete(self) -> bool:
        """Whether both splits hold exactly what the challenge published."""
        return not self.absent_splits and all(report.complete for report in self.splits)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return {
            "folder": str(self.folder),
            "complete": self.complete,
            "absent_splits": list(self.absent_splits),
            "splits": [{**asdict(report), "complete": report.complete} for report in self.splits],
        }


def verify_isic2016(
    folder: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> VerificationReport:
    """Returns what a folder in the official layout holds, after reading every file in it.

    Args:
        folder: As ``load_isic2016``.
        progress: Called with (images read, all images).

    Raises:
        DataError: The folder holds images of neither split.
    """
    folder = Path(folder)
    present = [split for split in OFFICIAL_TOTALS if locate_split(folder, split).image_folders]
    if not present:
        find_split(folder, "train")  # raises, saying where it looked
    collected = [_collect(folder, split) for split in present]
    lesion_count = sum(len(data.lesions) for data, _ in collected)
    read = 0

    def advance() -> None:
        nonlocal read
        read += 1
        if progress:
            progress(read, lesion_count)

    return VerificationReport(
        folder=folder,
        splits=tuple(_report(data, errors, advance) for data, errors in collected),
        absent_splits=tuple(split for split in OFFICIAL_TOTALS if split not in present),
    )


def _collect(folder: Path, split: Split) -> tuple[Isic2016, tuple[DataError, ...]]:
    paths = find_split(folder, split)
    labels, errors = read_labels(paths.labels_csv) if paths.labels_csv else ({}, ())
    return collect_split(folder, split, paths, labels), errors


def _report(
    data: Isic2016, label_errors: Iterable[DataError], advance: Callable[[], None]
) -> SplitReport:
    odd: list[OddFile] = []
    rules: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:  # decoders release the interpreter's lock
        for lesion, (found, rule) in zip(
            data.lesions, pool.map(_inspect, data.lesions), strict=True
        ):
            odd += found
            if rule:
                rules[lesion.image_id] = rule
            advance()
    counts = Counter(rules.values())
    odd += _other_rules(rules, counts)
    odd += [OddFile("labels", "", str(error)) for error in label_errors]
    odd += [OddFile("folder", "", sentence) for sentence in data.odd]
    return SplitReport(
        split=data.split,
        found=_totals(data),
        official=OFFICIAL_TOTALS[data.split],
        missing_images=data.missing_images,
        missing_masks=data.missing_masks,
        missing_labels=data.missing_labels,
        odd=tuple(odd),
        mask_rules=dict(counts.most_common()),
    )


def _other_rules(rules: Mapping[str, str], counts: Counter[str]) -> Iterator[OddFile]:
    """Yields the masks that were read by another rule than most of the folder."""
    usual = counts.most_common(1)[0][0] if counts else ""
    for image_id, rule in rules.items():
        if rule != usual and not rule.startswith(ONE_LEVEL):  # those are odd by their area
            sentence = f"its mask is read as: {rule}; most are: {usual}."
            yield OddFile("mask rule", image_id, sentence)


def _totals(data: Isic2016) -> Totals:
    labels = [lesion.label for lesion in data.lesions]
    return Totals(
        images=len(data.lesions),
        benign=labels.count(Label.BENIGN),
        malignant=labels.count(Label.MALIGNANT),
        masks=sum(lesion.mask_path is not None for lesion in data.lesions),
    )


def _inspect(lesion: Lesion) -> tuple[list[OddFile], str]:
    """Returns what is odd about one lesion's image and mask, and how the mask was read."""
    odd: list[OddFile] = []
    shape: tuple[int, int] | None = None  # (H, W)
    try:
        height, width, _ = read_image(lesion.image_path).shape
        shape = (height, width)
    except ImageError as error:
        odd.append(OddFile("unreadable image", lesion.image_id, str(error)))
    if lesion.mask_path is None:
        return odd, ""
    try:
        decided = decide_mask(lesion.mask_path)
    except ImageError as error:
        return [*odd, OddFile("unreadable mask", lesion.image_id, str(error))], ""
    mask = decided.lesion
    name = lesion.mask_path.name
    if shape is not None and mask.shape != shape:
        sentence = (
            f"{name} is {mask.shape[1]} x {mask.shape[0]} pixels; "
            f"its image is {shape[1]} x {shape[0]}."
        )
        odd.append(OddFile("mask size", lesion.image_id, sentence))
    kind = _odd_area(mask)
    if kind:
        sentence = f"{name} covers {mask.mean():.1%} of the frame."
        odd.append(OddFile(kind, lesion.image_id, sentence))
    return odd, decided.rule


def _odd_area(mask: NDArray[np.bool_]) -> str:
    """Returns the kind of a mask whose area is odd, or nothing."""
    if not mask.any():
        return "empty mask"
    if mask.all():
        return "whole-frame mask"
    fraction = mask.mean()
    if fraction < TINY_FRACTION:
        return "tiny mask"
    return "huge mask" if fraction > HUGE_FRACTION else ""
