"""What teachers predict for images that they held back: a part of a pupil's target.

A network that learnt an image by heart has nothing to teach about it, and would carry what it
remembers into the pupil's out-of-fold numbers. So a run teaches the images it validated on, and
no other; the runs of one recipe in folds teach all of them together.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dermfuse.config import Config, has_masks, has_scores, load_config
from dermfuse.data.folders import DataFolders
from dermfuse.data.splits import read_split
from dermfuse.errors import DermfuseError, RunError
from dermfuse.predictions.folder import MANIFEST_NAME, Predictions, name_some, read_predictions
from dermfuse.predictions.scores import read_scores
from dermfuse.records.folders import RunFolder, is_fresh
from dermfuse.release.folder import OUT_OF_FOLD_NAME, RELEASE_NAME
from dermfuse.training.prediction import keep_predictions, predict
from dermfuse.training.samples import Lessons

HELD_OUT_NAME = "held-out"
"""The predictions folder in a teacher's run folder; the first pupil writes it, and again the first
after the teacher was trained on."""


def ask_teachers(config: Config, data: DataFolders, learnt: Sequence[str]) -> Lessons | None:
    """Returns what ``train.teachers`` predict for the training images; None without teachers.

    Args:
        config: Configuration of the pupil.
        data: The dataset folders the teachers were trained on.
        learnt: Ids of the images the pupil is trained on.

    Raises:
        RunError: A teacher is neither run nor release, answers another task, or an image is held
            back by none of them.
    """
    if not config.train.teachers:
        return None
    teachers, task = [Path(name) for name in config.train.teachers], config.model.task
    found = _scores(teachers, data) if has_scores(task) else None
    maps = _maps(teachers, data) if has_masks(task) else None
    for kind, taught in (("a score", found), ("a mask", maps)):
        untaught = [] if taught is None else sorted(set(learnt) - taught.keys())
        if untaught:
            raise RunError(
                f"no teacher of {kind} held back {name_some(untaught)}"
                f" ({len(untaught)} of {len(learnt)} images)",
                expected="for every image a teacher that was not trained on it",
                action="Name the runs of all folds in train.teachers",
            )
    scores = None if found is None else {key: float(np.mean(each)) for key, each in found.items()}
    return Lessons(scores, maps or {})


def _scores(teachers: Sequence[Path], data: DataFolders) -> dict[str, list[float]]:
    by_image: dict[str, list[float]] = {}
    for teacher in teachers:
        if (teacher / RELEASE_NAME).is_file():
            table = read_scores(teacher / OUT_OF_FOLD_NAME)
            found = dict(zip(table.image_ids, table.scores.tolist(), strict=True))
        else:
            found = _held_out(teacher, data, "scores").score_by_id()
        for image_id, score in found.items():
            by_image.setdefault(image_id, []).append(score)
    return by_image


def _maps(teachers: Sequence[Path], data: DataFolders) -> dict[str, list[Path]]:
    by_image: dict[str, list[Path]] = {}
    for teacher in teachers:
        for image_id, path in _held_out(teacher, data, "masks").probabilities.items():
            by_image.setdefault(image_id, []).append(path)
    return by_image


def _held_out(teacher: Path, data: DataFolders, answers: str) -> Predictions:
    """Returns what a run predicts for its validation images, and keeps it in the run folder."""
    folder = RunFolder(teacher)
    folder.require_run(expected="a run or a release that can teach")
    config = load_config(folder.config)
    task = config.model.task
    if not (has_scores if answers == "scores" else has_masks)(task):
        raise RunError(
            f"the teacher {teacher} answers {task} alone",
            expected=f"a teacher that answers {answers}",
            action="Name another run in train.teachers",
        )
    if config.data.split != "source" or not read_split(folder.split).validation:
        raise RunError(
            f"the teacher {teacher} was trained on every image (data.split {config.data.split})",
            expected="a run that held images back, to teach those",
            action="Name the runs of its folds in train.teachers",
        )
    out = teacher / HELD_OUT_NAME
    answer = partial(
        predict,
        teacher,
        data=data,
        split="validation",
        out=out,
        probabilities=has_masks(task),
        tta=True,
    )
    try:
        keep_predictions(out, [folder.weights], answer)
    except DermfuseError:
        if not is_fresh(out / MANIFEST_NAME, [folder.weights]):  # else another pupil was faster
            raise
    return read_predictions(out)
