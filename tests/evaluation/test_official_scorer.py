"""The challenge's own scorer, on the same files, to 1e-9."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.evaluation.evaluate import evaluate

scoring = pytest.importorskip("isic_challenge_scoring", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The scorer is older than the pandas and the scikit-learn beneath it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("decimals", [1, 17])  # few decimals, many ties
def test_classification_agrees(folders: Any, decimals: int) -> None:
    import pandas as pd

    rng = np.random.default_rng(decimals)
    ids = [f"ISIC_90{i:05d}" for i in range(379)]
    malignant = rng.random(379) < 0.2
    scores = np.clip(rng.normal(0.35 + 0.25 * malignant, 0.2), 0, 1).round(decimals)
    predictions = folders.scores(dict(zip(ids, scores.tolist(), strict=True)))
    truth = folders.labels({i: str(float(m)) for i, m in zip(ids, malignant, strict=True)})
    # The scorer's frames are made here: its own reader does not work with pandas 3.
    frames = (pd.DataFrame({"MEL": values}, ids) for values in (malignant.astype(float), scores))
    weights = pd.DataFrame(1.0, ids, ["score_weight", "validation_weight"])
    metric = scoring.ClassificationMetric.AVERAGE_PRECISION
    official = scoring.ClassificationScore(*frames, weights, metric)
    ours = evaluate(predictions, truth, draws=2).classification
    assert ours.average_precision.value == pytest.approx(official.overall, abs=1e-9)
    for name in ("auc", "accuracy", "sensitivity", "specificity"):
        assert getattr(ours, name).value == pytest.approx(official.macro_average[name], abs=1e-9)


def test_segmentation_agrees(folders: Any) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = {}, {}
    for i in range(24):
        size = rng.integers(16, 60, 2)
        truth[f"ISIC_90000{i:02d}"] = true = rng.random(size) < rng.random()
        predicted[f"ISIC_90000{i:02d}"] = true ^ (rng.random(size) < 0.5 * rng.random())
    empty, line = np.zeros((20, 30), dtype=bool), np.eye(20, 30, dtype=bool)
    pairs = ((empty, empty), (empty, line), (~empty, line), (line, empty))  # some are undefined
    for number, (truth_mask, mask) in enumerate(pairs, start=90):
        truth[f"ISIC_90000{number}"], predicted[f"ISIC_90000{number}"] = truth_mask, mask
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    truth_folder = folders.masks({**truth, "ISIC_9000099": ramp > 100}, "truth")
    folder = folders.masks(predicted)
    Image.fromarray(ramp).save(folder / "masks" / "ISIC_9000099_segmentation.png")  # grey
    official = scoring.SegmentationScore.from_dir(truth_folder / "masks", folder / "masks")
    ours = evaluate(folder, truth_folder, draws=2).segmentation
    theirs = {**official.macro_average}
    assert ours.thresholded_jaccard.value == pytest.approx(theirs["threshold_jaccard"], abs=1e-9)
    for name in ("jaccard", "dice", "accuracy", "sensitivity", "specificity"):
        assert getattr(ours, name).value == pytest.approx(theirs[name], abs=1e-9)
