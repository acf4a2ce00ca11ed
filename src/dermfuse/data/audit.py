"""What a dataset folder lacks, and which of its images show one photograph.

``verify_isic2016`` counts images, classes and masks and lists missing and odd files. Every image
and mask is decoded once. Nothing stops at the first odd file: whoever has to repair a folder wants
the whole list.

``audit`` finds duplicates within and across the splits: the same photograph twice is a leak or a
double vote. Of three kinds, the strictest that applies is reported:

    identical file      the same bytes (SHA-256 of the file)
    identical pixels    other bytes, the same decoded pixels (SHA-256 of size and pixels)
    near duplicate      the same photograph rescaled, recompressed, re-exposed, turned or mirrored

Near duplicates are searched in two steps. A 64-bit perceptual hash (signs of the lowest cosine
coefficients of a grey thumbnail) in all eight orientations proposes pairs; the correlation of
the two 64 x 64 thumbnails confirms them. A crop that changes the framing is not found.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders, has_split, list_folders, load_dataset, require_split
from dermfuse.data.isic2016 import (
    SPLITS,
    Dataset,
    Lesion,
    SplitName,
    Totals,
    find_split,
    in_threads,
    join_files,
    read_files,
)
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.masks import ONE_LEVEL, decide_mask
from dermfuse.imaging.preprocess import read_image, squeeze

NEAR_CORRELATION = 0.985
"""Thumbnails that correlate at least so well show the same photograph.

In ISIC 2016 (1,277 images, 814,726 pairs, eight orientations each) the duplicates correlate at
0.9986 or more and the next pair, two different lesions, at 0.972: the gap's middle.
"""
CANDIDATE_BITS = 16
"""Pairs whose perceptual hashes differ in more of the 64 bits are not looked at further.

The duplicates of ISIC 2016 differ in none, unrelated images in 30 on average (deviation 5).
"""
OFFICIAL_TOTALS: dict[SplitName, Totals] = {
    "train": Totals(images=900, benign=727, malignant=173, masks=900),
    "test": Totals(images=379, benign=304, malignant=75, masks=379),
}
"""The challenge's own numbers."""
TINY_FRACTION = 0.01
"""Masks that cover less of their frame are reported as odd."""
HUGE_FRACTION = 0.95
"""Masks that cover more of their frame are reported as odd."""

DuplicateKind = Literal["identical file", "identical pixels", "near duplicate"]

_THUMBNAIL_PX = 64
_FREQUENCIES = 8
_BLOCK = 512
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601 luma
_ROTATIONS = ("as it is", "rotated by 90°", "rotated by 180°", "rotated by 270°")
_ORIENTATIONS = (*_ROTATIONS, "mirrored", *(f"mirrored, then {one}" for one in _ROTATIONS[1:]))


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two files that show the same photograph.

    Args:
        kind: The strictest that applies.
        first_id: One image; the training image where the splits differ.
        first_split: Its split.
        second_id: The other image.
        second_split: Its split.
        orientation: How the second has to be turned (counter-clockwise) to show the first.
        correlation: How well the 64 x 64 grey thumbnails correlate, in [-1, 1].
        labels_agree: Whether both carry the same label; None where one has none.
    """

    kind: DuplicateKind
    first_id: str
    first_split: SplitName
    second_id: str
    second_split: SplitName
    orientation: str
    correlation: float
    labels_agree: bool | None

    @property
    def across_splits(self) -> bool:
        """Whether one of the two is a training and the other a test image."""
        return self.first_split != self.second_split


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Which images of a folder show the same photograph.

    Args:
        folders: The data set's folders.
        image_count: Images compared, of both splits.
        pairs: The duplicates, those across the splits first, then by falling correlation.
        unreadable: A sentence for each image that could not be compared.
    """

    folders: tuple[Path, ...]
    image_count: int
    pairs: tuple[DuplicatePair, ...]
    unreadable: tuple[str, ...]

    @property
    def test_duplicates(self) -> tuple[str, ...]:
        """Ids of the training images that show the same photograph as a test image."""
        return tuple(sorted({pair.first_id for pair in self.pairs if pair.across_splits}))

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return {
            "folders": [str(folder) for folder in self.folders],
            "image_count": self.image_count,
            "near_correlation": NEAR_CORRELATION,
            "candidate_bits": CANDIDATE_BITS,
            "test_duplicates": list(self.test_duplicates),
            "pairs": [{**asdict(x), "across_splits": x.across_splits} for x in self.pairs],
            "unreadable": list(self.unreadable),
        }


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
        mask_rules: How many masks were read by which rule (see ``dermfuse.imaging.masks``), the
            most frequent first.
    """

    split: SplitName
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
    absent_splits: tuple[SplitName, ...]

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
        folder: Holds the ``ISBI2016_ISIC_...`` folders.
        progress: Called with (images read, all images).

    Raises:
        DataError: The folder holds images of neither split.
    """
    folder = Path(folder)
    present = [split for split in SPLITS if has_split(folder, split)]
    if not present:
        find_split(folder, "train")  # raises, saying where it looked
    files = [read_files(folder, split) for split in present]
    parts = [
        join_files((folder,), split, [each], {}) for split, each in zip(present, files, strict=True)
    ]
    lesions = [lesion for part in parts for lesion in part.lesions]
    found = in_threads(_inspect, lesions, progress=progress)
    return VerificationReport(
        folder=folder,
        splits=tuple(
            _report(part, each.errors, list(islice(found, len(part.lesions))))
            for part, each in zip(parts, files, strict=True)
        ),
        absent_splits=tuple(split for split in SPLITS if split not in present),
    )


