"""Several dataset folders as one: what they hold is joined by image id.

- An image that several folders hold counts once. Its mask and its label are of the first folder
  named that has them; the photograph is of the folder that the mask is of, so that both have one
  size, or else of the first that has it.
- The same id with another label, or with other pixels, is refused. Folders may hold one photograph
  at different sizes and qualities; thumbnails tell it from another one.
- The groups of all folders hold (see ``dermfuse.data.groups``).

What several dataset folders hold together, and where they contradict each other.

Nothing stops at the first contradiction: whoever has to repair folders wants the whole list.

The truth that predictions are evaluated against: labels and masks by image id.

Images are not needed. A folder is read as one of:

- the official layout of ISIC 2016, either split or both, as far as it is there;
- a plain folder of ``*.csv`` (lines of ``image_id,label``) and, or, masks in ``masks/``.

Suffixes count in either case.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dermfuse.data.groups import GROUPS_NAME, GroupLine, find_unknown, join_groups, read_groups
from dermfuse.data.isic2016 import (
    Lesion,
    Split,
    SplitFiles,
    collect_files,
    find_split,
    folder_entries,
    load_files,
    load_labels,
    locate_split,
    read_labels,
)
from dermfuse.data.labels import Label
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.masks import has_mask_name, image_of_mask
from dermfuse.imaging.preprocess import image_files, is_plain_file, read_image, squeeze

_T = TypeVar("_T")

DataFolders = str | Path | Sequence[str | Path]
"""A dataset folder, or several that are joined."""

SAME_PHOTOGRAPH_LEVELS = 10
"""Thumbnails that differ nowhere by more levels of 255 show the same photograph.

