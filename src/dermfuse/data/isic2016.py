"""ISIC 2016, the data set of the ISBI 2016 challenge (Gutman et al., arXiv 1605.01397; CC0).

| split | images | benign | malignant | masks |
|-------|--------|--------|-----------|-------|
| train | 900    | 727    | 173       | 900   |
| test  | 379    | 304    | 75        | 379   |

The layout is the challenge's own, as its archives unpack:

    ISBI2016_ISIC_Part1_Training_Data/ISIC_xxxxxxx.jpg             images (or Part3, Part3B)
    ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_xxxxxxx_Segmentation.png         0 / 255
    ISBI2016_ISIC_Part3_Training_GroundTruth.csv                   ISIC_xxxxxxx,benign

and ``Test`` for ``Training``, where labels are 0.0 and 1.0. Only the image folder is needed:
what else is missing is listed by id, and everything that uses the data continues without it.
A ``groups.csv`` may say which images show one lesion (see ``dermfuse.data.folders``).
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal, TypeVar

from dermfuse.errors import DataError
from dermfuse.imaging.masks import MASK_SUFFIX
from dermfuse.imaging.preprocess import SUFFIXES, is_plain_file

_T = TypeVar("_T")
_R = TypeVar("_R")

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")

ID_COLUMN = "image_id"
"""What the column of the image ids is called."""
OTHER_ID_COLUMNS = frozenset(
    ("id", "isic_id", "image", "image_name", "img", "img_id", "file", "filename", "file_name")
) | {"name", "path", "lesion_id", "patient_id"}
"""What other programs call it: no image has such an id, so a line that says so is a header."""

TEST_DUPLICATES: tuple[str, ...] = (
    *("ISIC_0000240", "ISIC_0000249", "ISIC_0000280", "ISIC_0000396", "ISIC_0000410"),
    *("ISIC_0000416", "ISIC_0000427", "ISIC_0000443", "ISIC_0000451", "ISIC_0001134"),
    *("ISIC_0001184", "ISIC_0001385", "ISIC_0009896", "ISIC_0009910", "ISIC_0010358"),
    *("ISIC_0010475", "ISIC_0011082", "ISIC_0011126", "ISIC_0011358", "ISIC_0011362"),
)
"""Training images that show a lesion of the test set, in the same photograph or in another one:
leave them out of training."""

TRAIN_DUPLICATES: tuple[tuple[str, str], ...] = (
    ("ISIC_0000519", "ISIC_0011295"),
    ("ISIC_0001442", "ISIC_0001742"),
)
"""Pairs of training images that show the same photograph: a split keeps them on one side."""

_OFFICIAL_NAME: Mapping[SplitName, str] = {"train": "Training", "test": "Test"}
_PARTS = ("Part1", "Part3", "Part3B", "Part2", "Part2B")  # all hold the same photographs
_SUFFIX = "|".join(sorted(re.escape(suffix) for suffix in SUFFIXES))
_IMAGE_NAME = re.compile(rf"(ISIC_\d{{7}})({_SUFFIX})", re.IGNORECASE)
_MASK_NAME = re.compile(rf"(ISIC_\d{{7}}){MASK_SUFFIX}({_SUFFIX})", re.IGNORECASE)
_COLUMNS = (ID_COLUMN, "label")
_IMAGE_ID = re.compile(r"isic_\d+", re.IGNORECASE)
_IGNORED_NAMES = {".DS_Store", "Thumbs.db", "desktop.ini"}
_SHOWN_IDS = 5


class Label(IntEnum):
    """The class of a lesion, as the challenge numbers it."""

    BENIGN = 0
    MALIGNANT = 1


_NUMBERS = {"0": Label.BENIGN, "0.0": Label.BENIGN, "1": Label.MALIGNANT, "1.0": Label.MALIGNANT}
_WORDS = {"benign": Label.BENIGN, "malignant": Label.MALIGNANT}
_LABELS = _WORDS | _NUMBERS


@dataclass(frozen=True, slots=True)
class Lesion:
    """One photographed lesion.

    Args:
        image_id: For instance ``ISIC_0000000``.
        image_path: The photograph.
        mask_path: Its mask, where there is one.
        label: Its class, where it is known.
        lesion_group: The smallest id of the images of the same lesion or patient; empty where
            no ``groups.csv`` names it.
    """

    image_id: str
    image_path: Path
    mask_path: Path | None
    label: Label | None
    lesion_group: str = ""


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
    split: SplitName
    lesions: tuple[Lesion, ...]
    missing_images: tuple[str, ...]
    missing_masks: tuple[str, ...]
    missing_labels: tuple[str, ...]
    repeated: tuple[str, ...]
    odd: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folders in words."""
        return in_words(self.folders)

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
            f" {name_some(ids)}"
            for folder, ids in used.items()
        )


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

    @classmethod
    def of(cls, lesions: Sequence[Lesion]) -> "Totals":
        """Returns the totals of lesions."""
        labels = [lesion.label for lesion in lesions]
        masks = sum(lesion.mask_path is not None for lesion in lesions)
        return cls(len(lesions), labels.count(Label.BENIGN), labels.count(Label.MALIGNANT), masks)


