"""The challenge's own scorer, on the same files, to 1e-9."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.evaluation.evaluate import evaluate
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import mask_path

scoring = pytest.importorskip("isic_challenge_scoring", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The scorer is older than the pandas and the scikit-learn beneath it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("decimals", [1, 2, 17])  # few decimals, many ties
def test_classification_agrees(folders: Any, decimals: int) -> None:
    import pandas as pd

    rng = np.random.default_rng(decimals)
    ids = [f"ISIC_90{i:05d}" for i in range(379)]
    malignant = rng.random(379) < 0.2
    scores = np.clip(rng.normal(0.35 + 0.25 * malignant, 0.2), 0, 1).round(decimals)
    predictions = folders.scores(dict(zip(ids, scores.tolist(), strict=True)))
    truth = folders.labels({i: str(float(m)) for i, m in zip(ids, malignant, strict=True)})

    # The scorer's frames, read from our files: its own reader does not work with pandas 3.
    columns = {"score": "MEL", "label": "MEL"}
    true_frame, score_frame = (
        pd.read_csv(path, index_col="image_id", dtype={"label": float})
        .rename(columns=columns)
        .sort_index()
        for path in (truth / "labels.csv", predictions / "scores.csv")
    )
    weights = pd.DataFrame(1.0, true_frame.index, ["score_weight", "validation_weight"])
    metric = scoring.ClassificationMetric.AVERAGE_PRECISION
    official = scoring.ClassificationScore(true_frame, score_frame, weights, metric)

    ours = evaluate(predictions, truth, draws=2).classification
    assert ours is not None
    assert ours.average_precision.value == pytest.approx(official.overall, abs=1e-9)
    theirs = official.macro_average
    assert ours.average_precision.value == pytest.approx(theirs["ap"], abs=1e-9)
    assert ours.auc.value == pytest.approx(theirs["auc"], abs=1e-9)
    for name in ("accuracy", "sensitivity", "specificity"):
        assert getattr(ours, name).value == pytest.approx(theirs[name], abs=1e-9)


def test_segmentation_agrees(folders: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = {}, {}
    for i in range(24):
        size = (int(rng.integers(16, 60)), int(rng.integers(16, 60)))
        truth[f"ISIC_90000{i:02d}"] = rng.random(size) < rng.random()
        predicted[f"ISIC_90000{i:02d}"] = truth[f"ISIC_90000{i:02d}"] ^ (
            rng.random(size) < 0.5 * rng.random()
        )
    # The cases that the formulas leave undefined, and a perfect one.
    shape = (20, 30)
    special = {
        "90": (np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)),
        "91": (np.zeros(shape, dtype=bool), np.eye(*shape, dtype=bool)),
        "92": (np.ones(shape, dtype=bool), np.eye(*shape, dtype=bool)),
        "93": (np.eye(*shape, dtype=bool), np.zeros(shape, dtype=bool)),
        "94": (np.eye(*shape, dtype=bool), np.eye(*shape, dtype=bool)),
    }
    for number, (true_mask, predicted_mask) in special.items():
        truth[f"ISIC_90000{number}"] = true_mask
        predicted[f"ISIC_90000{number}"] = predicted_mask
    truth_folder, folder = folders.masks(truth, "truth"), folders.masks(predicted)
    official = scoring.SegmentationScore.from_dir(truth_folder / "masks", folder / "masks")

    ours = evaluate(folder, truth_folder, draws=2).segmentation
    assert ours is not None
    theirs = official.macro_average
    for name in ("jaccard", "dice", "accuracy", "sensitivity", "specificity"):
        assert getattr(ours, name).value == pytest.approx(theirs[name], abs=1e-9)
    assert ours.thresholded_jaccard.value == pytest.approx(theirs["threshold_jaccard"], abs=1e-9)


def test_grey_masks_are_split_where_the_scorer_splits_them(folders: Any, tmp_path: Path) -> None:
    from PIL import Image

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    folder, truth = tmp_path / "p", tmp_path / "t"
    write_mask(mask_path(truth, "ISIC_9000000"), ramp > 100)
    path = mask_path(folder, "ISIC_9000000")
    path.parent.mkdir(parents=True)
    Image.fromarray(ramp).save(path)
    official = scoring.SegmentationScore.from_dir(truth / "masks", folder / "masks")
    ours = evaluate(folder, truth, draws=2).segmentation
    assert ours is not None
    assert ours.jaccard.value == pytest.approx(official.macro_average["jaccard"], abs=1e-9)
