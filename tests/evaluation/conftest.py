"""Small truth and predictions folders to evaluate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import mask_path
from dermfuse.predictions.scores import ScoreTable, write_scores


class Folders:
    """Writes truth and predictions folders below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def labels(self, labels: Mapping[str, str], name: str = "truth") -> Path:
        lines = [f"{image_id},{label}\n" for image_id, label in labels.items()]
        (self.root / name).mkdir(exist_ok=True)
        (self.root / name / "labels.csv").write_text("".join(["image_id,label\n", *lines]))
        return self.root / name

    def scores(self, scores: Mapping[str, float], name: str = "a") -> Path:
        table = ScoreTable(tuple(scores), np.array(list(scores.values())))
        write_scores(self.root / name / "scores.csv", table)
        return self.root / name

    def masks(self, masks: Mapping[str, NDArray[np.bool_]], name: str = "a") -> Path:
        for image_id, mask in masks.items():
            write_mask(mask_path(self.root / name, image_id), mask)
        return self.root / name


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)
