"""The lines of a CSV file beside images: labels, groups, what is left out."""

import csv
import io
from pathlib import Path

from dermfuse.errors import DataError

ID_COLUMN = "image_id"
"""What the column of the image ids is called."""
OTHER_ID_COLUMNS = frozenset(
    ("id", "isic_id", "image", "image_name", "img", "img_id", "file", "filename", "file_name")
) | {"name", "path", "lesion_id", "patient_id"}
"""What other programs call it: no image has such an id, so a line that says so is a header."""


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
