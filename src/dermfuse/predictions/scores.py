"""Labels and score tables: ``scores.csv``, one malignancy score for each image.

    image_id,score
    ISIC_0000003,0.0871234
    ISIC_0000012,0.9134567

The table is what a classifier leaves behind for fusion, evaluation and figures. A score is the
probability the network gives to ``Label.MALIGNANT``, in [0, 1].
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import PredictionsError
from dermfuse.records.folders import atomic_write

_COLUMNS = ("image_id", "score")
_HEADER = ",".join(_COLUMNS)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """One score for each image.

    Args:
        image_ids: The images, each once.
        scores: Malignancy scores in [0, 1], in the order of ``image_ids``.

    Raises:
        PredictionsError: Lengths differ, an id repeats, or a score is not in [0, 1].
    """

    image_ids: tuple[str, ...]
    scores: NDArray[np.float64]  # (N,)

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.image_ids),):
            raise PredictionsError(
                f"{len(self.image_ids)} images and scores of shape {self.scores.shape}",
                expected="one score for each image",
            )
        ordered = sorted(self.image_ids)
        repeated = [a for a, b in pairwise(ordered) if a == b]
        if repeated:
            raise PredictionsError(
                f"{repeated[0]} is in the score table more than once",
                expected="each image once",
            )
        outside = ~((self.scores >= 0.0) & (self.scores <= 1.0))  # NaN is outside, too
        if outside.any():
            at = int(np.argmax(outside))
            raise PredictionsError(
                f"the score of {self.image_ids[at]} is {float(self.scores[at])}",
                expected="a number in [0, 1]",
            )

    def in_order(self) -> "ScoreTable":
        """Returns the same table, sorted by image id."""
        order = sorted(range(len(self.image_ids)), key=self.image_ids.__getitem__)
        return ScoreTable(tuple(self.image_ids[i] for i in order), self.scores[order])


def read_scores(path: str | Path) -> ScoreTable:
    """Returns the score table in a CSV file, sorted by image id.

    The columns may stand in any order and beside others, which are not read.

    Args:
        path: A CSV file with the columns ``image_id`` and ``score``.

    Raises:
        PredictionsError: The file is missing, empty or not UTF-8, lacks a column or has no rows;
            or a line repeats an image, has no id, or a score that is not a number in [0, 1].
    """
    path = Path(path)
    seen: dict[str, int] = {}
    scores: list[float] = []
    for line, image_id, text in _read_rows(path):
        if not image_id:
            raise _line_error(path, line, "no image_id", "an image id and a score")
        if image_id in seen:
            raise _line_error(
                path, line, f"{image_id} again, first on line {seen[image_id]}", "each image once"
            )
        seen[image_id] = line
        try:
            scores.append(float(text))
        except ValueError as error:
            raise _line_error(path, line, f"score '{text}'", "a number in [0, 1]") from error
        if not 0.0 <= scores[-1] <= 1.0:  # NaN fails this, too
            raise _line_error(path, line, f"score {text}", "a number in [0, 1]")
    if not seen:
        raise PredictionsError(
            f"{path} has no rows", expected=f"the header {_HEADER} and a row for each image"
        )
    return ScoreTable(tuple(seen), np.array(scores, dtype=np.float64)).in_order()


def write_scores(path: str | Path, table: ScoreTable) -> None:
    """Writes a score table as CSV, sorted by image id, with every digit of the scores.

    Raises:
        StorageError: The file cannot be written.
    """
    path = Path(path)
    text = io.StringIO(newline="")
    returns = any("\r" in image_id for image_id in table.image_ids)  # else left unquoted
    writer = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    )
    writer.writerow(_COLUMNS)
    ordered = table.in_order()
    for image_id, score in zip(ordered.image_ids, ordered.scores, strict=True):
        writer.writerow((image_id, repr(float(score))))  # repr: read back to the same bits
    with atomic_write(path) as handle:
        handle.write(text.getvalue().encode())


def _read_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields (line number, image id, score as text) of each row that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise PredictionsError(
            f"{path} does not exist",
            expected=f"a CSV file with the header {_HEADER}",
            action="Write it with: dermfuse predict",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionsError(
            f"{path} cannot be read as text ({error})", expected="a CSV file in UTF-8"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", skipinitialspace=True)
    try:
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise PredictionsError(
                f"{path} has no column {' and no column '.join(missing)}",
                expected=f"the header {_HEADER}",
            )
        for row in reader:
            yield reader.line_num, row["image_id"].strip(), row["score"].strip()
    except csv.Error as error:
        raise PredictionsError(
            f"{path} is not a CSV file ({error})", expected=f"the header {_HEADER}"
        ) from error


def _line_error(path: Path, line: int, found: str, expected: str) -> PredictionsError:
    return PredictionsError(f"{path}, line {line}: {found}", expected=expected)
