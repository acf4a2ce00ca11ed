import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import DataError, ExportError
from dermfuse.evaluation import evaluate as evaluation
from dermfuse.imaging.preprocess import read_image, squeeze
from dermfuse.publishing.export import export_runs
from dermfuse.publishing.onnx import load_calibration, load_held_out
from dermfuse.release.cards import read_card
from dermfuse.training import predict
from dermfuse.training.prediction import load_run


def test_a_run_becomes_three_networks_measured_on_its_validation_images(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    report = export_runs(
        [made_run],
        data=drawn,
        out=tmp_path,
        int8=True,
        calibration=4,
        progress=lambda *at: done.append(at),
    )
    assert done == [(1, 1)]
    names = [network.card.name for network in report.networks]
    assert names == ["joint", "joint-int8", "joint-int8-weights"]
    for network in report.networks:
        card = read_card(tmp_path / f"{network.card.name}.json")
        assert card == network.card
        assert card.measured is not None
        assert (card.measured.split, card.measured.n) == ("validation", 10)
        assert set(card.measured.metrics) == {"float32", card.precision}
        assert set(card.measured.metrics[card.precision]) == {"auc", "average_precision", "jaccard"}
        assert card.epoch == 3
        assert card.training["data"] == "drawn, 20 images"
    float32, int8 = (network.card.measured for network in report.networks[:2])
    assert float32 is not None
    assert int8 is not None
    cost = report.networks[1].cost["jaccard"]
    expected = float32.metrics["float32"]["jaccard"] - int8.metrics["int8"]["jaccard"]
    assert cost == pytest.approx(expected)
    assert report.networks[0].speed == 1
    assert json.loads(json.dumps(report.to_dict()))["networks"][0]["cost"] == {}


def test_the_float32_metrics_are_those_of_predict_and_evaluate(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    (network,) = export_runs([made_run], data=drawn, out=tmp_path / "out").networks
    predict(made_run, data=drawn, split="validation", out=tmp_path / "predicted")
    measured = evaluation.evaluate(
        tmp_path / "predicted", drawn, draws=10, allow_partial=True
    ).to_dict()
    assert network.card.measured is not None
    metrics = network.card.measured.metrics["float32"]
    assert metrics["jaccard"] == pytest.approx(
        measured["segmentation"]["jaccard"]["value"], abs=1e-3
    )
    assert metrics["auc"] == pytest.approx(measured["classification"]["auc"]["value"], abs=0.05)


def test_calibration_images_are_the_runs_training_images_in_a_seeded_choice(
    made_run: Path, drawn: Path
) -> None:
    trained = load_run(made_run)
    chosen = load_calibration(trained, drawn, count=6)
    assert (chosen.shape, chosen.dtype) == ((6, 32, 32, 3), np.dtype(np.uint8))
    assert np.array_equal(chosen, load_calibration(trained, drawn, count=6))
    lesions = load_isic2016(drawn, "train").lesions
    seen = {squeeze(read_image(lesion.image_path), 32).tobytes() for lesion in lesions[10:]}
    assert all(image.tobytes() in seen for image in chosen)
    assert len(load_calibration(trained, drawn, count=999)) == 20


def test_a_run_without_validation_images_of_its_own_is_not_measured(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "paper-split"
    shutil.copytree(made_run, run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace('split = "source"', 'split = "paper"'))
    assert load_held_out(load_run(run), drawn) is None
    (network,) = export_runs([run], data=drawn, out=tmp_path / "out").networks
    assert network.card.measured is None
    assert network.cost == {}
    everything = config.read_text().replace('split = "paper"', 'split = "all"')
    config.write_text(everything.replace('schedule = "plateau"', 'schedule = "cosine"'))
    assert load_held_out(load_run(run), drawn) is None


def test_runs_of_one_name_and_data_of_another_run_are_refused(
    made_run: Path, drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="two runs are called joint"):
        export_runs([made_run, made_run], data=drawn, out=tmp_path)
    with pytest.raises(DataError):
        export_runs([made_run], data=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
