import os
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, read_probability, squeeze
from dermfuse.imaging.symmetries import SYMMETRIES
from dermfuse.models.classifier import JointLogits
from dermfuse.predictions.folder import MANIFEST_NAME, read_predictions
from dermfuse.predictions.fusion import average
from dermfuse.predictions.scores import read_scores
from dermfuse.records.folders import RunFolder, read_json, write_json
from dermfuse.training import prediction
from dermfuse.training.prediction import Answer, predict, submit

from ..two_folders import IMAGES, TESTED
from .tiny import ALL, Fit


def test_turning_the_input_changes_no_score_and_turns_the_map() -> None:
    classes = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    masks = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    images = torch.rand(2, 3, 8, 8)

    def look(x: Tensor) -> Answer:
        return prediction.read_logits(JointLogits(classes(x), masks(x)))

    undecided = prediction.read_logits(JointLogits(torch.zeros(1, 2), torch.zeros(1, 1, 1, 1)))
    assert (undecided.malignant.tolist(), undecided.lesion.tolist()) == ([0.5], [[[0.5]]])
    with torch.inference_mode():
        once, before = look(images), prediction.look_eight_times(look, images)
        for mirror, turns in SYMMETRIES[1:]:
            turn = partial(prediction.move, mirror=mirror, turns=turns)
            moved, after = turn(images), prediction.look_eight_times(look, turn(images))
            assert not torch.allclose(once.malignant, look(moved).malignant, atol=1e-5)
            torch.testing.assert_close(after.malignant, before.malignant)
            torch.testing.assert_close(after.lesion, turn(before.lesion))


@pytest.mark.parametrize("tta", [False, True])
def test_every_image_gets_the_score_of_the_deployed_network_or_the_mean_of_eight_looks_packed_too(
    tta: bool, classified: Path, drawn: Path, tmp_path: Path
) -> None:
    report = predict(classified, data=drawn, split="test", out=tmp_path / "out", tta=tta)
    predictions, lesions = read_predictions(tmp_path / "out"), load_isic2016(drawn, "test").lesions
    assert report.images == len(lesions) == 6
    assert predictions.scores.image_ids == tuple(lesion.image_id for lesion in lesions)
    pixels = torch.from_numpy(squeeze(read_image(lesions[0].image_path), 32))
    image = pixels.permute(2, 0, 1)[None].float() / 255
    turned = [x.rot90(turns, (2, 3)) for x in (image, image.flip(3)) for turns in range(4)]
    with torch.inference_mode():
        logits = prediction.load_run(classified).network(torch.cat(turned) if tta else image)
    expected = logits.double().softmax(1)[:, 1].mean().item()
    assert predictions.scores.scores[0] == pytest.approx(expected, abs=1e-6)
    manifest, looks = predictions.manifest, 8 if tta else 1
    assert (manifest.details["symmetries"], manifest.calibrated) == (looks, False)
    mean = ", mean of 8 symmetries" if tta else ""
    assert manifest.source == f"dc-mobilenetv1, seed 0{mean}"
    packed = submit(classified, data=drawn, out=tmp_path / "packed", tta=tta).out
    assert sorted(path.name for path in packed.iterdir()) == ["run.json", "scores.csv"]
    assert np.array_equal(read_scores(packed / "scores.csv").scores, predictions.scores.scores)
    record = read_json(packed / "run.json")
    assert (record["validation"]["epoch"], record["symmetries"]) == (1, looks)