Of 876 photographs at two sizes and qualities they differ by 3 levels at most, and by 6 when 130 of
them are shrunk to 64 pixels or compressed at quality 30. The most alike of 2,570 different
photographs, two of one lesion, differ by 14, the next by 19.
"""

_THUMBNAIL_PX = 12
_ASPECT_TOLERANCE = 0.02
_SHOWN_IDS = 5
_OTHER: Mapping[Split, Split] = {"train": "test", "test": "train"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split of one or several folders.

    Args:
        folders: In the order they were named.
        split: Which of its two parts.
        lesions: Those whose image is there, sorted by id, each once.
        missing_images: Ids with a label or a mask and no image in any folder.
        missing_masks: Ids of this split (image or label is there) without a mask.
        missing_labels: Ids of this split (image or mask is there) without a label.
        repeated: Ids of images that several folders hold.
        odd: A sentence for each thing that does not belong.
    """

    folders: tuple[Path, ...]
    split: Split
    lesions: tuple[Lesion, ...]
    missing_images: tuple[str, ...]
    missing_masks: tuple[str, ...]
    missing_labels: tuple[str, ...]
    repeated: tuple[str, ...]
    odd: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folders in words."""
        return name_folders(self.folders)

    def second_copies(self) -> tuple[str, ...]:
        """Returns a sentence for each folder whose file is used where several hold an image."""
        used: dict[str, list[str]] = {}
        repeated = set(self.repeated)
        for lesion in self.lesions:
            if lesion.image_id in repeated:
                folder = lesion.image_path.parents[1].resolve().name
                used.setdefault(folder, []).append(lesion.image_id)
        return tuple(
            f"{len(ids)} images are in several folders (the file of {folder} is used):"
            f" {', '.join(ids[:_SHOWN_IDS])}{' ...' if len(ids) > _SHOWN_IDS else ''}"
            for folder, ids in used.items()
        )


def list_folders(data: DataFolders) -> tuple[Path, ...]:
    """Returns the folders as a tuple.

    Raises:
        DataError: There is none, or one is named twice.
    """
    folders = tuple(Path(each) for each in ([data] if isinstance(data, str | Path) else data))
    if not folders:
        raise DataError("no dataset folder is named", expected="one or more")
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise DataError(f"{folder} is named twice", expected="each dataset folder once")
    return folders


def name_folders(data: DataFolders) -> str:
    """Returns the names of the folders, in words.

    Example:
        >>> name_folders(Path("data/isic2016")), name_folders([Path("a"), Path("b"), Path("c")])
        ('isic2016', 'a, b and c')
    """
    *first, last = (folder.resolve().name for folder in list_folders(data))
    return f"{', '.join(first)} and {last}" if first else last


def has_split(data: DataFolders, split: Split) -> bool:
    """Returns whether one of the folders holds images of a split."""
    return any(locate_split(folder, split).image_folders for folder in list_folders(data))


def require_split(data: DataFolders, split: Split) -> tuple[Path, ...]:
    """Returns the folders that hold images of a split; the others hold the other one.

    Raises:
        DataError: No folder holds any, or one of several holds none of either split.
    """
    folders = list_folders(data)
    holding = tuple(folder for folder in folders if locate_split(folder, split).image_folders)
    for folder in folders:
        if not holding or not any(has_split(folder, one) for one in _OTHER):
            find_split(folder, split)  # raises, saying where it looked
    return holding


def load_dataset(data: DataFolders, split: Split) -> Dataset:
    """Returns one split's records from one folder, or joined from several.

    Args:
        data: Each holds the ``ISBI2016_ISIC_...`` folders of one split or of both.
        split: ``train`` or ``test``.

    Raises:
        DataError: No folder holds images of the split; labels or groups are damaged; a group
            names an image that no folder holds; or two folders have different labels, or
            different pixels, under one id.
        ImageError: An image that two folders hold cannot be read.
    """
    holding = require_split(data, split)
    files = [load_files(folder, split) for folder in holding]
    for error in chain(find_label_conflicts(files), find_pixel_conflicts(files)):
        raise error
    return join_files(list_folders(data), split, files)


def join_files(folders: tuple[Path, ...], split: Split, files: Sequence[SplitFiles]) -> Dataset:
    """Returns the records of files that do not contradict each other.

    Raises:
        DataError: Groups are damaged, or name an image that no folder holds.
    """
    groups = load_groups(folders, split, files)
    images = _first_of([each.images for each in files])
    masks = _first_of([each.masks for each in files])
    labels = _first_of([each.labels for each in files])
    beside_mask = {
        image_id: each.images[image_id]
        for each in reversed(files)
        for image_id in each.images.keys() & each.masks.keys()
        if masks[image_id] == each.masks[image_id]
    }
    counts = _holders(each.images for each in files)
    known = images.keys() | masks.keys() | labels.keys()
    return Dataset(
        folders=folders,
        split=split,
        lesions=tuple(
            Lesion(
                image_id,
                beside_mask.get(image_id, images[image_id]),
                masks.get(image_id),
                labels.get(image_id),
                groups.get(image_id, ""),
            )
            for image_id in sorted(images)
        ),
        missing_images=tuple(sorted(known - images.keys())),
        missing_masks=tuple(sorted(known - masks.keys())),
        missing_labels=tuple(sorted(known - labels.keys())),
        repeated=tuple(sorted(i for i, holders in counts.items() if len(holders) > 1)),
        odd=tuple(sentence for each in files for sentence in each.odd),
    )


def load_groups(
    folders: Sequence[Path], split: Split, files: Sequence[SplitFiles]
) -> dict[str, str]:
    """Returns the smallest id of each image's group, by the ``groups.csv`` of all folders.

    Args:
        folders: All of them.
        split: What ``files`` are of; a group may hold images of the other split as well.
        files: Of the folders that hold this split.

    Raises:
        DataError: A file is damaged, or names an image that no folder holds.
    """
    lines = [line for folder in folders for line in read_groups(folder)]
    known = set().union(*(each.known for each in files))
    if any(line.image_id not in known for line in lines):
        for folder in folders:
            if has_split(folder, _OTHER[split]):
                known |= load_files(folder, _OTHER[split]).known
    for error in find_unknown(lines, known):
        raise error
    return join_groups(lines)


def find_label_conflicts(files: Sequence[SplitFiles]) -> Iterator[DataError]:
    """Yields an error for each image that two folders label differently."""
    for image_id, holders in sorted(_holders(each.labels for each in files).items()):
        one, *others = (files[holder] for holder in holders)
        for other in others:
            labels = one.labels[image_id], other.labels[image_id]
            if labels[0] != labels[1]:
                words = [label.name.lower() for label in labels]
                yield DataError(
                    f"{image_id} is {words[0]} in {one.labels_csv} and {words[1]} in"
                    f" {other.labels_csv}",
                    expected="one label",
                    action="Correct one of the two files",
                )


def find_pixel_conflicts(files: Sequence[SplitFiles]) -> Iterator[DataError]:
    """Yields an error for each image that is another photograph, or unreadable, in a folder."""
    holders = _holders(each.images for each in files)
    pairs = [
        (image_id, files[first].images[image_id], files[other].images[image_id])
        for image_id, (first, *others) in sorted(holders.items())
        for other in others
    ]
    with ThreadPoolExecutor() as pool:  # decoders release the interpreter's lock
        for error in pool.map(_compare, pairs):
            if error:
                yield error


def same_photograph(one: Path, other: Path) -> bool:
    """Returns whether two files show the same photograph, at whichever size and quality.

    Raises:
        ImageError: One of them cannot be read.
    """
    images = read_image(one), read_image(other)
    a, b = (image.shape[1] / image.shape[0] for image in images)
    if abs(a / b - 1) > _ASPECT_TOLERANCE:
        return False
    thumbnails = [squeeze(image, _THUMBNAIL_PX).astype(np.int16) for image in images]
    return bool(np.abs(thumbnails[0] - thumbnails[1]).max() <= SAME_PHOTOGRAPH_LEVELS)


def _compare(pair: tuple[str, Path, Path]) -> DataError | None:
    """Returns what is wrong with two files of one id, or nothing."""
    image_id, one, other = pair
    try:
        if _compared(one, one.stat().st_mtime_ns, other, other.stat().st_mtime_ns):
            return None
    except ImageError as error:
        return error
    except OSError as error:  # it was there when the folder was listed
        return DataError(f"{error.filename} cannot be read ({error.strerror})")
    return DataError(
        f"{image_id} is one photograph in {one} and another in {other}",
        expected="the same photograph, at whichever size",
        action="Remove one of the two files",
    )


@lru_cache(maxsize=1 << 16)
def _compared(one: Path, changed_at: int, other: Path, other_changed_at: int) -> bool:
    """Compares two files once in a process, for a release loads its data many times."""
    return one.read_bytes() == other.read_bytes() or same_photograph(one, other)


def _first_of(mappings: Sequence[Mapping[str, _T]]) -> dict[str, _T]:
    """Returns the value of the first mapping that has a key."""
    found: dict[str, _T] = {}
    for mapping in reversed(mappings):
        found |= mapping
    return found


def _holders(of: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Returns, for each id, the numbers of the folders that have it, in their order."""
    found: dict[str, list[int]] = {}
    for number, ids in enumerate(of):
        for image_id in ids:
            found.setdefault(image_id, []).append(number)
    return found


_SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class JoinReport:
    """The training images of all folders together.

    Args:
        folders: Their names.
        images: Different ids with a photograph.
        benign: Those of them labelled benign.
        malignant: Those of them labelled malignant.
        masks: Those of them with a mask.
        repeated: Those of them that several folders hold.
        groups: Groups of two images or more, of one lesion or patient.
        grouped: Images in such a group.
        contradictions: A sentence for each thing that training refuses.
    """

    folders: tuple[str, ...]
    images: int
    benign: int
    malignant: int
    masks: int
    repeated: int
    groups: int
    grouped: int
    contradictions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return asdict(self)


def verify_join(data: DataFolders) -> JoinReport:
    """Returns what folders hold together; photographs that several hold are compared.

    Args:
        data: One folder, or several.

    Raises:
        DataError: There are no training images.
    """
    folders = list_folders(data)
    files = [_read_files(folder, "train") for folder in require_split(data, "train")]
    labels: dict[str, Label] = {}
    for each in files:
        labels = {**each.labels, **labels}
    holders = Counter(image_id for each in files for image_id in each.images)
    masked = {image_id for each in files for image_id in each.masks} & holders.keys()
    lines: list[GroupLine] = []
    contradictions = [*find_label_conflicts(files), *find_pixel_conflicts(files)]
    for folder in folders:
        try:
            lines += read_groups(folder)
        except DataError as error:
            contradictions.append(error)
    known = {
        i for f in folders for s in _SPLITS if has_split(f, s) for i in _read_files(f, s).known
    }
    contradictions += find_unknown(lines, known)
    sizes = Counter(first for i, first in join_groups(lines).items() if i in holders)
    shared = [size for size in sizes.values() if size > 1]
    return JoinReport(
        folders=tuple(folder.resolve().name for folder in folders),
        images=len(holders),
        benign=sum(labels.get(image_id) is Label.BENIGN for image_id in holders),
        malignant=sum(labels.get(image_id) is Label.MALIGNANT for image_id in holders),
        masks=len(masked),
        repeated=sum(count > 1 for count in holders.values()),
        groups=len(shared),
        grouped=sum(shared),
        contradictions=tuple(str(error) for error in contradictions),
    )


def _read_files(folder: Path, split: Split) -> SplitFiles:
    """Returns the files of a split, and the labels of the lines that state them rightly."""
    paths = find_split(folder, split)
    labels, _ = read_labels(paths.labels_csv) if paths.labels_csv else ({}, ())
    return collect_files(folder, split, paths, labels)


