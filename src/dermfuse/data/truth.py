"""The truth that predictions are evaluated against: labels and masks by image id.

Images are not needed. A folder is read as one of:

- the official layout of ISIC 2016, either split or both, as far as it is there;
- a plain folder of ``*.csv`` (lines of ``image_id,label``) and, or, ``masks/*.png``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dermfuse.data.isic2016 import load_labels
from dermfuse.errors import DataError
from dermfuse.scores import Label

_OFFICIAL_NAME = re.compile(
    r"ISBI2016_ISIC_Part(?P<part>\w+?)_(?P<split>Training|Test)_(?P<kind>Data|GroundTruth)(\.csv)?"
)
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_MASK_SUFFIX = "_Segmentation"


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels and masks by image id.

    Args:
        folder: Where they lie.
        labels: The class of each image that has one.
        masks: The mask file of each image that has one.
        known: Every image the folder knows of, with a truth or without.
        complete: The images that are evaluated all or not at all: the test split of the
            official layout, everything in a plain folder.
    """

    folder: Path
    labels: Mapping[str, Label]
    masks: Mapping[str, Path]
    known: frozenset[str]
    complete: frozenset[str]


def load_truth(folder: Path) -> Truth:
    """Returns the labels and the masks in a folder.

    Raises:
        DataError: The folder is missing, holds no truth, or holds a label file that is damaged.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is {'not a folder' if folder.exists() else 'missing'}",
            expected="a folder of labels and masks, such as ISIC 2016",
            action="Check the folder's name",
        )
    official = [path for path in sorted(folder.iterdir()) if _OFFICIAL_NAME.fullmatch(path.name)]
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
        if path.suffix == ".csv":
            if "_Part3" in path.name:  # the CSVs of other parts hold no labels
                loaded = load_labels(path)
                labels.update(loaded)
                here.update(loaded)
        elif path.is_dir():
            loaded_masks = dict(_mask_files(path, needs_suffix=True))
            masks.update(loaded_masks)
            here.update(loaded_masks)
            if path.name.endswith("_Data"):
                here.update(
                    file.stem
                    for file in path.iterdir()
                    if file.suffix.lower() in _IMAGE_SUFFIXES and _MASK_SUFFIX not in file.stem
                )
        known |= here
        if "_Test_" in path.name:
            complete |= here
    return Truth(folder, labels, masks, known=frozenset(known), complete=frozenset(complete))


def _load_plain(folder: Path) -> Truth:
    labels: dict[str, Label] = {}
    for path in sorted(folder.glob("*.csv")):
        loaded = load_labels(path)
        repeated = sorted(labels.keys() & loaded.keys())
        if repeated:
            raise DataError(
                f"{path} labels {repeated[0]} that another CSV in {folder} labels, too",
                expected="each image in one file",
            )
        labels.update(loaded)
    masks_folder = folder / "masks"
    masks = dict(_mask_files(masks_folder)) if masks_folder.is_dir() else {}
    known = frozenset(labels.keys() | masks.keys())
    return Truth(folder, labels, masks, known=known, complete=known)


def _mask_files(folder: Path, *, needs_suffix: bool = False) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob("*.png")):
        is_mask = path.stem.endswith(_MASK_SUFFIX) or not needs_suffix
        if is_mask and not path.name.startswith("."):
            yield path.stem.removesuffix(_MASK_SUFFIX), path
