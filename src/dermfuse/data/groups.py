"""Which images show one lesion or one patient: ``groups.csv`` in a dataset folder.

    image_id,lesion_group
    ISIC_0000000,g0001

Images of one group stay on one side of every split. The name of a group means something in its
own file only, so a group goes by the smallest image id in it.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from dermfuse.errors import DataError

GROUPS_NAME = "groups.csv"

_COLUMNS = ["image_id", "lesion_group"]


def read_groups(folder: Path) -> dict[str, str]:
    r"""Returns the group of each image that the ``groups.csv`` of a folder names.

    Args:
        folder: A dataset folder; without the file no image has a group.

    Returns:
        By image id: the smallest image id of its group.

    Raises:
        DataError: The file cannot be read, its header is another one, a line has an empty field
            or not two, or an image is named twice.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     text = "image_id,lesion_group\nISIC_2,a\nISIC_1,a\nISIC_3,b\n"
        ...     _ = (Path(folder) / GROUPS_NAME).write_text(text)
        ...     read_groups(Path(folder))
        {'ISIC_2': 'ISIC_1', 'ISIC_1': 'ISIC_1', 'ISIC_3': 'ISIC_3'}
    """
    path = folder / GROUPS_NAME
    if not path.exists():
        return {}
    named: dict[str, str] = {}
    for line, (image_id, group) in read_two_columns(path, _COLUMNS):
        if image_id in named:
            raise DataError(
                f"{path}, line {line}: {image_id} for the second time",
                expected="each image in one group",
                action="Remove one of its lines",
            )
        named[image_id] = group
    smallest: dict[str, str] = {}
    for image_id, group in named.items():
        smallest[group] = min(image_id, smallest.get(group, image_id))
    return {image_id: smallest[group] for image_id, group in named.items()}


def read_two_columns(path: Path, columns: list[str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yields (line number, the two fields) of each line below the header of a CSV.

    Args:
        path: The file; blank lines are passed over. The first field is an image id and comes
            back in capitals.
        columns: What the header must say.

    Raises:
        DataError: Naming the line: another header, another number of fields, or an empty one; or
            the file cannot be read.
    """
    header, *rows = _lines(path) or [(1, [])]
    if [field.lower() for field in header[1]] != columns:
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


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Returns (line number, stripped fields) of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error})",
            expected="a CSV file in UTF-8",
            action="Correct the file or its permissions",
        ) from error
    return [(line, row) for line, row in rows if any(row)]