def test_one_folder_holds_both_answers_of_a_joint_network_and_is_evaluated_for_both(
    joint: Path, drawn: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    out, plain, mean = (tmp_path / name for name in ("out", "plain", "mean"))
    both = partial(predict, joint, data=drawn, split="test", probabilities=True)
    both(out=out, tta=True, progress=lambda *at: done.append(at))
    both(out=plain)
    assert done[-1] == (6, 6)
    predictions, evaluation = read_predictions(out), evaluate(out, drawn, draws=10)
    assert average([out, plain], mean).task == predictions.manifest.task == "joint"
    ids = predictions.scores.image_ids
    assert ids == tuple(predictions.masks) == tuple(predictions.probabilities)
    for image_id, path in predictions.masks.items():
        mask, probability = read_mask(path), read_probability(predictions.probabilities[image_id])
        assert mask.shape == probability.shape == (64, 80), "the image's own"
        clear = np.abs(probability - 0.5) > 1 / 255
        assert np.array_equal(mask[clear], probability[clear] >= 0.5)
    assert evaluation.classification.image_count == evaluation.segmentation.image_count == 6
    one, two, joined = (read_predictions(f).score_by_id()[ids[0]] for f in (out, plain, mean))
    assert joined == pytest.approx((one + two) / 2)
    a, b = (submit(joint, data=drawn, out=tmp_path / x).out / "masks.zip" for x in "ab")
    assert a.read_bytes() == b.read_bytes(), "the same masks are the same bytes"
    assert zipfile.ZipFile(a).namelist() == [f"masks/{x}_Segmentation.png" for x in sorted(ids)]
    assert sorted(x.name for x in a.parent.iterdir()) == ["masks.zip", "run.json", "scores.csv"]


def test_a_runs_own_images_are_predicted_and_what_they_are_not_in_is_refused(
    segmented: Path, fit: Fit
) -> None:
    out, own = fit.folder / "out", partial(predict, segmented, split="validation")
    assert own(data=fit.data, out=fit.folder / "v").images == 6
    assert predict(segmented, data=fit.data, split="train", out=fit.folder / "t").images == 24
    (fit.folder / IMAGES).mkdir()
    first = load_isic2016(fit.data, "train").lesions[0].image_path
    (fit.folder / IMAGES / first.name).write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=r"lacks .* of the run's validation images"):
        own(data=fit.folder, out=out)
    run = fit("mobilenetv1", *ALL, "train.epochs=1").run
    with pytest.raises(RunError, match=r"run was trained on all images and validated on none"):
        predict(run, data=fit.data, split="validation", out=out)
    assert not out.exists()
    assert predict(run, data=fit.data, split="train", out=fit.folder / "train").images == 30


def test_what_is_no_finished_run_cannot_predict(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    run, test = RunFolder(tmp_path), {"data": drawn, "out": tmp_path / "out"}
    with pytest.raises(RunError, match="is no run folder"):
        predict(tmp_path, split="test", **test)
    run.config.write_text(RunFolder(classified).config.read_text())
    with pytest.raises(RunError, match="finished at least one epoch"):
        predict(tmp_path, split="test", **test)
    write_json(run.record, {"status": "running", "epochs": 3})
    with pytest.raises(RunError, match=r"is running after 3 epochs.*--resume"):
        submit(tmp_path, **test)
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_leaves_no_half_written_folder(
    classified: Path, tmp_path: Path
) -> None:
    image, folders = tmp_path / "data" / TESTED / "ISIC_0000001.jpg", {"out": tmp_path / "out"}
    image.parent.mkdir(parents=True)
    image.write_bytes(b"no image")
    for use in (partial(predict, split="test"), submit):
        with pytest.raises(DataError, match=r"ISIC_0000001\.jpg"):
            use(classified, data=tmp_path / "data", **folders)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_parts_are_predicted_with_maps_and_kept_until_the_run_is_younger(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match='no part is called "tests"'):
        prediction.require_parts(["validation", "tests"])
    make = partial(prediction.predict_part, segmented, "test-tta", data=drawn, out=tmp_path)
    folder = make()
    predicted = read_predictions(folder)
    assert (predicted.manifest.split, predicted.manifest.details["symmetries"]) == ("test", 8)
    assert len(predicted.probabilities) == 6
    made = (folder / MANIFEST_NAME).stat().st_mtime_ns
    make()
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns == made
    os.utime(RunFolder(segmented).record, ns=(made + 1, made + 1))  # it was trained on
    make()
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns > made


def test_scores_embeddings_and_activation_maps_are_those_of_the_network(
    classified: Path, drawn: Path
) -> None:
    trained, lesions = prediction.load_run(classified), load_isic2016(drawn, "test").lesions
    insight, maps = (
        look(trained, lesions) for look in (prediction.embed_images, prediction.activation_maps)
    )
    batches = prediction.ask_in_batches(trained, lesions, trained.network)
    logits = torch.cat([batch.answer for batch in batches])
    assert (insight.embeddings.shape, maps.shape) == ((6, 1024), (6, 1, 1))
    assert insight.scores == pytest.approx(logits.double().softmax(1)[:, 1].numpy(), abs=1e-5)
    log_odds = (logits - trained.network.head.bias.detach()).diff(dim=1)[:, 0]
    assert maps.mean(axis=(1, 2)) == pytest.approx(log_odds.numpy(), abs=1e-4)
    with pytest.raises(RunError, match=r"dc-mobilenetv1 holds Identity.*a class network"):
        prediction.activation_maps(replace(trained, network=nn.Identity()), lesions)
