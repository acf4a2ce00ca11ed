"""Predictions of the test split in the form in which they are kept and scored elsewhere.

scores.csv    image_id,score                                        (classification, joint)
masks.zip     masks/ISIC_xxxxxxx_Segmentation.png at the image's size (segmentation, joint)
run.json      configuration, seed, epochs, validation metrics, versions, init
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
from dermfuse.runs import NOTICE, RunFolder, atomic_write, read_json, write_json
from dermfuse.scores import write_scores
from dermfuse.training.prediction import predict

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
    progress: Callable[[int, int], None] | None = None,
) -> SubmissionReport:
    """Predicts the test split with a finished run and packs the predictions, all or nothing.

    Args:
        run: The run folder.
        data: The dataset folder with the test images.
        out: Where to write; new or empty.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run is not finished, or the run or the data cannot be used.
    """
    record = read_json(RunFolder(run).record)
    if record.get("status") != "finished":
        raise RunError(
            f"{run} is {record.get('status', 'of unknown state')} after"
            f" {record.get('epochs', 0)} epochs",
            expected="a finished run",
            action="Finish it with: dermfuse train ... --resume",
        )
    with new_predictions(out) as folder, TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "test"
        report = predict(run, data=data, split="test", out=unpacked, progress=progress)
        predictions = read_predictions(unpacked)
        if predictions.scores is not None:
            write_scores(folder / SCORES_NAME, predictions.scores)
        if predictions.masks:
            with atomic_write(folder / f"{MASKS_NAME}.zip") as handle:
                handle.write(_zipped(list(predictions.masks.values())))
        write_json(folder / "run.json", record)
    size = sum(path.stat().st_size for path in out.iterdir())
    return SubmissionReport(out, report.task, report.images, round(size / 1e6, 3))


def _zipped(masks: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in masks:
            name = zipfile.ZipInfo(f"{MASKS_NAME}/{path.name}", _EPOCH_OF_ZIP)
            name.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(name, path.read_bytes())
    return buffer.getvalue()
