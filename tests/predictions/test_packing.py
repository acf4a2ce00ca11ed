import zipfile
from pathlib import Path

import numpy as np

from dermfuse.folders import read_json
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import Manifest, mask_path, write_manifest
from dermfuse.predictions.packing import pack
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores


def test_a_fusion_is_packed_with_its_manifest_for_a_record(tmp_path: Path) -> None:
    fused = tmp_path / "fused"
    write_scores(fused / "scores.csv", ScoreTable(("a", "b"), np.array([0.2, 0.7])))
    manifest = Manifest("classification", "fusion of A and B", "test", details={"weight": 0.4})
    write_manifest(fused, manifest)
    write_mask(mask_path(fused, "a"), np.eye(16, dtype=bool))
    report = pack(fused, tmp_path / "out")
    assert (report.task, report.images) == ("classification", 2)
    assert report.to_dict()["out"] == str(tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "masks.zip") as masks:
        assert masks.read("masks/a_Segmentation.png") == mask_path(fused, "a").read_bytes()
    record = read_json(tmp_path / "out" / "run.json")
    assert (record["source"], record["weight"]) == ("fusion of A and B", 0.4)
    assert read_scores(tmp_path / "out" / "scores.csv").scores.tolist() == [0.2, 0.7]
