"""The truth that predictions are evaluated against: labels and masks by image id.

Images are not needed. A folder is read as one of:

- the official layout of ISIC 2016, either split or both, as far as it is there;
- a plain folder of ``*.csv`` (lines of ``image_id,label``) and, or, masks in ``masks/``.

Suffixes count in either case.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.data.groups import GROUPS_NAME
from dermfuse.data.isic2016 import folder_entries, load_labels
from dermfuse.errors import DataError
from dermfuse.masks import has_mask_name, image_of_mask
from dermfuse.preprocess import image_files, is_plain_file
from dermfuse.scores import Label

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
