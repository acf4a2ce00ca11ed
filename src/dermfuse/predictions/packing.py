"""Predictions in the form in which they are kept and scored elsewhere.

scores.csv    image_id,score                                        (classification, joint)
masks.zip     masks/ISIC_xxxxxxx_Segmentation.png at the image's size (segmentation, joint)
run.json      what predicted: of a run its configuration, seed, epochs, validation metrics,
              versions and symmetries (8 with test-time augmentation, else 1); else the manifest
"""

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse.folders import NOTICE, atomic_write, write_json
from dermfuse.predictions.folder import MASKS_NAME, SCORES_NAME, new_predictions, read_predictions
from dermfuse.predictions.scores import write_scores

RECORD_NAME = "run.json"
_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # the same masks give the same archive


@dataclass(frozen=True, slots=True)
class SubmissionReport:
    """What was written.

    Attributes:
        out: The folder.
        task: Classification, segmentation, or joint for both.
        images: How many were predicted.
        size_mb: The size of all files together.
        notice: The notice that this is research software.
    """

    out: Path
    task: str
    images: int
    size_mb: float
    notice: str = NOTICE

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-ready values."""
        return {**asdict(self), "out": str(self.out)}


def pack(
    predictions: str | Path, out: str | Path, *, record: Mapping[str, Any] | None = None
) -> SubmissionReport:
    """Packs predictions, all or nothing.

    Args:
        predictions: A predictions folder.
        out: Where to write; new or empty.
        record: What predicted; the manifest's if left out.

    Raises:
        DermfuseError: If the predictions cannot be read.
    """
    predictions = Path(predictions)
    out = Path(out)
    predicted = read_predictions(predictions)
    with new_predictions(out) as folder:
        if predicted.scores is not None:
            write_scores(folder / SCORES_NAME, predicted.scores)
        if predicted.masks:
            with atomic_write(folder / f"{MASKS_NAME}.zip") as handle:
                handle.write(_zipped(list(predicted.masks.values())))
        write_json(folder / RECORD_NAME, record or predicted.manifest.to_dict())
    size = sum(path.stat().st_size for path in out.iterdir())
    count = len(predicted.scores.image_ids) if predicted.scores else len(predicted.masks)
    task = predicted.manifest.task or ("classification" if predicted.scores else "segmentation")
    return SubmissionReport(out, task, count, round(size / 1e6, 3))


def _zipped(masks: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in masks:
            kept = os.fsencode(path.name).decode(errors="backslashreplace")  # a zip holds UTF-8
            name = zipfile.ZipInfo(f"{MASKS_NAME}/{kept}", _EPOCH_OF_ZIP)
            name.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(name, path.read_bytes())
    return buffer.getvalue()
