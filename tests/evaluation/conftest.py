"""Small truth and predictions folders to evaluate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import mask_path
from dermfuse.predictions.scores import ScoreTable, write_scores

Mask = NDArray[np.bool_]


class Folders:
    """Writes truth and predictions folders below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def labels(self, labels: Mapping[str, str], name: str = "truth") -> Path:
        """Writes a plain truth folder of labels."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        lines = [f"{image_id},{label}\n" for image_id, label in labels.items()]
        (folder / "labels.csv").write_text("".join(["image_id,label\n", *lines]))
        return folder

    def scores(self, scores: Mapping[str, float], name: str = "a") -> Path:
        """Writes a predictions folder of scores."""
        folder = self.root / name
        write_scores(
            folder / "scores.csv", ScoreTable(tuple(scores), np.array(list(scores.values())))
        )
        return folder

    def masks(self, masks: Mapping[str, Mask], name: str = "a") -> Path:
        """Writes a folder of masks: predictions, and a plain truth folder alike."""
        folder = self.root / name
        for image_id, mask in masks.items():
            write_mask(mask_path(folder, image_id), mask)
        return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Folders below the test's own."""
    return Folders(tmp_path)
