"""Several dataset folders as one: what they hold is joined by image id.

- An image that several folders hold counts once. Its mask and its label are of the first folder
  named that has them; the photograph is of the folder that the mask is of, so that both have one
  size, or else of the first that has it.
- The same id with another label, or with other pixels, is refused. Folders may hold one photograph
  at different sizes and qualities; thumbnails tell it from another one.
- The groups of all folders hold (see ``dermfuse.data.groups``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from dermfuse.data.groups import find_unknown, join_groups, read_groups
from dermfuse.data.isic2016 import (
    Lesion,
    Split,
    SplitFiles,
    find_split,
    load_files,
    locate_split,
)
from dermfuse.errors import DataError, ImageError
from dermfuse.preprocess import read_image, squeeze

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
