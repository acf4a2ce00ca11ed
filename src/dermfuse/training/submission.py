"""The test split, predicted by a finished run and packed; see ``dermfuse.packing``."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dermfuse.data.folders import DataFolders
from dermfuse.errors import RunError
from dermfuse.packing import SubmissionReport, pack
from dermfuse.predictions import read_predictions
from dermfuse.runs import RunFolder, require_free
from dermfuse.training.prediction import predict


def submit(
    run: str | Path,
    *,
    data: DataFolders,
    out: str | Path,
    tta: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SubmissionReport:
    """Predicts the test split with a finished run and packs the predictions, all or nothing.

    Args:
        run: The run folder.
        data: The dataset folder with the test images, or several.
        out: Where to write; new or empty.
        tta: Packs the mean over the eight symmetries of the square, as ``predict`` does; the
            packed record says so.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run is not finished, or the run or the data cannot be used.
    """
    run = Path(run)
    out = Path(out)
    _finished_record(run)
    require_free(out, what="predictions")
    with TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "test"
        predict(run, data=data, split="test", out=unpacked, tta=tta, progress=progress)
        return pack_run(unpacked, out, run=run)


def pack_run(predictions: Path, out: Path, *, run: Path) -> SubmissionReport:
    """Packs what a finished run predicted, all or nothing.

    Args:
        predictions: A predictions folder.
        out: Where to write; new or empty.
        run: The run that predicted.

    Raises:
        DermfuseError: If the run is not finished, or the predictions cannot be read.
    """
    symmetries = read_predictions(predictions).manifest.details.get("symmetries", 1)
    return pack(predictions, out, record={**_finished_record(run), "symmetries": symmetries})


def _finished_record(run: Path) -> dict[str, Any]:
    record = RunFolder(run).read_record()
    if record.get("status") != "finished":
        raise RunError(
            f"{run} is {record.get('status', 'of unknown state')} after"
            f" {record.get('epochs', 0)} epochs",
            expected="a finished run",
            action="Finish it with: dermfuse train ... --resume",
        )
    return record