_OFFICIAL_NAME = re.compile(
    r"ISBI2016_ISIC_Part(?P<part>\w+?)_(?P<split>Training|Test)_(?P<kind>Data|GroundTruth)((?i:\.csv))?"
)


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels and masks by image id.

    Args:
        source: The folders they lie in, in words.
        labels: The class of each image that has one.
        masks: The mask file of each image that has one.
        known: Every image the folder knows of, with a truth or without.
        complete: The images that are evaluated all or not at all: the test split of the
            official layout, everything in a plain folder.
    """

    source: str
    labels: Mapping[str, Label]
    masks: Mapping[str, Path]
    known: frozenset[str]
    complete: frozenset[str]


def load_truth(data: DataFolders) -> Truth:
    """Returns the labels and the masks in a folder, or joined from several.

    Of an image that several folders have a mask of, that of the first one named counts.

    Raises:
        DataError: A folder is missing, holds no truth, or holds a label file that is damaged; or
            two folders label one image differently.
    """
    folders = list_folders(data)
    truths = [_load_folder(folder) for folder in folders]
    labels: dict[str, tuple[Label, str]] = {}
    masks: dict[str, Path] = {}
    for truth in truths:
        for image_id, label in truth.labels.items():
            first, where = labels.setdefault(image_id, (label, truth.source))
            if first is not label:
                raise DataError(
                    f"{image_id} is {first.name.lower()} in {where} and {label.name.lower()} in"
                    f" {truth.source}",
                    expected="one label",
                    action="Correct one of the label files",
                )
        masks = {**truth.masks, **masks}
    return Truth(
        source=" and ".join(map(str, folders)),
        labels={image_id: label for image_id, (label, _) in labels.items()},
        masks=masks,
        known=frozenset().union(*(truth.known for truth in truths)),
        complete=frozenset().union(*(truth.complete for truth in truths)),
    )


def _load_folder(folder: Path) -> Truth:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is {'not a folder' if folder.exists() else 'missing'}",
            expected="a folder of labels and masks, such as ISIC 2016",
            action="Check the folder's name",
        )
    official = [path for path in folder_entries(folder) if _OFFICIAL_NAME.fullmatch(path.name)]
    truth = _load_official(folder, official) if official else _load_plain(folder)
    if not truth.labels and not truth.masks:
        raise DataError(
            f"{folder} holds no truth",
            expected="the ground truth of ISIC 2016 under its official names, "
            "a CSV of image_id,label, or masks/",
            action="Check the folder's name",
        )
    return truth


def _load_official(folder: Path, paths: list[Path]) -> Truth:
    labels: dict[str, Label] = {}
    masks: dict[str, Path] = {}
    known: set[str] = set()
    complete: set[str] = set()
    for path in paths:
        here: set[str] = set()
        if path.suffix.lower() == ".csv":
            if "_Part3" in path.name:  # the CSVs of other parts hold no labels
                loaded = load_labels(path)
                labels.update(loaded)
                here.update(loaded)
        elif path.is_dir():
            loaded_masks = _mask_files(path, needs_suffix=True)
            masks.update(loaded_masks)
            here.update(loaded_masks)
            if path.name.endswith("_Data"):
                here.update(file.stem for file in image_files(path) if not has_mask_name(file))
        known |= here
        if "_Test_" in path.name:
            complete |= here
    return Truth(str(folder), labels, masks, known=frozenset(known), complete=frozenset(complete))


def _load_plain(folder: Path) -> Truth:
    labels: dict[str, Label] = {}
    for path in _label_files(folder):
        loaded = load_labels(path)
        repeated = sorted(labels.keys() & loaded.keys())
        if repeated:
            raise DataError(
                f"{path} labels {repeated[0]} that another CSV in {folder} labels, too",
                expected="each image in one file",
            )
        labels.update(loaded)
    masks_folder = folder / "masks"
    masks = _mask_files(masks_folder) if masks_folder.is_dir() else {}
    known = frozenset(labels.keys() | masks.keys())
    return Truth(str(folder), labels, masks, known=known, complete=known)


def _label_files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder_entries(folder)
        if path.suffix.lower() == ".csv" and path.name != GROUPS_NAME and is_plain_file(path)
    ]


def _mask_files(folder: Path, *, needs_suffix: bool = False) -> dict[str, Path]:
    """Returns the mask of each image id in a folder.

    Raises:
        DataError: The folder cannot be read, or holds two masks of one image.
    """
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if not (has_mask_name(path) or not needs_suffix):
            continue
        other = found.setdefault(image_of_mask(path), path)
        if other != path:
            raise DataError(
                f"{folder} holds {other.name} and {path.name}",
                expected="one mask for each image",
                action="Remove one of them",
            )
    return found
