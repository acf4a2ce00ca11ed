"""The small release, with what ``dermfuse export`` measures written into it by hand."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dermfuse.config import Config
from dermfuse.release.folder import Gate, read_release, write_release

from .small_release import CALIBRATION, write_small_release

CALIBRATED = {
    "calibration": asdict(CALIBRATION),
    "images": 895,
    "malignant": 172,
    "error_before": 0.0899,
    "error_of_temperature": 0.0828,
    "error_after": 0.0294,
    "mean_before": 0.2222,
    "mean_after": 0.1923,
}
FACTS = {
    "precision": "float32",
    "data": "isic2016",
    "fold_runs": ["reds-fold1of3", "reds-fold2of3"],
    "recipes": {"reds": Config(name="reds").override(["train.epochs=7"]).to_mapping()},
    "told_apart": {},
    "measured_on": {"machine": "Linux x86_64, 2 logical cores", "versions": {"numpy": "2.4.6"}},
    "energy_kwh": 0.25,
}


def write_measured_release(folder: Path) -> Path:
    """Writes the release: two class networks, a mask network, a gate; all of it measured."""
    release = read_release(write_small_release(folder))
    scored = {
        "images": 895,
        "malignant": 172,
        "how": "out of fold",
        "fusion": _ranking(0.8123),
        "networks": {"reds-a": _ranking(0.7912), "reds-b": _ranking(0.8011)},
        "calibration": CALIBRATED,
    }
    outlined = {
        "images": 856,
        "how": "out of fold",
        "fusion": {"jaccard": _rate(0.8433)},
        "networks": {"greens": {"jaccard": _rate(0.8433)}},
    }
    told = {
        "dermoscopy held back": {"images": 895, "flagged": 0.0402},
        "photographs": {"images": 105, "flagged": 0.9524},
    }
    measured = replace(
        release,
        classes=replace(release.classes, measured=scored),
        masks=replace(release.masks, measured=outlined),
        gate=Gate("dermoscopy.npz", "0" * 64, 1.346, told),
        facts=FACTS,
    )
    write_release(folder, measured)
    return folder


def _ranking(auc: float) -> dict[str, Any]:
    return {"auc": _rate(auc), "average_precision": _rate(auc - 0.25)}


def _rate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.04, "high": value + 0.03}
