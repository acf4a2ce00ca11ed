import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.tables import measure, render_tables
from dermfuse.folders import RunFolder, read_json, write_json
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, read_probability, squeeze
from dermfuse.imaging.symmetries import SYMMETRIES
from dermfuse.models.classifier import Classifier, JointLogits
from dermfuse.predictions.folder import MANIFEST_NAME, read_predictions
from dermfuse.predictions.fusion import average
from dermfuse.predictions.scores import read_scores
from dermfuse.training import predict, train
from dermfuse.training.prediction import (
    Answer,
    activation_maps,
    ask_in_batches,
    embed_images,
    load_run,
    look_eight_times,
    move,
    move_back,
    predict_part,
    read_logits,
    require_parts,
    submit,
)

from .tiny import ALL, IMAGES, rows, tiny

CORNERS = torch.tensor([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("mirror", "turns", "expected"),
    [
        (False, 0, [[1, 2], [3, 4]]),
        (False, 1, [[2, 4], [1, 3]]),  # counter-clockwise
        (False, 2, [[4, 3], [2, 1]]),
        (False, 3, [[3, 1], [4, 2]]),
        (True, 0, [[2, 1], [4, 3]]),
        (True, 1, [[1, 3], [2, 4]]),  # mirrored first, then turned
        (True, 2, [[3, 4], [1, 2]]),
        (True, 3, [[4, 2], [3, 1]]),
    ],
)
def test_each_symmetry_moves_the_corners_and_brings_them_back(
    mirror: bool, turns: int, expected: list[list[int]]
) -> None:
    moved = move(CORNERS, mirror=mirror, turns=turns)
    assert moved.tolist() == expected
    assert torch.equal(move_back(moved, mirror=mirror, turns=turns), CORNERS)
    assert (mirror, turns) in SYMMETRIES
    assert len(SYMMETRIES) == 8


def test_a_map_that_follows_the_image_comes_back_and_another_becomes_symmetric() -> None:
    def corner(images: Tensor) -> Answer:  # calls the upper left corner lesion, whatever it sees
        lesion = torch.zeros(len(images), 6, 6)
        lesion[:, 0, 0] = 1
        return Answer(None, lesion)

    images = torch.rand(2, 3, 6, 6)
    bright = look_eight_times(lambda x: Answer(None, x[:, 0]), images)
    torch.testing.assert_close(bright.lesion, images[:, 0])
    expected = torch.zeros(2, 6, 6)
    expected[:, ::5, ::5] = 2 / 8  # two of the eight bring it to each corner
    torch.testing.assert_close(look_eight_times(corner, images).lesion, expected)


@pytest.mark.parametrize(("mirror", "turns"), SYMMETRIES[1:])
def test_turning_the_input_changes_no_score_and_turns_the_map(mirror: bool, turns: int) -> None:
    torch.manual_seed(0)
    classes = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    masks = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    images = torch.rand(2, 3, 8, 8)
    moved = move(images, mirror=mirror, turns=turns)

    def look(x: Tensor) -> Answer:
        return read_logits(JointLogits(classes(x), masks(x)))

    with torch.inference_mode():
        once, again = look(images).malignant, look(moved).malignant
        assert not torch.allclose(once, again, atol=1e-4), "one look does depend on it"  # type: ignore[arg-type]
        before, after = (look_eight_times(look, x) for x in (images, moved))
        torch.testing.assert_close(after.malignant, before.malignant)
        assert before.lesion is not None
        torch.testing.assert_close(after.lesion, move(before.lesion, mirror=mirror, turns=turns))


def test_logits_become_probabilities() -> None:
    class_logits = torch.tensor([[0.0, 0.0], [0.0, 40.0]])
    mask_logits = torch.tensor([[[[0.0, torch.inf], [-torch.inf, 0.0]]]])
    classes, masks = read_logits(class_logits), read_logits(mask_logits)
    both = read_logits(JointLogits(class_logits, mask_logits))
    assert (classes.lesion, masks.malignant) == (None, None)
    for answer in (classes, both):
        assert answer.malignant is not None
        assert answer.malignant.tolist() == pytest.approx([0.5, 1.0])
    for answer in (masks, both):
        assert answer.lesion is not None
        assert answer.lesion.tolist() == [[[0.5, 1.0], [0.0, 0.5]]]


@pytest.mark.parametrize("tta", [False, True])
def test_every_test_image_gets_the_score_of_the_deployed_network_or_the_mean_of_eight_looks(
    tta: bool, classified: Path, drawn: Path, tmp_path: Path
) -> None:
    report = predict(classified, data=drawn, split="test", out=tmp_path / "out", tta=tta)
    predictions = read_predictions(tmp_path / "out")
    lesions = load_isic2016(drawn, "test").lesions
    assert predictions.scores is not None
    assert report.images == len(lesions) == 6
    assert predictions.scores.image_ids == tuple(lesion.image_id for lesion in lesions)
    pixels = torch.from_numpy(squeeze(read_image(lesions[0].image_path), 32))
    image = pixels.permute(2, 0, 1)[None].float() / 255
    turned = [x.rot90(turns, (2, 3)) for x in (image, image.flip(3)) for turns in range(4)]
    with torch.inference_mode():
        logits = load_run(classified).network(torch.cat(turned) if tta else image)
    expected = logits.double().softmax(1)[:, 1].mean().item()
    assert predictions.scores.scores[0] == pytest.approx(expected, abs=1e-6)
    manifest = predictions.manifest
    assert (manifest.details["symmetries"], manifest.calibrated) == (8 if tta else 1, False)
    mean = ", mean of 8 symmetries" if tta else ""
    assert manifest.source == f"dc-mobilenetv1, seed 0{mean}"


def test_masks_and_probabilities_have_the_images_size(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    options = {"data": drawn, "probabilities": True, "progress": lambda *at: done.append(at)}
    predict(segmented, split="test", out=tmp_path / "out", **options)  # type: ignore[arg-type]
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


def test_one_folder_holds_both_answers_of_a_joint_network_and_is_evaluated_for_both(
    joint: Path, drawn: Path, tmp_path: Path
) -> None:
    (row,) = rows(joint)
    best = read_json(RunFolder(joint).record)["validation"]
    assert {"average_precision", "auc", "accuracy", "jaccard", "dice"} <= set(best)
    assert row["rank"] == pytest.approx((row["average_precision"] + row["jaccard"]) / 2)
    out, plain = tmp_path / "out", tmp_path / "plain"
    report = predict(joint, data=drawn, split="test", out=out, probabilities=True, tta=True)
    predictions = read_predictions(out)
    assert report.task == predictions.manifest.task == "joint"
    assert predictions.scores is not None
    ids = predictions.scores.image_ids
    assert ids == tuple(predictions.masks) == tuple(predictions.probabilities)
    evaluation = evaluate(out, drawn, draws=10)
    for part in (evaluation.classification, evaluation.segmentation):
        assert part is not None
        assert part.image_count == 6
    predict(joint, data=drawn, split="test", out=plain, probabilities=True)
    assert average([out, plain], tmp_path / "mean").task == "joint"
    mean = read_predictions(tmp_path / "mean").score_by_id()
    parts = [folder.score_by_id() for folder in (predictions, read_predictions(plain))]
    assert mean[ids[0]] == pytest.approx((parts[0][ids[0]] + parts[1][ids[0]]) / 2)
    submit(joint, data=drawn, out=tmp_path / "packed")
    names = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert names == ["masks.zip", "run.json", "scores.csv"]


def test_the_runs_own_images_are_predicted_and_another_data_set_is_refused(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    report = predict(segmented, data=drawn, split="validation", out=tmp_path / "v")
    assert (report.images, report.split) == (6, "validation")
    assert predict(segmented, data=drawn, split="train", out=tmp_path / "t").images == 24
    (tmp_path / IMAGES).mkdir()
    first = load_isic2016(drawn, "train").lesions[0].image_path
    (tmp_path / IMAGES / first.name).write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=r"lacks .* of the run's validation images"):
        predict(segmented, data=tmp_path, split="validation", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_finished_run_cannot_predict(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        predict(tmp_path, data=drawn, split="test", out=tmp_path / "out")
    run.config.write_text(RunFolder(classified).config.read_text())
    with pytest.raises(RunError, match="finished at least one epoch"):
        predict(tmp_path, data=drawn, split="test", out=tmp_path / "out")
    write_json(run.record, {"status": "running", "epochs": 3})
    with pytest.raises(RunError, match=r"is running after 3 epochs.*--resume"):
        submit(tmp_path, data=drawn, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("use", [predict, submit])
def test_an_image_that_cannot_be_read_leaves_no_half_written_folder(
    use: object, classified: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "ISBI2016_ISIC_Part3_Test_Data"
    folder.mkdir(parents=True)
    (folder / "ISIC_0000001.jpg").write_bytes(b"no image")
    options = {"split": "test"} if use is predict else {}
    with pytest.raises(DataError, match=r"ISIC_0000001\.jpg"):
        use(classified, data=tmp_path / "data", out=tmp_path / "out", **options)  # type: ignore[operator]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_run_on_all_images_predicts_what_it_has_and_refuses_validation(
    drawn: Path, tmp_path: Path
) -> None:
    run = train(tiny("mobilenetv1", *ALL, "train.epochs=1"), data=drawn, run=tmp_path / "run").run
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
    require_parts(["validation", "test-tta"])
    with pytest.raises(ConfigError, match='no part is called "tests"'):
        require_parts(["validation", "tests"])
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


def test_scores_are_packed_with_the_runs_record(
    classified: Path, drawn: Path, tmp_path: Path
) -> None:
    once, eight = tmp_path / "once", tmp_path / "eight"
    report = submit(classified, data=drawn, out=once)
    assert sorted(path.name for path in once.iterdir()) == ["run.json", "scores.csv"]
    assert len(read_scores(once / "scores.csv").image_ids) == report.images == 6
    assert read_json(once / "run.json")["validation"]["epoch"] == 1
    assert report.to_dict()["out"] == str(once)
    predict(classified, data=drawn, split="test", out=tmp_path / "predicted", tta=True)
    submit(classified, data=drawn, out=eight, tta=True)
    written, packed = (
        read_scores(d / "scores.csv").scores for d in (tmp_path / "predicted", eight)
    )
    assert np.array_equal(written, packed)
    assert not np.array_equal(packed, read_scores(once / "scores.csv").scores)
    assert [read_json(d / "run.json")["symmetries"] for d in (once, eight)] == [1, 8]


def test_masks_are_one_archive_and_the_same_masks_the_same_bytes(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    a, b = (submit(segmented, data=drawn, out=tmp_path / x).out / "masks.zip" for x in "ab")
    assert a.read_bytes() == b.read_bytes()
    names = zipfile.ZipFile(a).namelist()
    assert len(names) == 6
    assert all(n.startswith("masks/ISIC_") and n.endswith("_Segmentation.png") for n in names)


def test_scores_embeddings_and_activation_maps_are_those_of_the_network(
    classified: Path, drawn: Path
) -> None:
    trained, lesions = load_run(classified), load_isic2016(drawn, "test").lesions
    network = trained.network
    assert isinstance(network, Classifier)
    insight = embed_images(trained, lesions)
    batches = ask_in_batches(trained, lesions, network)
    logits = torch.cat([batch.answer for batch in batches])
    assert insight.embeddings.shape == (6, 1024)
    assert insight.scores == pytest.approx(logits.double().softmax(1)[:, 1].numpy(), abs=1e-5)
    maps = activation_maps(trained, lesions)
    assert maps.shape == (6, 1, 1)
    log_odds = (logits - network.head.bias.detach()).diff(dim=1)[:, 0]
    assert maps.mean(axis=(1, 2)) == pytest.approx(log_odds.numpy(), abs=1e-4)
    with pytest.raises(RunError, match=r"dc-mobilenetv1 holds Identity.*a class network"):
        activation_maps(replace(trained, network=nn.Identity()), lesions)