def audit(data: DataFolders, *, progress: Callable[[int, int], None] | None = None) -> AuditReport:
    """Returns the exact and near duplicates of a data set, within and across its splits.

    Args:
        data: A folder, or several that are joined; one split is enough.
        progress: Called with (images read, all images).

    Raises:
        DataError: A folder holds images of neither split, or folders contradict each other.
    """
    splits = [split for split in SPLITS if has_split(data, split)]
    if not splits:
        require_split(data, "train")  # raises, saying where it looked
    lesions = [(split, les) for split in splits for les in load_dataset(data, split).lesions]
    found = list(in_threads(_fingerprint, lesions, progress=progress))
    prints = [one for one in found if isinstance(one, _Print)]
    return AuditReport(
        folders=list_folders(data),
        image_count=len(prints),
        pairs=_pairs(prints),
        unreadable=tuple(one for one in found if isinstance(one, str)),
    )


def perceptual_hash(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns 64 bits per thumbnail that rescaling and re-exposure hardly change.

    The bits say which of the 8 x 8 lowest cosine coefficients lie above their median; the
    constant one says only how bright the image is, and is left at -1.

    Args:
        thumbnails: Grey, (N, 64, 64).

    Returns:
        1 and -1, (N, 64).
    """
    frequency, position = np.arange(_FREQUENCIES), np.arange(_THUMBNAIL_PX)
    basis = np.cos(np.pi / _THUMBNAIL_PX * (position + 0.5) * frequency[:, None])  # (8, 64)
    coefficients = basis @ thumbnails.astype(np.float64) @ basis.T  # (N, 8, 8)
    flat = coefficients.reshape(len(thumbnails), -1)  # (N, 64)
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    return np.where(bits, np.float32(1), np.float32(-1))


def _report(
    data: Dataset, label_errors: Sequence[DataError], found: Sequence[tuple[list[OddFile], str]]
) -> SplitReport:
    odd = [one for each, _ in found for one in each]
    ids = (lesion.image_id for lesion in data.lesions)
    rules = {image_id: rule for image_id, (_, rule) in zip(ids, found, strict=True) if rule}
    counts = Counter(rules.values())
    usual = counts.most_common(1)[0][0] if counts else ""
    odd += [
        OddFile("mask rule", image_id, f"its mask is read as: {rule}; most are: {usual}.")
        for image_id, rule in rules.items()
        if rule != usual and not rule.startswith(ONE_LEVEL)  # those are odd by their area
    ]
    odd += [OddFile("labels", "", str(error)) for error in label_errors]
    odd += [OddFile("folder", "", sentence) for sentence in data.odd]
    return SplitReport(
        split=data.split,
        found=Totals.of(data.lesions),
        official=OFFICIAL_TOTALS[data.split],
        missing_images=data.missing_images,
        missing_masks=data.missing_masks,
        missing_labels=data.missing_labels,
        odd=tuple(odd),
        mask_rules=dict(counts.most_common()),
    )


def _inspect(lesion: Lesion) -> tuple[list[OddFile], str]:
    """Returns what is odd about one lesion's image and mask, and how the mask was read."""
    odd: list[OddFile] = []

    def report(kind: str, sentence: object) -> None:
        odd.append(OddFile(kind, lesion.image_id, str(sentence)))

    shape: tuple[int, ...] = ()  # (H, W)
    try:
        shape = read_image(lesion.image_path).shape[:2]
    except ImageError as error:
        report("unreadable image", error)
    if lesion.mask_path is None:
        return odd, ""
    try:
        decided = decide_mask(lesion.mask_path)
    except ImageError as error:
        report("unreadable mask", error)
        return odd, ""
    mask, name = decided.lesion, lesion.mask_path.name
    if shape and mask.shape != shape:
        sizes = [f"{width} x {height}" for height, width in (mask.shape, shape)]
        report("mask size", f"{name} is {sizes[0]} pixels; its image is {sizes[1]}.")
    if kind := _odd_area(float(mask.mean())):
        report(kind, f"{name} covers {mask.mean():.1%} of the frame.")
    return odd, decided.rule


def _odd_area(fraction: float) -> str:
    """Returns the kind of a mask whose area is odd, or nothing."""
    if fraction in (0, 1):
        return "whole-frame mask" if fraction else "empty mask"
    if fraction < TINY_FRACTION:
        return "tiny mask"
    return "huge mask" if fraction > HUGE_FRACTION else ""


@dataclass(frozen=True, slots=True, eq=False)
class _Print:
    """What is kept of one image for comparing it."""

    split: SplitName
    lesion: Lesion
    file_digest: str
    pixel_digest: str
    thumbnail: NDArray[np.float32]  # (64, 64)


def _fingerprint(item: tuple[SplitName, Lesion]) -> _Print | str:
    """Returns an image's print, or a sentence saying why there is none."""
    split, lesion = item
    try:
        data = lesion.image_path.read_bytes()
        image = read_image(data)
    except OSError as error:
        return f"{lesion.image_path}: {error.strerror or error}."
    except ImageError as error:
        return f"{lesion.image_path.name}: {error}"
    size = "x".join(map(str, image.shape)).encode()
    return _Print(
        split=split,
        lesion=lesion,
        file_digest=hashlib.sha256(data).hexdigest(),
        pixel_digest=hashlib.sha256(size + image.tobytes()).hexdigest(),
        thumbnail=squeeze(image, _THUMBNAIL_PX).astype(np.float32) @ _GREY,
    )


def _pairs(prints: list[_Print]) -> tuple[DuplicatePair, ...]:
    if not prints:
        return ()
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for pair, correlation, orientation in _near(np.stack([item.thumbnail for item in prints])):
        if correlation > best.get(pair, (-2.0, 0))[0]:
            best[pair] = (correlation, orientation)
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(prints):
        alike[item.pixel_digest].append(index)
    for group in alike.values():
        best |= dict.fromkeys(combinations(group, 2), (1.0, 0))
    pairs = [_pair(prints[i], prints[j], *found) for (i, j), found in best.items()]
    return tuple(
        sorted(pairs, key=lambda p: (not p.across_splits, -p.correlation, p.first_id, p.second_id))
    )


def _pair(first: _Print, second: _Print, correlation: float, orientation: int) -> DuplicatePair:
    kind: DuplicateKind = "near duplicate"
    if first.file_digest == second.file_digest:
        kind = "identical file"
    elif first.pixel_digest == second.pixel_digest:
        kind = "identical pixels"
    labels = (first.lesion.label, second.lesion.label)
    return DuplicatePair(
        kind=kind,
        first_id=first.lesion.image_id,
        first_split=first.split,
        second_id=second.lesion.image_id,
        second_split=second.split,
        orientation=_ORIENTATIONS[orientation],
        correlation=round(correlation, 4),
        labels_agree=None if None in labels else labels[0] == labels[1],
    )


def _near(thumbnails: NDArray[np.float32]) -> Iterator[tuple[tuple[int, int], float, int]]:
    """Yields (pair of indices, correlation, orientation) of the confirmed pairs, first < second."""
    hashes, vectors = perceptual_hash(thumbnails), _normalised(thumbnails)
    for orientation in range(len(_ORIENTATIONS)):
        turned = thumbnails[:, :, ::-1] if orientation >= 4 else thumbnails
        turned = np.rot90(turned, orientation % 4, axes=(1, 2))
        turned_hashes, turned_vectors = perceptual_hash(turned), _normalised(turned)
        for start in range(0, len(hashes), _BLOCK):  # blocks bound the memory
            equal_less_other = hashes[start : start + _BLOCK] @ turned_hashes.T  # of 64 bits
            alike = np.argwhere(equal_less_other >= _FREQUENCIES**2 - 2 * CANDIDATE_BITS)
            for row, second in alike.tolist():
                first = start + row
                correlation = float(vectors[first] @ turned_vectors[second])
                if first < second and correlation >= NEAR_CORRELATION:
                    yield (first, second), correlation, orientation


def _normalised(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors whose dot products are correlations; a flat image becomes zero.

    Shape:
        (N, 64, 64) -> (N, 4096)
    """
    flat = thumbnails.reshape(len(thumbnails), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = centred / np.maximum(norms, np.float32(1.0))
    return vectors