@dataclass(frozen=True, slots=True)
class SplitPaths:
    """Where the files of one split lie.

    Args:
        image_folders: Those that exist.
        mask_folders: Those that exist.
        labels_csv: The label file, where there is one.
    """

    image_folders: tuple[Path, ...]
    mask_folders: tuple[Path, ...]
    labels_csv: Path | None


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """What one folder holds of a split, by image id.

    Args:
        images: Photographs.
        masks: Masks.
        labels: Classes.
        labels_csv: The file that they stand in, where there is one.
        odd: A sentence for each thing that does not belong.
        errors: What is wrong with each line of that file that states no class.
    """

    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    labels: Mapping[str, Label]
    labels_csv: Path | None
    odd: tuple[str, ...]
    errors: tuple[DataError, ...]

    @property
    def known(self) -> frozenset[str]:
        """The ids that have an image, a mask or a label."""
        return frozenset((*self.images, *self.masks, *self.labels))


def in_words(folders: Sequence[Path]) -> str:
    """Returns the names of folders, in words."""
    *first, last = (folder.resolve().name for folder in folders)
    return f"{', '.join(first)} and {last}" if first else last


def name_some(ids: Sequence[str], *, shown: int = _SHOWN_IDS) -> str:
    """Returns the first ids for a message, and whether there are more.

    Example:
        >>> name_some(["a", "b"]), name_some("abcdefg")
        ('a, b', 'a, b, c, d, e ...')
    """
    return ", ".join(ids[:shown]) + " ..." * (len(ids) > shown)


def in_threads(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[_R]:
    """Yields what a function that decodes images returns of each item, in order.

    Args:
        function: Called in threads: decoders release the interpreter's lock.
        items: What it is called with.
        progress: Called with (done, all).
    """
    with ThreadPoolExecutor() as pool:
        for done, result in enumerate(pool.map(function, items), start=1):
            if progress:
                progress(done, len(items))
            yield result


def load_isic2016(folder: str | Path, split: SplitName) -> Dataset:
    """Returns one split's records from a folder in the official layout.

    Groups are left aside: ``dermfuse.data.folders.load_dataset`` reads them, and joins several
    folders. No image is opened: ``verify_isic2016`` does that.

    Args:
        folder: Holds the ``ISBI2016_ISIC_...`` folders.
        split: ``train`` or ``test``.

    Raises:
        DataError: The image folder is missing or holds no image, or the labels are damaged.
    """
    return join_files((Path(folder),), split, [load_files(Path(folder), split)], {})


def load_files(folder: Path, split: SplitName) -> SplitFiles:
    """Returns the files and the labels of one split of a folder.

    Raises:
        DataError: The image folder is missing or holds no image, or the labels are damaged.
    """
    files = read_files(folder, split)
    if files.errors:
        raise files.errors[0]
    return files


def read_files(folder: Path, split: SplitName) -> SplitFiles:
    """Returns the files of one split of a folder, and the labels of the lines that state one.

    Raises:
        DataError: The image folder is missing or holds no image.
    """
    paths = find_split(folder, split)
    labels, errors = read_labels(paths.labels_csv) if paths.labels_csv else ({}, ())
    odd: list[str] = []
    images = _files_by_id(paths.image_folders, _IMAGE_NAME, odd, also=_MASK_NAME)
    masks = _files_by_id(paths.mask_folders, _MASK_NAME, odd, also=_IMAGE_NAME)
    if not images:
        raise DataError(
            f"{paths.image_folders[0]} holds no image named ISIC_0000000.jpg or alike",
            expected="the challenge's images under their own names",
            action=f"Fetch ISIC 2016 with: dermfuse data download {folder}",
        )
    if not paths.mask_folders:
        odd.append(f"There is no folder of {split} masks.")
    if paths.labels_csv is None:
        odd.append(f"There is no file of {split} labels.")
    return SplitFiles(images, masks, labels, paths.labels_csv, tuple(odd), errors)


def join_files(
    folders: tuple[Path, ...],
    split: SplitName,
    files: Sequence[SplitFiles],
    groups: Mapping[str, str],
) -> Dataset:
    """Returns the records of folders that do not contradict each other.

    Args:
        folders: All of them.
        split: The split that the files belong to.
        files: What the folders of this split hold.
        groups: The smallest id of each image's group.
    """
    images = first_of([each.images for each in files])
    masks = first_of([each.masks for each in files])
    labels = first_of([each.labels for each in files])
    beside_mask = {
        image_id: each.images[image_id]
        for each in reversed(files)
        for image_id in each.images.keys() & each.masks.keys()
        if masks[image_id] == each.masks[image_id]
    }
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
        repeated=tuple(sorted(i for i in images if sum(i in each.images for each in files) > 1)),
        odd=tuple(sentence for each in files for sentence in each.odd),
    )


