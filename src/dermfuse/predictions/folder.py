"""Predictions folders: what a model leaves behind for fusion, evaluation and figures.

    predictions.json                        what made them: task, source, split
    scores.csv                              image_id,score               (classification, joint)
    masks/ISIC_0000003_Segmentation.png     0 / 255, at the image's size (segmentation, joint)
    probabilities/ISIC_0000003.png          8-bit map, at the image's size      (optional)

``scores.csv`` or ``masks/`` alone is enough to be evaluated, so that predictions of other
programs can be: without ``predictions.json`` nothing is assumed about where they come from.

A submission holds the same scores, ``masks.zip`` (the masks under ``masks/``) and ``run.json``:
of a run its configuration, seed, epochs, validation metrics, versions and symmetries (8 with
test-time augmentation, else 1); else the manifest.
"""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import Task, has_masks, has_scores
from dermfuse.errors import PredictionsError
from dermfuse.imaging.masks import MASK_SUFFIX, image_of_mask
from dermfuse.imaging.preprocess import image_files
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores
from dermfuse.records import build_record, require_format
from dermfuse.records.folders import (
    NAME_BYTES,
    NOTICE,
    atomic_write,
    read_json,
    short_name,
    whole_folder,
    write_json,
)

FORMAT = 1
"""The version of the folder's layout."""

MANIFEST_NAME = "predictions.json"
SCORES_NAME = "scores.csv"
MASKS_NAME = "masks"
PROBABILITIES_NAME = "probabilities"
RECORD_NAME = "run.json"
_EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # the same masks give the same archive

new_predictions = partial(whole_folder, what="predictions")
"""A context whose folder becomes the predictions folder at the end, whole or not at all."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``predictions.json``.

    Args:
        task: What was predicted; None where there is no manifest to say so.
        source: Who predicted, in words: a preset and its run, a fusion of two sources.
        split: ``train``, ``validation`` or ``test``; empty where it is not known.
        threshold: The score, or probability of a pixel, that was taken for "lesion".
        calibrated: Whether scores were calibrated after training.
        withheld: Images of which nothing is predicted, as they are unlike those learnt from.
        details: Other JSON values to keep: seed, epochs, weights of a fusion.
    """

    task: Task | None = None
    source: str = ""
    split: str = ""
    threshold: float = 0.5
    calibrated: bool = False
    withheld: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object; details stand beside the fixed keys."""
        fixed = asdict(self)
        details = fixed.pop("details")
        return {**details, "format": FORMAT, **fixed, "notice": NOTICE}


@dataclass(frozen=True, slots=True)
class Predictions:
    """A predictions folder that was read; masks and maps are still on disk.

    Args:
        folder: Where they lie.
        manifest: What made them.
        scores: One score per image, for classification.
        masks: The mask file of each image, for segmentation; sorted by id.
        probabilities: The probability map of each image, where they were kept; sorted by id.
    """

    folder: Path
    manifest: Manifest
    scores: ScoreTable | None
    masks: Mapping[str, Path]
    probabilities: Mapping[str, Path]

    def score_by_id(self) -> dict[str, float]:
        """Returns the score of each image; none for segmentation alone."""
        if self.scores is None:
            return {}
        return dict(zip(self.scores.image_ids, self.scores.scores.tolist(), strict=True))


def read_predictions(folder: str | Path, *, allow_withheld: bool = False) -> Predictions:
    """Returns what a predictions folder holds.

    Args:
        folder: Where it lies.
        allow_withheld: Whether images may have been withheld; who counts them asks for it.

    Raises:
        PredictionsError: The folder is missing or holds neither scores nor masks; the manifest
            is damaged or promises what is not there; the score table is not valid; images were
            withheld.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PredictionsError(
            f"{folder} is {'not a folder' if folder.exists() else 'missing'}",
            expected=f"a folder with {SCORES_NAME} or {MASKS_NAME}/",
            action="Write one with: dermfuse predict",
        )
    manifest = _read_manifest(folder)
    scores_path = folder / SCORES_NAME
    scores = read_scores(scores_path) if scores_path.is_file() else None
    ids = scores.image_ids if scores else ()
    predictions = Predictions(
        folder=folder,
        manifest=manifest,
        scores=scores,
        masks=_with_whole_ids(_files_by_id(folder / MASKS_NAME, masks=True), ids),
        probabilities=_with_whole_ids(_files_by_id(folder / PROBABILITIES_NAME), ids),
    )
    _check_task(predictions)
    _check_withheld(predictions)
    if manifest.withheld and not allow_withheld:
        raise withheld_error(folder, manifest.withheld)
    return predictions


