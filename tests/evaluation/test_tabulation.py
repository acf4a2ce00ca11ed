from pathlib import Path

import numpy as np
import pytest

from dermfuse.evaluation.tables import measure, render_tables
from dermfuse.predictions.folder import SCORES_NAME, Manifest, write_manifest
from dermfuse.predictions.scores import ScoreTable, write_scores


@pytest.fixture
def predicted(tmp_path: Path) -> tuple[Path, Path]:
    truth = tmp_path / "truth"
    truth.mkdir()
    ids = [f"ISIC_{i:07d}" for i in range(8)]
    rows = [f"{image_id},{int(i >= 4)}" for i, image_id in enumerate(ids)]
    (truth / "labels.csv").write_text("\n".join(["image_id,label", *rows]) + "\n")
    folder = tmp_path / "predicted"
    folder.mkdir()
    write_scores(folder / SCORES_NAME, ScoreTable(tuple(ids), np.linspace(0.1, 0.9, 8)))
    details = {
        "epoch": 3,
        "epochs": 5,
        "device": "CPU",
        "machine": "a machine",
        "precision": "32-true",
        "data": "eight images",
    }
    manifest = Manifest("classification", source="net, seed 0", split="validation", details=details)
    write_manifest(folder, manifest)
    return folder, truth


def test_a_table_names_all_that_a_number_must_name(predicted: tuple[Path, Path]) -> None:
    folder, truth = predicted
    tables = render_tables(measure([folder], truth=truth, draws=50))
    row = tables.splitlines()[2]
    assert "net, seed 0 | validation | 3 of 5 | 8 (4) | 1.000 (1.000 to 1.000)" in row
    for said in ("bootstrap, 50 draws", "lean upwards", "eight images", "CPU (a machine, 32-true)"):
        assert said in tables