def first_of(mappings: Sequence[Mapping[str, _T]]) -> dict[str, _T]:
    """Returns the value of the first mapping that has a key."""
    return {key: value for mapping in reversed(mappings) for key, value in mapping.items()}


def locate_split(folder: Path, split: SplitName) -> SplitPaths:
    """Returns where the files of a split lie, as far as they are there."""
    official = _OFFICIAL_NAME[split]
    images = [folder / f"ISBI2016_ISIC_{part}_{official}_Data" for part in _PARTS]
    truths = [folder / f"ISBI2016_ISIC_{part}_{official}_GroundTruth" for part in _PARTS]
    image_folders = tuple(path for path in images if path.is_dir())
    # Part 1 is the segmentation task; Part 3B ships its masks beside its images.
    with_masks = [truths[0], *(path for path in image_folders if "_Part3B_" in path.name)]
    csv_paths = (
        path.with_name(f"{path.name}{suffix}")
        for path in truths
        if "_Part3" in path.name  # the classification task
        for suffix in (".csv", ".CSV")
    )
    return SplitPaths(
        image_folders=image_folders,
        mask_folders=tuple(path for path in with_masks if path.is_dir()),
        labels_csv=next((path for path in csv_paths if path.is_file()), None),
    )


def find_split(folder: Path, split: SplitName) -> SplitPaths:
    """Returns where the files of a split lie.

    Raises:
        DataError: There is no image folder.
    """
    if split not in _OFFICIAL_NAME:
        raise DataError(f"split is {split!r}", expected="train or test", action="Name one of them")
    paths = locate_split(folder, split)
    if not paths.image_folders:
        name = f"ISBI2016_ISIC_Part1_{_OFFICIAL_NAME[split]}_Data"
        missing = f"{folder} {'holds no' if folder.is_dir() else 'is not a folder: no'}"
        raise DataError(
            f"{missing} {split} images",
            expected=f"a folder {name} (or Part3, Part3B) in it",
            action=f"Fetch ISIC 2016 with: dermfuse data download {folder}",
        )
    return paths


def folder_entries(folder: Path) -> list[Path]:
    """Returns what lies in a folder, by name.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror or error})",
            expected="a folder that may be read",
            action="Correct its permissions",
        ) from error


def read_lines(path: Path, *, action: str) -> list[tuple[int, list[str]]]:
    """Returns (line number, stripped fields) of each line that is not blank.

    Args:
        path: A CSV file in UTF-8.
        action: What the user can do about a file that cannot be read.

    Raises:
        DataError: The file is missing, is not text or is no CSV.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path} is not a plain file", expected="a CSV file", action=action)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error})",
            expected="a CSV file in UTF-8",
            action=action,
        ) from error
    return [(line, row) for line, row in rows if any(row)]


