"""Several dataset folders as one: what they hold is joined by image id.

- An image that several folders hold counts once. Its mask and its label are of the first folder
  named that has them; the photograph is of the folder that the mask is of, so that both have one
  size, or else of the first that has it.
- The same id with another label, or with other pixels, is refused. Folders may hold one photograph
  at different sizes and qualities; thumbnails tell it from another one.
- The groups of all folders hold (see ``dermfuse.data.groups``).

``load_truth`` reads what predictions are evaluated against: labels and masks, without images. A
folder of truth is

- the official layout of ISIC 2016, either split or both, as far as it is there;
- or a plain folder of ``*.csv`` (lines of ``image_id,label``) and, or, masks in ``masks/``.

Suffixes count in either case.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dermfuse.data.groups import GROUPS_NAME, GroupLine, find_unknown, join_groups, read_groups
from dermfuse.data.isic2016 import (
    SPLITS,
    Dataset,
    Label,
    SplitFiles,
    SplitName,
    Totals,
    find_split,
    first_of,
    folder_entries,
    in_threads,
    in_words,
    join_files,
    load_files,
    load_labels,
    locate_split,
    read_files,
)
from dermfuse.errors import DataError, ImageError
from dermfuse.imaging.masks import has_mask_name, image_of_mask
from dermfuse.imaging.preprocess import image_files, is_plain_file, read_image, squeeze

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


def list_folders(data: DataFolders) -> tuple[Path, ...]:
    """Returns the folders as a tuple.

    Raises:
        DataError: There is none, or one is named twice.
    """
    folders = tuple(Path(each) for each in ([data] if isinstance(data, str | Path) else data))
    if not folders:
        raise DataError("no dataset folder is named", expected="one or more")
    named = Counter(folder.resolve() for folder in folders)
    for folder in folders:
        if named[folder.resolve()] > 1:
            raise DataError(f"{folder} is named twice", expected="each dataset folder once")
    return folders


def name_folders(data: DataFolders) -> str:
    """Returns the names of the folders, in words.

    Example:
        >>> name_folders(Path("data/isic2016")), name_folders([Path("a"), Path("b"), Path("c")])
        ('isic2016', 'a, b and c')
    """
    return in_words(list_folders(data))


def has_split(data: DataFolders, split: SplitName) -> bool:
    """Returns whether one of the folders holds images of a split."""
    return any(locate_split(folder, split).image_folders for folder in list_folders(data))


def require_split(data: DataFolders, split: SplitName) -> tuple[Path, ...]:
    """Returns the folders that hold images of a split; the others hold the other one.

    Raises:
        DataError: No folder holds any, or one of several holds none of either split.
    """
    folders = list_folders(data)
    holding = tuple(folder for folder in folders if has_split(folder, split))
    for folder in folders:
        if not holding or not any(has_split(folder, one) for one in SPLITS):
            find_split(folder, split)  # raises, saying where it looked
    return holding


def load_dataset(data: DataFolders, split: SplitName) -> Dataset:
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
    holding, folders = require_split(data, split), list_folders(data)
    files = [load_files(folder, split) for folder in holding]
    for error in chain(_label_conflicts(files), _pixel_conflicts(files)):
        raise error
    lines = [line for folder in folders for line in read_groups(folder)]
    known = {image_id for each in files for image_id in each.known}
    if any(line.image_id not in known for line in lines):  # a group may hold images of both splits
        other = SPLITS[1 - SPLITS.index(split)]
        others = (load_files(folder, other) for folder in folders if has_split(folder, other))
        known = known.union(*(each.known for each in others))
    for error in find_unknown(lines, known):
        raise error
    return join_files(folders, split, files, join_groups(lines))


def verify_join(data: DataFolders) -> JoinReport:
    """Returns what folders hold together; photographs that several hold are compared.

    Nothing stops at the first contradiction: whoever has to repair folders wants the whole list.

    Args:
        data: One folder, or several.

    Raises:
        DataError: There are no training images.
    """
    folders = list_folders(data)
    files = [read_files(folder, "train") for folder in require_split(data, "train")]
    lines: list[GroupLine] = []
    contradictions = [*_label_conflicts(files), *_pixel_conflicts(files)]
    for folder in folders:
        try:
            lines += read_groups(folder)
        except DataError as error:
            contradictions.append(error)
    tested = [read_files(folder, "test") for folder in folders if has_split(folder, "test")]
    known = {image_id for each in (*files, *tested) for image_id in each.known}
    contradictions += find_unknown(lines, known)
    joined = join_files(folders, "train", files, join_groups(lines))
    sizes = Counter(lesion.lesion_group for lesion in joined.lesions if lesion.lesion_group)
    shared = [size for size in sizes.values() if size > 1]
    return JoinReport(
        folders=tuple(folder.resolve().name for folder in folders),
        **asdict(Totals.of(joined.lesions)),
        repeated=len(joined.repeated),
        groups=len(shared),
        grouped=sum(shared),
        contradictions=tuple(str(error) for error in contradictions),
    )


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


def load_truth(data: DataFolders) -> Truth:
    """Returns the labels and the masks in a folder, or joined from several.

    Of an image that several folders have a mask of, that of the first one named counts.

    Raises:
        DataError: A folder is missing, holds no truth, or holds a label file that is damaged; or
            two folders label one image differently.
    """
    folders = list_folders(data)
    truths = [_load_folder(folder) for folder in folders]
    for error in _label_conflicts(truths):
        raise error
    return Truth(
        source=" and ".join(map(str, folders)),
        labels=first_of([truth.labels for truth in truths]),
        masks=first_of([truth.masks for truth in truths]),
        known=frozenset().union(*(truth.known for truth in truths)),
        complete=frozenset().union(*(truth.complete for truth in truths)),
    )


def _label_conflicts(files: Iterable[SplitFiles | Truth]) -> Iterator[DataError]:
    """Yields an error for each image that two folders label differently."""
    first: dict[str, tuple[Label, object]] = {}
    for each in files:
        where = each.source if isinstance(each, Truth) else each.labels_csv
        for image_id, label in each.labels.items():
            other, other_place = first.setdefault(image_id, (label, where))
            if other is not label:
                yield DataError(
                    f"{image_id} is {other.name.lower()} in {other_place} and {label.name.lower()}"
                    f" in {where}",
                    expected="one label",
                    action="Correct one of the two files",
                )


def _pixel_conflicts(files: Sequence[SplitFiles]) -> Iterator[DataError]:
    """Yields an error for each image that is another photograph, or unreadable, in a folder."""
    first = first_of([each.images for each in files])
    pairs = [
        (image_id, first[image_id], path)
        for each in files
        for image_id, path in each.images.items()
        if path != first[image_id]
    ]
    yield from filter(None, in_threads(_compare, sorted(pairs)))


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


def _load_folder(folder: Path) -> Truth:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is {'not a folder' if folder.exists() else 'missing'}",
            expected="a folder of labels and masks, such as ISIC 2016",
            action="Check the folder's name",
        )
    truth = _load_official(folder) or _load_plain(folder)
    if not truth.labels and not truth.masks:
        raise DataError(
            f"{folder} holds no truth",
            expected="the ground truth of ISIC 2016 under its official names, "
            "a CSV of image_id,label, or masks/",
            action="Check the folder's name",
        )
    return truth


def _load_official(folder: Path) -> Truth | None:
    """Returns the truth of a folder in the official layout, or None if it is a plain one."""
    labels: dict[str, Label] = {}
    masks: dict[str, Path] = {}
    known: dict[SplitName, set[str]] = {}
    for split in SPLITS:
        paths = locate_split(folder, split)
        if not (paths.image_folders or paths.mask_folders or paths.labels_csv):
            continue
        here = load_labels(paths.labels_csv) if paths.labels_csv else {}
        found = _masks_by_id(each for each in _images(paths.mask_folders) if has_mask_name(each))
        shown = {path.stem for path in _images(paths.image_folders) if not has_mask_name(path)}
        known[split] = shown.union(here, found)
        labels, masks = labels | here, masks | found
    if not known:
        return None
    complete = frozenset(known.get("test", ()))
    return Truth(str(folder), labels, masks, frozenset().union(*known.values()), complete)


def _load_plain(folder: Path) -> Truth:
    labels: dict[str, Label] = {}
    for path in folder_entries(folder):
        if path.suffix.lower() != ".csv" or path.name == GROUPS_NAME or not is_plain_file(path):
            continue
        loaded = load_labels(path)
        if repeated := sorted(labels.keys() & loaded.keys()):
            raise DataError(
                f"{path} labels {repeated[0]} that another CSV in {folder} labels, too",
                expected="each image in one file",
            )
        labels |= loaded
    masks_folder = folder / "masks"
    masks = _masks_by_id(_images([masks_folder] if masks_folder.is_dir() else []))
    known = frozenset(labels.keys() | masks.keys())
    return Truth(str(folder), labels, masks, known=known, complete=known)


def _images(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from image_files(folder)


def _masks_by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Returns the mask of each image id.

    Raises:
        DataError: There are two masks of one image in a folder.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(image_of_mask(path), path)
        if other != path and other.parent == path.parent:
            raise DataError(
                f"{path.parent} holds {other.name} and {path.name}",
                expected="one mask for each image",
                action="Remove one of them",
            )
    return found
