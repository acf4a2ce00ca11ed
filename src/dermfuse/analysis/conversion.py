"""A results folder as a predictions folder: for evaluation, comparison and fusion."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dermfuse.analysis.batch import MANIFEST_NAME, read_results
from dermfuse.analysis.tables import picture_file
from dermfuse.errors import PredictionsError
from dermfuse.predictions.folder import (
    SCORES_NAME,
    Manifest,
    SubmissionReport,
    mask_path,
    name_some,
    new_predictions,
    pack,
    withheld_error,
    write_manifest,
)
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.records.folders import read_json, require_free


def convert_results(results: str | Path, out: str | Path) -> Manifest:
    """Writes what ``dermfuse analyze`` left as a predictions folder; all or nothing.

    An image's id is its name without folder and suffix, its score the calibrated probability, and
    the manifest's threshold that of the operating point: a score above it is called malignant
    where the analysis called it so, and nowhere else.

    Args:
        results: A results folder; masks are taken along where all images have one that are not
            withheld.
        out: Where to write; new or empty.

    Returns:
        The manifest of the predictions; it lists what was withheld.

    Raises:
        RunError: ``results`` holds none.
        PredictionsError: An image failed, all are withheld, two have one id, or only some have a
            mask.
    """
    results, out = Path(results), Path(out)
    found = _read(results)
    known = {name: score for name, score in sorted(found.scores.items()) if score is not None}
    withheld = sorted(found.scores.keys() - known.keys())
    if not known:
        raise withheld_error(results, withheld)
    missing = [image_id for image_id in known if not found.masks[image_id].is_file()]
    if 0 < len(missing) < len(known):
        raise PredictionsError(
            f"{len(missing)} of {len(known)} images of {results} have no mask "
            f"({name_some(missing)})",
            expected="a mask for every image, or for none",
            action="Analyse them again into a new folder with --masks",
        )
    identity = read_json(results / MANIFEST_NAME).get("identity", {})
    manifest = Manifest(
        task="classification" if missing else "joint",
        source=f"release {identity.get('release', 'of unknown name')}",
        threshold=_just_below(found.threshold),
        calibrated=True,
        withheld=tuple(withheld),
        details={"analysis": identity, "operating_point": found.point},
    )
    with new_predictions(out) as folder:
        write_scores(folder / SCORES_NAME, ScoreTable(tuple(known), np.array([*known.values()])))
        for image_id in () if missing else known:
            target = mask_path(folder, image_id)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(found.masks[image_id], target)
        write_manifest(folder, manifest)
    return manifest


def pack_results(results: str | Path, out: str | Path) -> SubmissionReport:
    """Packs results as predictions are packed for scoring elsewhere; all or nothing.

    Args:
        results: A results folder.
        out: Where to write; new or empty.

    Raises:
        DermfuseError: See ``convert_results``; or an image was withheld.
    """
    results, out = Path(results), Path(out)
    require_free(out, what="predictions")
    with TemporaryDirectory() as scratch:
        converted = Path(scratch) / "predictions"
        if withheld := convert_results(results, converted).withheld:
            raise withheld_error(results, withheld)
        return pack(converted, out)


@dataclass(frozen=True, slots=True)
class _Results:
    """What predictions need of results.

    Attributes:
        scores: The probability of each image by its id; None where it is withheld.
        masks: Where the mask of each lies, if it has one.
        point: The operating point's name.
        threshold: Its threshold.
    """

    scores: dict[str, float | None]
    masks: dict[str, Path]
    point: str
    threshold: float


def _read(results: Path) -> _Results:
    scores: dict[str, float | None] = {}
    masks: dict[str, Path] = {}
    points: set[tuple[str, float]] = set()
    for record in read_results(results):
        image_id = PurePath(record["name"]).stem.strip()  # as every table of ids is read
        if image_id in scores:
            raise PredictionsError(
                f"{results} holds two images called {image_id}",
                expected="names that differ without folder and suffix",
                action="Analyse the folders one by one",
            )
        try:
            scores[image_id] = _score(record, results)
            points.add((record["operating_point"], float(record["threshold"])))
        except (KeyError, TypeError, ValueError) as error:
            raise PredictionsError(
                f"{results}: the line of {record['name']} lacks what an analysis holds ({error})",
                expected="results of dermfuse analyze",
                action="Analyse the images again into a new folder",
            ) from error
        masks[image_id] = picture_file(results, record["name"], "mask")
    if len(points) != 1:
        raise PredictionsError(
            f"{results} holds {len(points) or 'no'} operating points",
            expected="results of one analysis",
            action="Analyse the images again into a new folder",
        )
    return _Results(scores, masks, *points.pop())


def _score(record: Mapping[str, Any], results: Path) -> float | None:
    """Returns the probability; None where it is withheld.

    It is from the threshold on if the image was called malignant, else below. Results are rounded,
    and may have crossed the threshold by that; nothing else moves.
    """
    if "error" in record:
        raise PredictionsError(
            f"{record['name']} of {results} could not be analysed",
            expected="results without a failure",
            action="See errors.csv; fix or remove the file and analyse again",
        )
    probability, threshold = record["malignant_probability"], float(record["threshold"])
    if probability is None:
        return None
    if record["predicted"] == "malignant":
        return max(float(probability), threshold)
    return min(float(probability), _just_below(threshold))


def _just_below(threshold: float) -> float:
    """Returns the number that is exceeded from the threshold on: evaluations call above theirs."""
    return math.nextafter(threshold, -1.0)
