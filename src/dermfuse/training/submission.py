"""Predictions of the test split in the form in which they are kept and scored elsewhere.

scores.csv    image_id,score                                        (classification, joint)
masks.zip     masks/ISIC_xxxxxxx_Segmentation.png at the image's size (segmentation, joint)
run.json      configuration, seed, epochs, validation metrics, versions, init; symmetries: 8 with
              test-time augmentation, else 1
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dermfuse.errors import RunError
from dermfuse.predictions import MASKS_NAME, SCORES_NAME, new_predictions, read_predictions
from dermfuse.runs import NOTICE, RunFolder, atomic_write, read_json, require_free, write_json
from dermfuse.scores import write_scores
from dermfuse.training.prediction import predict

RECORD_NAME = "run.json"
_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # the same masks give the same archive


@dataclass(frozen=True, slots=True)
class SubmissionReport:
    """What was written.

    Attributes:
        out: The folder.
        task: Classification, segmentation, or joint for both.
        images: How many test images were predicted.
        size_mb: Of all files together.
        notice: That this is research software.
    """

    out: Path
    task: str
    images: int
    size_mb: float
    notice: str = NOTICE

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-ready values."""
        return {**asdict(self), "out": str(self.out)}


def submit(
    run: Path,
    *,
    data: Path,
    out: Path,
    tta: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SubmissionReport:
    """Predicts the test split with a finished run and packs the predictions, all or nothing.

    Args:
        run: The run folder.
        data: The dataset folder with the test images.
        out: Where to write; new or empty.
        tta: Packs the mean over the eight symmetries of the square, as ``predict`` does; the
            packed record says so.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run is not finished, or the run or the data cannot be used.
    """
    _finished_record(run)
    require_free(out, what="predictions")
    with TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "test"
        predict(run, data=data, split="test", out=unpacked, tta=tta, progress=progress)
        return pack(unpacked, out, run=run)


def pack(predictions: Path, out: Path, *, run: Path | None = None) -> SubmissionReport:
    """Packs predictions of the test split, all or nothing.

    Args:
        predictions: A predictions folder.
        out: Where to write; new or empty.
        run: The finished run that predicted; None for an ensemble or a fusion, whose manifest
            then stands for its record.

    Raises:
        DermfuseError: If the run is not finished, or the predictions cannot be read.
    """
    predicted = read_predictions(predictions)
    record = predicted.manifest.to_dict()
    if run:
        symmetries = predicted.manifest.details.get("symmetries", 1)
        record = {**_finished_record(run), "symmetries": symmetries}
    with new_predictions(out) as folder:
        if predicted.scores is not None:
            write_scores(folder / SCORES_NAME, predicted.scores)
        if predicted.masks:
            with atomic_write(folder / f"{MASKS_NAME}.zip") as handle:
                handle.write(_zipped(list(predicted.masks.values())))
        write_json(folder / RECORD_NAME, record)
    size = sum(path.stat().st_size for path in out.iterdir())
    count = len(predicted.scores.image_ids) if predicted.scores else len(predicted.masks)
    task = predicted.manifest.task or ("classification" if predicted.scores else "segmentation")
    return SubmissionReport(out, task, count, round(size / 1e6, 3))


def _finished_record(run: Path) -> dict[str, Any]:
    record = read_json(RunFolder(run).record)
    if record.get("status") != "finished":
        raise RunError(
            f"{run} is {record.get('status', 'of unknown state')} after"
            f" {record.get('epochs', 0)} epochs",
            expected="a finished run",
            action="Finish it with: dermfuse train ... --resume",
        )
    return record


def _zipped(masks: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in masks:
            name = zipfile.ZipInfo(f"{MASKS_NAME}/{path.name}", _EPOCH_OF_ZIP)
            name.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(name, path.read_bytes())
    return buffer.getvalue()
