import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dermfuse.config import load_preset
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.evaluation.tables import measure, render_tables
from dermfuse.folders import RunFolder
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, read_probability, squeeze
from dermfuse.predictions.folder import MANIFEST_NAME, read_predictions
from dermfuse.training import predict, train
from dermfuse.training.prediction import load_run, predict_part, require_parts

TINY = [
    "model.init=random",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "augment.enabled=false",
    "train.precision=float32",
]


@pytest.fixture(scope="module")
def classified(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "dc"
    train(load_preset("dc-mobilenetv1").override(TINY), data=drawn, run=run)
    return run


@pytest.fixture(scope="module")
def segmented(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "u"
    train(load_preset("u-mobilenetv1").override(TINY), data=drawn, run=run)
    return run


def test_every_test_image_gets_the_score_of_the_deployed_network(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    report = predict(classified, data=drawn, split="test", out=tmp_path / "out")
    predictions = read_predictions(tmp_path / "out")
    lesions = load_isic2016(drawn, "test").lesions
    assert predictions.scores is not None
    assert report.images == len(lesions) == 6
    assert predictions.scores.image_ids == tuple(lesion.image_id for lesion in lesions)
    image = torch.from_numpy(squeeze(read_image(lesions[0].image_path), 32))
    with torch.inference_mode():
        logits = load_run(classified).network(image.permute(2, 0, 1)[None].float() / 255)
    assert predictions.scores.scores[0] == pytest.approx(logits.softmax(1)[0, 1].item(), abs=1e-6)
    assert predictions.manifest.details["preset"] == "dc-mobilenetv1"
    assert not predictions.manifest.calibrated


def test_masks_and_probabilities_have_the_images_size(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    predict(
        segmented,
        data=drawn,
        split="test",
        out=tmp_path / "out",
        probabilities=True,
        progress=lambda *at: done.append(at),
    )
    predictions = read_predictions(tmp_path / "out")
    assert done[-1] == (6, 6)
    assert len(predictions.masks) == len(predictions.probabilities) == 6
    for image_id, path in predictions.masks.items():
        mask = read_mask(path)
        probability = read_probability(predictions.probabilities[image_id])
        assert mask.shape == probability.shape == (64, 80)
        clear = np.abs(probability - 0.5) > 1 / 255
        assert np.array_equal(mask[clear], probability[clear] >= 0.5)
        assert set(np.unique(np.asarray(Image.open(path)))) <= {0, 255}


def test_test_time_augmentation_is_the_mean_over_the_symmetries_and_said(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    predict(classified, data=drawn, split="test", out=tmp_path / "out", tta=True)
    predictions = read_predictions(tmp_path / "out")
    path = load_isic2016(drawn, "test").lesions[0].image_path
    image = torch.from_numpy(squeeze(read_image(path), 32)).permute(2, 0, 1)[None].float() / 255
    turned = [x.rot90(turns, (2, 3)) for x in (image, image.flip(3)) for turns in range(4)]
    with torch.inference_mode():
        logits = load_run(classified).network(torch.cat(turned))
    assert predictions.scores is not None
    expected = logits.double().softmax(1)[:, 1].mean().item()
    assert predictions.scores.scores[0] == pytest.approx(expected, abs=1e-6)
    assert predictions.manifest.details["symmetries"] == 8
    assert predictions.manifest.source == "dc-mobilenetv1, seed 0, mean of 8 symmetries"


def test_the_runs_own_validation_images_are_predicted(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    report = predict(segmented, data=drawn, split="validation", out=tmp_path / "v")
    assert report.images == 6
    assert report.to_dict()["split"] == "validation"
    assert predict(segmented, data=drawn, split="train", out=tmp_path / "t").images == 24


def test_another_data_set_than_the_runs_is_refused(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ISBI2016_ISIC_Part3_Training_Data"
    folder.mkdir()
    first = load_isic2016(drawn, "train").lesions[0].image_path
    (folder / first.name).write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=r"lacks .* of the run's validation images"):
        predict(classified, data=tmp_path, split="validation", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_finished_run_cannot_predict(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        predict(tmp_path, data=drawn, split="test", out=tmp_path / "out")
    RunFolder(tmp_path).config.write_text(RunFolder(classified).config.read_text())
    with pytest.raises(RunError, match="finished at least one epoch"):
        predict(tmp_path, data=drawn, split="test", out=tmp_path / "out")
    RunFolder(tmp_path).weights.write_bytes(b"damaged")
    with pytest.raises(RunError, match="damaged"):
        predict(tmp_path, data=drawn, split="test", out=tmp_path / "out")


def test_an_image_that_cannot_be_read_leaves_no_half_written_folder(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ISBI2016_ISIC_Part3_Test_Data"
    folder.mkdir()
    (folder / "ISIC_0000001.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"ISIC_0000001\.jpg"):
        predict(classified, data=tmp_path, split="test", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_on_all_images_predicts_what_it_has_and_refuses_validation(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    everything = ["data.split=all", "train.schedule=cosine"]
    config = load_preset("mobilenetv1").override([*TINY, *everything, "train.batch_size=15"])
    train(config, data=drawn, run=run)
    with pytest.raises(RunError, match=r"run was trained on all images and validated on none"):
        predict(run, data=drawn, split="validation", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert predict(run, data=drawn, split="train", out=tmp_path / "train").images == 30
    predict(run, data=drawn, split="test", out=tmp_path / "test")
    tables = render_tables(measure([tmp_path / "test"], truth=drawn, draws=10))
    assert "mobilenetv1, seed 0 | test | 1 of 1 | 6 (" in tables
    assert "Data: data, all 30 usable images trained on." in tables
    assert "lean upwards" not in tables


def test_parts_are_predicted_with_maps_and_kept_until_the_run_is_younger(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = predict_part(segmented, "test-tta", data=drawn, out=tmp_path)
    assert folder == tmp_path / "test-tta"
    predicted = read_predictions(folder)
    assert (predicted.manifest.split, predicted.manifest.details["symmetries"]) == ("test", 8)
    assert len(predicted.probabilities) == 6
    made = (folder / MANIFEST_NAME).stat().st_mtime_ns
    predict_part(segmented, "test-tta", data=drawn, out=tmp_path)
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns == made
    os.utime(RunFolder(segmented).record, ns=(made + 1, made + 1))  # it was trained on
    predict_part(segmented, "test-tta", data=drawn, out=tmp_path)
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns > made


def test_a_part_that_is_none_is_refused() -> None:
    require_parts(["validation", "test-tta"])
    with pytest.raises(ConfigError, match='no part is called "tests"'):
        require_parts(["validation", "tests"])
