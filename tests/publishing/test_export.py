import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import DataError, ExportError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.imaging.preprocess import read_image, squeeze
from dermfuse.publishing.export import export_runs, held_out
from dermfuse.publishing.onnx import load_calibration
from dermfuse.release.cards import read_card
from dermfuse.training.prediction import load_run, predict


def test_a_run_becomes_three_networks_measured_as_predict_and_evaluate_do(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    report = export_runs([made_run], data=drawn, out=tmp_path / "out", int8=True, calibration=4)
    found = {network.card.name: network.card for network in report.networks}
    assert list(found) == ["joint", "joint-int8", "joint-int8-weights"]
    for name, card in found.items():
        assert read_card(tmp_path / "out" / f"{name}.json") == card
        assert (card.epoch, card.training["data"]) == (3, "drawn, 20 images")
        assert (card.measured.split, card.measured.n) == ("validation", 10)
        assert set(card.measured.metrics) == {"float32", card.precision}
    float32, int8 = (found[name].measured.metrics for name in ("joint", "joint-int8"))
    for metric in ("auc", "average_precision", "jaccard"):
        expected = float32["float32"][metric] - int8["int8"][metric]
        assert report.networks[1].cost[metric] == pytest.approx(expected)
    assert report.networks[0].speed == 1
    assert json.loads(json.dumps(report.to_dict()))["networks"][0]["cost"] == {}
    predict(made_run, data=drawn, split="validation", out=tmp_path / "predicted")
    same = evaluate(tmp_path / "predicted", drawn, draws=10, allow_partial=True).to_dict()
    jaccard, auc = same["segmentation"]["jaccard"], same["classification"]["auc"]
    assert float32["float32"]["jaccard"] == pytest.approx(jaccard["value"], abs=1e-3)
    assert float32["float32"]["auc"] == pytest.approx(auc["value"], abs=0.05)


def test_calibration_images_are_the_runs_training_images(made_run: Path, drawn: Path) -> None:
    trained = load_run(made_run)
    chosen = load_calibration(trained, drawn, count=6)
    assert np.array_equal(chosen, load_calibration(trained, drawn, count=6))
    lesions = load_isic2016(drawn, "train").lesions[10:]
    seen = {squeeze(read_image(lesion.image_path), 32).tobytes() for lesion in lesions}
    assert {image.tobytes() for image in chosen} < seen
    assert len(load_calibration(trained, drawn, count=999)) == 20


def test_a_run_without_validation_images_of_its_own_is_not_measured(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "paper-split"
    shutil.copytree(made_run, run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace('split = "source"', 'split = "paper"'))
    assert held_out(load_run(run), drawn) == []
    (network,) = export_runs([run], data=drawn, out=tmp_path / "out").networks
    assert (network.card.measured, network.cost) == (None, {})


def test_runs_of_one_name_and_data_of_another_run_are_refused(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="two runs are called joint"):
        export_runs([made_run, made_run], data=drawn, out=tmp_path / "out")
    with pytest.raises(DataError):
        export_runs([made_run], data=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