def read_pairs(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yields (line number, the two fields) of each line below the header of a CSV.

    Args:
        path: The file; blank lines are skipped. The first field is an image id and is returned in
            capitals.
        columns: What the header must say.

    Raises:
        DataError: Naming the line: another header, another number of fields, or an empty one; or
            the file cannot be read.
    """
    header, *rows = read_lines(path, action="Correct the file or its permissions") or [(1, [])]
    if [field.lower() for field in header[1]] != list(columns):
        raise DataError(
            f"{path}, line {header[0]}: the header is {','.join(header[1])!r}",
            expected=",".join(columns),
            action="Correct the header",
        )
    for line, fields in rows:
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{path}, line {line}: {','.join(fields)!r}",
                expected=f"two fields, {' and '.join(columns)}",
                action="Correct the line",
            )
        yield line, (fields[0].upper(), fields[1])


def load_labels(path: str | Path) -> dict[str, Label]:
    """Returns the class of each image id in a CSV of ids and labels.

    Args:
        path: Lines of ``ISIC_xxxxxxx,benign``; the header ``image_id,label`` may come first.

    Raises:
        DataError: Naming the line: a wrong column count, an empty or duplicate id, an unknown
            label; or the file is missing, empty or not text.
    """
    labels, errors = read_labels(Path(path))
    if errors:
        raise errors[0]
    return labels


def read_labels(path: Path) -> tuple[dict[str, Label], tuple[DataError, ...]]:
    """Returns the classes that a CSV states, and an error for each line that states none.

    Args:
        path: A file as ``load_labels`` reads it.
    """
    labels: dict[str, Label] = {}
    first_lines: dict[str, int] = {}
    errors: list[DataError] = []
    try:
        id_index, rows = _without_header(read_lines(path, action="Fetch the file again"), path)
    except DataError as error:
        return {}, (error,)
    for line, row in rows:
        if fault := _find_fault(row, id_index, first_lines):
            found, expected = fault
            is_twice = row[id_index] in first_lines
            action = "Remove one of the two lines" if is_twice else "Correct the line"
            errors.append(
                DataError(f"{path}, line {line}: {found}", expected=expected, action=action)
            )
            continue
        labels[row[id_index]] = _LABELS[row[1 - id_index].lower()]
        first_lines[row[id_index]] = line
    return labels, tuple(errors)


def _files_by_id(
    folders: Iterable[Path], name: re.Pattern[str], odd: list[str], *, also: re.Pattern[str]
) -> dict[str, Path]:
    """Returns the first file of each id; files of neither name are reported as odd."""
    found: dict[str, Path] = {}
    for folder in folders:
        in_folder: dict[str, Path] = {}
        for path in folder_entries(folder):
            match = name.fullmatch(path.name)
            beside = "_Part3B_" in folder.name and also.fullmatch(path.name)
            if match and is_plain_file(path):
                image_id = match.group(1).upper()
                if in_folder.setdefault(image_id, path) != path:
                    odd.append(f"{folder.name} holds {image_id} more than once: {path.name}.")
            elif path.name not in _IGNORED_NAMES and not beside:
                sentence = f"{folder.name} holds something unknown: {path.name}."
                if sentence not in odd:  # Part 3B is searched for images and for masks
                    odd.append(sentence)
        found = in_folder | found
    return found


def _find_fault(
    row: Sequence[str], id_index: int, first_lines: Mapping[str, int]
) -> tuple[str, str] | None:
    """Returns what a line of labels holds and what it should, or None if it states a class."""
    if len(row) != 2:
        return f"{len(row)} column{'s' * (len(row) != 1)}", "2 columns, an image id and a label"
    image_id, text = row[id_index], row[1 - id_index]
    if not image_id:
        return "the image id is empty", "an image id such as ISIC_0000000"
    if text.lower() not in _LABELS:
        return f"unknown label {text!r} of {image_id}", "benign or malignant, or 0 or 1"
    if first := first_lines.get(image_id):
        return f"{image_id} for the second time (first in line {first})", "each image id once"
    return None


def _without_header(
    rows: list[tuple[int, list[str]]], path: Path
) -> tuple[int, list[tuple[int, list[str]]]]:
    """Returns the column of the image ids, and the lines below the header if there is one."""
    id_index = 0
    if rows and _begins_with_header([row for _, row in rows]):
        names = [field.lower() for field in rows[0][1]]
        if missing := [name for name in _COLUMNS if name not in names]:
            raise DataError(
                f"{path}, line {rows[0][0]}: no {missing[0]} column in the header "
                f"{','.join(names)}",
                expected=f"the header {','.join(_COLUMNS)}, or none",
                action="Correct the header; what another column means is not guessed",
            )
        id_index, rows = names.index(ID_COLUMN), rows[1:]
    if not rows:
        raise DataError(
            f"{path} is empty",
            expected="lines of an image id and a label",
            action="Fetch the file again",
        )
    return id_index, rows


def _begins_with_header(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the first line names columns.

    It has one of a known name, or neither a label nor an image id. Or it is named after a class:
    its label is a word above numbers, and its id alone of all has no digit in it.
    """
    first, *below = rows
    names = [field.lower() for field in first]
    if any(name in _COLUMNS or name in OTHER_ID_COLUMNS for name in names):
        return True
    if not any(name in _LABELS or _IMAGE_ID.fullmatch(name) for name in names):
        return True
    is_class = names[-1] in _WORDS and not re.search(r"\d", first[0])
    numbered = [row[-1] in _NUMBERS and re.search(r"\d", row[0]) for row in below]
    return is_class and bool(below) and all(numbered)
