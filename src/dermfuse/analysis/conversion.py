"""A results folder as a predictions folder: for evaluation, comparison and fusion."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dermfuse.analysis.batch import MANIFEST_NAME, read_results
from dermfuse.analysis.tables import mask_file
from dermfuse.errors import PredictionsError
from dermfuse.folders import read_json, require_free
from dermfuse.predictions.folder import (
    SCORES_NAME,
    Manifest,
    mask_path,
    name_some,
    new_predictions,
    withheld_error,
    write_manifest,
)
from dermfuse.predictions.packing import SubmissionReport, pack
from dermfuse.predictions.scores import ScoreTable, write_scores


def convert_results(results: str | Path, out: str | Path) -> Manifest:
    """Writes what ``dermfuse analyze`` left as a predictions folder; all or nothing.

    An image's id is its name without folder and suffix, its score the calibrated probability, and
    the manifest's threshold that of the operating point: a score above it is called malignant
    where the analysis said so, and nowhere else.

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
    results = Path(results)
    out = Path(out)
    scores: dict[str, float] = {}
    withheld: list[str] = []
    masks: dict[str, Path] = {}
    points: dict[str, float] = {}
    for record in read_results(results):
        image_id = PurePath(record["name"]).stem.strip()  # as every table of ids is read
        if image_id in scores or image_id in withheld:
            raise PredictionsError(
                f"{results} holds two images called {image_id}",
                expected="names that differ without folder and suffix",
                action="Analyse the folders one by one",
            )
        try:
            score = _score(record, results)
            points[record["operating_point"]] = float(record["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise PredictionsError(
                f"{results}: the line of {record['name']} lacks what an analysis says ({error})",
                expected="results of dermfuse analyze",
                action="Analyse the images again into a new folder",
            ) from error
        if score is None:
            withheld.append(image_id)
            continue
        scores[image_id] = score
        mask = mask_file(results, record["name"])
        if mask.is_file():
            masks[image_id] = mask
    if not scores:
        raise withheld_error(results, sorted(withheld))
    if masks and len(masks) < len(scores):
        raise PredictionsError(
            f"{len(scores) - len(masks)} of {len(scores)} images of {results} have no mask "
            f"({name_some(sorted(scores.keys() - masks.keys()))})",
            expected="a mask for every image, or for none",
            action="Analyse them again into a new folder with --masks",
        )
    point, threshold = _operating_point(points, results)
    manifest = Manifest(
        task="joint" if masks else "classification",
        source=_source(results),
        threshold=_just_below(threshold),
        calibrated=True,
        withheld=tuple(sorted(withheld)),
        details={"analysis": _identity(results), "operating_point": point},
    )
    with new_predictions(out) as folder:
        ids = sorted(scores)
        table = ScoreTable(tuple(ids), np.array([scores[image_id] for image_id in ids]))
        write_scores(folder / SCORES_NAME, table)
        for image_id, mask in masks.items():
            target = mask_path(folder, image_id)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(mask, target)
        write_manifest(folder, manifest)
    return manifest


def pack_results(results: str | Path, out: str | Path) -> SubmissionReport:
    """Packs results as predictions are packed for scoring elsewhere; all or nothing.

    Args:
        results: A results folder.
        out: Where to write; new or empty.

    Raises:
        DermfuseError: As for ``convert_results``, or an image was withheld.
    """
    results = Path(results)
    out = Path(out)
    require_free(out, what="predictions")
    with TemporaryDirectory() as scratch:
        converted = Path(scratch) / "predictions"
        withheld = convert_results(results, converted).withheld
        if withheld:
            raise withheld_error(results, withheld)
        return pack(converted, out)


def _score(record: Mapping[str, Any], results: Path) -> float | None:
    """Returns the probability; None where it is withheld."""
    if "error" in record:
        raise PredictionsError(
            f"{record['name']} of {results} could not be analysed",
            expected="results without a failure",
            action="See errors.csv; mend or remove the file and analyse again",
        )
    probability = record["malignant_probability"]
    return None if probability is None else _on_its_side(float(probability), record)


def _on_its_side(probability: float, record: Mapping[str, Any]) -> float:
    """Returns a probability from the threshold on if the image was called malignant, else below.

    Results are rounded, and may have crossed the threshold by that; nothing else moves.
    """
    threshold = float(record["threshold"])
    if record["predicted"] == "malignant":
        return max(probability, threshold)
    return min(probability, _just_below(threshold))


def _just_below(threshold: float) -> float:
    """Returns the number that is exceeded from the threshold on: evaluations call above theirs."""
    return math.nextafter(threshold, -1.0)


def _operating_point(points: Mapping[str, float], results: Path) -> tuple[str, float]:
    if len(points) != 1:
        raise PredictionsError(
            f"{results} holds {len(points) or 'no'} operating points",
            expected="results of one analysis",
            action="Analyse the images again into a new folder",
        )
    ((name, threshold),) = points.items()
    return name, threshold


def _identity(results: Path) -> Mapping[str, Any]:
    identity: Mapping[str, Any] = read_json(results / MANIFEST_NAME).get("identity", {})
    return identity


def _source(results: Path) -> str:
    return f"release {_identity(results).get('release', 'of unknown name')}"