def withheld_error(folder: Path, names: Sequence[str]) -> PredictionsError:
    """Returns the error for images that have no prediction, where all need one."""
    return PredictionsError(
        f"{name_some(names)} of {folder} {'was' if len(names) == 1 else 'were'} withheld: unlike "
        "the images learnt from",
        expected="a prediction for every image",
        action="Leave them out, or analyse into a new folder with --score-all",
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes ``predictions.json``.

    Raises:
        StorageError: The file cannot be written.
    """
    write_json(folder / MANIFEST_NAME, manifest.to_dict())


def mask_path(folder: Path, image_id: str) -> Path:
    """Returns where the mask of an image lies in a predictions folder.

    Example:
        >>> mask_path(Path("out"), "ISIC_0000003").as_posix()
        'out/masks/ISIC_0000003_Segmentation.png'
    """
    return folder / MASKS_NAME / f"{_file_id(image_id)}{MASK_SUFFIX}.png"


def probability_path(folder: Path, image_id: str) -> Path:
    """Returns where the probability map of an image lies in a predictions folder.

    Example:
        >>> probability_path(Path("out"), "ISIC_0000003").as_posix()
        'out/probabilities/ISIC_0000003.png'
    """
    return folder / PROBABILITIES_NAME / f"{_file_id(image_id)}.png"


def name_some(image_ids: Sequence[str], *, most: int = 3) -> str:
    """Returns the first ids in words, for messages.

    Example:
        >>> name_some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    rest = len(image_ids) - most
    return ", ".join(image_ids[:most]) + (f" and {rest} more" if rest > 0 else "")


def size_in_words(mask: NDArray[np.generic]) -> str:
    """Returns the size of an image array as people say it, width first."""
    return f"{mask.shape[1]} x {mask.shape[0]} pixels"


def check_same_images(a: Predictions, b: Predictions, ids_a: set[str], ids_b: set[str]) -> None:
    """Raises PredictionsError, naming some, if an image is predicted by one of two only."""
    for one, ids, other, other_ids in ((a, ids_a, b, ids_b), (b, ids_b, a, ids_a)):
        only = sorted(ids - other_ids)
        if only:
            raise PredictionsError(
                f"{name_some(only)}: predicted in {one.folder} and not in {other.folder}",
                expected="the same images in both",
                action="Predict the same split with both models",
            )


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


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    if not path.exists():
        return Manifest()
    record = read_json(path, error=PredictionsError)
    again = "Predict again with this version of dermfuse"
    details = require_format(record, FORMAT, str(path), error=PredictionsError, action=again)
    kept = {each.name for each in fields(Manifest)} & details.keys()
    values = {key: details.pop(key) for key in kept}
    values |= {"details": details, "task": record.get("task") or ""}  # who writes names the task
    return build_record(Manifest, values, str(path), error=PredictionsError)


def _check_task(predictions: Predictions) -> None:
    """Refuses a folder that lacks what its manifest promises, or has nothing at all."""
    task, folder = predictions.manifest.task, predictions.folder
    lacks_scores, lacks_masks = predictions.scores is None, not predictions.masks
    if lacks_scores and lacks_masks:
        found, expected = "neither scores nor masks", f"{SCORES_NAME} or {MASKS_NAME}/*.png"
    elif task is not None and has_scores(task) and lacks_scores:
        found, expected = "no scores", f"{SCORES_NAME}, as {MANIFEST_NAME} says {task}"
    elif task is not None and has_masks(task) and lacks_masks:
        found, expected = "no masks", f"{MASKS_NAME}/*.png, as {MANIFEST_NAME} says {task}"
    else:
        return
    raise PredictionsError(
        f"{folder} holds {found}", expected=expected, action="Write it with: dermfuse predict"
    )


def _check_withheld(predictions: Predictions) -> None:
    """Refuses a folder that predicts what its manifest says was withheld."""
    predicted = predictions.score_by_id().keys() | predictions.masks.keys()
    both = sorted(predicted & set(predictions.manifest.withheld))
    if both:
        raise PredictionsError(
            f"{predictions.folder} predicts {name_some(both)}, withheld by {MANIFEST_NAME}",
            expected="each image predicted or withheld",
        )


def _file_id(image_id: str) -> str:
    """Returns an image id as it can stand in the names of its files."""
    return short_name(image_id, most_bytes=NAME_BYTES - len(f"{MASK_SUFFIX}.png"))


def _with_whole_ids(files: Mapping[str, Path], image_ids: Sequence[str]) -> dict[str, Path]:
    """Returns files by the ids of the score table, whose names may be too long for a file."""
    whole = {_file_id(image_id): image_id for image_id in image_ids}
    return dict(sorted((whole.get(each, each), path) for each, path in files.items()))


def _files_by_id(folder: Path, *, masks: bool = False) -> dict[str, Path]:
    """Returns the file of each image id in a folder that may be missing, sorted by id."""
    files: dict[str, Path] = {}
    if not folder.is_dir():
        return files
    for path in image_files(folder):
        image_id = image_of_mask(path) if masks else path.stem
        if image_id in files:
            raise PredictionsError(
                f"{folder} holds {files[image_id].name} and {path.name}",
                expected="one file for each image",
                action="Remove one of them",
            )
        files[image_id] = path
    return dict(sorted(files.items()))
