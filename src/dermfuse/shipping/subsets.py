"""Images that are measured apart as well, named by a folder or a list of their ids."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dermfuse.data.isic2016 import load_isic2016
from dermfuse.data.lines import ID_COLUMN, OTHER_ID_COLUMNS, read_lines
from dermfuse.errors import DataError


def read_subsets(paths: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Returns the image ids of each subset by its name, that of the folder or of the list.

    Args:
        paths: Dataset folders, whose training images are meant, and CSV files with a column
            ``image_id``, or whose first column holds ids.

    Raises:
        DataError: A path is neither, or names no image.
    """
    return {path.resolve().stem: _read_ids(path) for path in paths}


def require_subsets(subsets: Mapping[str, frozenset[str]], labels: Mapping[str, bool]) -> None:
    """Refuses a subset that nothing can be measured of, before anything is measured.

    Args:
        subsets: Names and ids.
        labels: Of the images that are measured, whether they are malignant.

    Raises:
        DataError: A subset holds no malignant, or no benign image of those measured.
    """
    for name, ids in subsets.items():
        malignant = sum(labels[image_id] for image_id in ids & labels.keys())
        benign = len(ids & labels.keys()) - malignant
        if not (malignant and benign):
            raise DataError(
                f"of {name} {malignant} malignant and {benign} benign images are measured",
                expected="images of both classes",
                action="Name a folder or a list of images that the networks were trained on",
            )


def _read_ids(path: Path) -> frozenset[str]:
    if path.is_dir():
        return frozenset(lesion.image_id for lesion in load_isic2016(path, "train").lesions)
    lines = read_lines(path, action="Name a dataset folder or a CSV of image ids")
    column, rows = 0, [row for _, row in lines]
    names = [field.lower() for field in rows[0]] if rows else []
    if ID_COLUMN in names:
        column, rows = names.index(ID_COLUMN), rows[1:]
    elif names and OTHER_ID_COLUMNS.intersection(names):
        raise DataError(
            f"{path}, line {lines[0][0]}: no {ID_COLUMN} column in the header {','.join(names)}",
            expected=f"a column {ID_COLUMN}, or ids alone",
            action="Correct the header",
        )
    return _checked(path, [row[column] for row in rows if len(row) > column and row[column]])


def _checked(path: Path, ids: Collection[str]) -> frozenset[str]:
    if not ids:
        raise DataError(f"{path} names no image", expected="an image id in each line")
    return frozenset(ids)
