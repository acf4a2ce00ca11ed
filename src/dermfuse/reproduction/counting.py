"""Counts of predicted masks, kept beside them: reading large masks twice is slow."""

import csv
from pathlib import Path

from dermfuse.data.truth import Truth
from dermfuse.evaluation.matching import Coverage, SegmentedImages, match_masks
from dermfuse.metrics import Counts
from dermfuse.predictions import MANIFEST_NAME, read_predictions
from dermfuse.runs import write_text

_COLUMNS = ("tp", "fp", "tn", "fn")


def count_folder(folder: Path, truth: Truth) -> SegmentedImages | None:
    """Returns the counts of every mask of a predictions folder; None where there are none.

    They are kept in ``<folder>-counts.csv`` and read from there while that is younger than the
    predictions.

    Raises:
        DermfuseError: The masks cannot be read or do not fit the truth.
    """
    kept, made = folder.with_name(f"{folder.name}-counts.csv"), folder / MANIFEST_NAME
    if kept.is_file() and kept.stat().st_mtime_ns >= made.stat().st_mtime_ns:
        return _read(kept, truth)
    counted = match_masks(read_predictions(folder), truth)
    if counted is not None:
        rows = zip(counted.coverage.evaluated, counted.counts, strict=True)
        lines = [f"{image_id},{c.tp},{c.fp},{c.tn},{c.fn}" for image_id, c in rows]
        write_text(kept, "\n".join([f"image_id,{','.join(_COLUMNS)}", *lines]) + "\n")
    return counted


def _read(kept: Path, truth: Truth) -> SegmentedImages:
    with kept.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = tuple(row["image_id"] for row in rows)
    counts = tuple(Counts(**{column: int(row[column]) for column in _COLUMNS}) for row in rows)
    return SegmentedImages(Coverage(ids, (), (), len(truth.masks)), counts)
