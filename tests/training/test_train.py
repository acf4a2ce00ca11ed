import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import safetensors
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors.torch import load_file

from dermfuse.config import Config, load_preset, preset_names
from dermfuse.data.splits import Split, read_split, write_split
from dermfuse.errors import ConfigError, DataError, RunError, TrainingError, WeightsError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import RunFolder, read_json, write_json
from dermfuse.predictions.folder import read_predictions
from dermfuse.release.cards import digest_file
from dermfuse.training import predict, train
from dermfuse.training.distributed import explain_memory
from dermfuse.training.modules import (
    ClassifierModule,
    PairModule,
    SegmentationModule,
    TrainingModule,
)
from dermfuse.training.prediction import load_run
from dermfuse.training.samples import select_lesions
from dermfuse.training.shares import Share
from dermfuse.training.train import accelerator_of, precision_of

from ..two_folders import write_halves
from .tiny import ALL, IMAGES, TINY, assert_same_run, rows, tiny, training_ids

TRAIN = importlib.import_module("dermfuse.training.train")  # the function hides the module


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_and_takes_an_epoch(preset: str, drawn: Path, tmp_path: Path) -> None:
    config = tiny(preset, "data.validation_fraction=0.9", "train.batch_size=4")
    report = train(config, data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    assert report.epochs == 1
    assert folder.weights.is_file()
    assert read_json(folder.record)["status"] == "finished"
    assert len(folder.metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("mobilenetv1", ()),
        ("dc-mobilenetv1", ()),
        ("u-mobilenetv1", ()),
        ("joint-mobilenetv1", ()),
        ("dc-mobilenetv1", ("augment.fresh=true", "train.ema_decay=0.9")),
        (
            "dc-mobilenetv1",
            (
                "augment.policy=label_blind",
                "augment.mixup=0.4",
                "model.dropout=0.3",
                "train.weight_decay=0.1",
                "train.gradient_clip=1.0",
            ),
        ),
        ("u-mobilenetv1", ("augment.policy=label_blind",)),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    preset: str, more: tuple[str, ...], drawn: Path, tmp_path: Path
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(tiny(preset, "train.epochs=3", *more), data=drawn, run=once)
    train(tiny(preset, "train.epochs=1", *more), data=drawn, run=twice)
    train(tiny(preset, "train.epochs=3", *more), data=drawn, run=twice, resume=True)
    assert_same_run(once, twice)


@pytest.mark.parametrize(
    "preset",
    [
        "dc-mobilenetv1",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mobilenetv1", "u-mobilenetv1", "joint-mobilenetv1")
        ),
    ],
)
def test_a_resumed_run_follows_the_plateau_rule(preset: str, drawn: Path, tmp_path: Path) -> None:
    plateaus = ("train.plateau_patience=1", "train.new_layer_factor=3", "train.learning_rate=0.01")
    once, often = tmp_path / "once", tmp_path / "often"
    train(tiny(preset, *plateaus, "train.epochs=9"), data=drawn, run=once)
    for epochs in (2, 3, 6, 9):
        config = tiny(preset, *plateaus, f"train.epochs={epochs}")
        train(config, data=drawn, run=often, resume=epochs > 2)
    assert len({row["learning_rate"] for row in rows(once)}) >= 3, "the rate falls twice"
    assert_same_run(once, often)


def test_the_cosine_falls_over_the_epochs_and_its_length_is_fixed(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    cosine = ["train.schedule=cosine", "train.new_layer_factor=10"]
    train(tiny("dc-mobilenetv1", *cosine, "train.epochs=2"), data=drawn, run=run)
    first, second = rows(run)
    assert first["learning_rate"] > second["learning_rate"]
    longer = tiny("dc-mobilenetv1", *cosine, "train.epochs=3")
    with pytest.raises(RunError, match=r"train.epochs 2 -> 3"):
        train(longer, data=drawn, run=run, resume=True)


def test_what_is_frozen_stays_as_it_was_and_the_rest_moves(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, torch.Tensor] = {}

    def remember(backbone: torch.nn.Module, **_: object) -> None:
        started.update({f"backbone.{k}": v.clone() for k, v in backbone.state_dict().items()})

    monkeypatch.setattr(TRAIN, "load_imagenet", remember)
    for preset, what in (("u-mobilenetv1", "batch_norm"), ("dc-mobilenetv1", "backbone")):
        frozen = ["model.init=imagenet", f"train.{what}=frozen"]
        report = train(tiny(preset, *frozen), data=drawn, run=tmp_path / what)
        weights = load_file(RunFolder(report.run).weights)
        kept = [key for key in started if what == "backbone" or key.endswith("running_mean")]
        assert all(torch.equal(weights[key], started[key]) for key in kept)
        moved = (key for key in weights if "backbone" not in key and key.endswith("running_mean"))
        assert all(bool(weights[key].any()) for key in moved)
        still = tiny(preset, *frozen, "train.learning_rate=1e-9")
        unmoved = load_file(
            RunFolder(train(still, data=drawn, run=tmp_path / f"{what}0").run).weights
        )
        head = next(key for key in weights if key.startswith("head") and key.endswith("bias"))
        assert not torch.allclose(weights[head], unmoved[head], rtol=0, atol=1e-7)


def test_averaged_weights_are_those_that_are_validated_and_written(
    drawn: Path, tmp_path: Path
) -> None:
    config = tiny("squeezenet", "train.ema_decay=0.99")  # its scores differ after one epoch
    report = train(config, data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    state = torch.load(folder.state, weights_only=True)["state_dict"]
    written = load_file(folder.weights)
    averaged = {key: state[f"averaged.module.{key}"] for key in written}
    assert all(torch.equal(written[key], averaged[key]) for key in written)
    key = "head.weight"
    assert not torch.equal(written[key], state[f"network.{key}"]), "trained on without averaging"
    predict(report.run, data=drawn, split="validation", out=tmp_path / "out")
    measured = evaluate(tmp_path / "out", drawn, draws=10).classification
    assert measured is not None
    assert 0 < report.best["auc"] < 1, "a ranking that chance would not make equal"
    assert measured.average_precision.value == pytest.approx(report.best["average_precision"])


def test_a_run_that_is_killed_continues_after_its_last_epoch(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = (
        "import sys; from pathlib import Path; from dermfuse.config import load_preset;"
        "from dermfuse.training import train;"
        "train(load_preset('mobilenetv1').override(sys.argv[3:]),"
        " data=Path(sys.argv[1]), run=Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(drawn), str(run), *TINY, "train.epochs=500"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(run).metrics.exists() or len(rows(run)) < 2:
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline, "no two epochs in two minutes"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = RunFolder(run).metrics.read_text().splitlines()
    epochs = len(before) + 1
    report = train(tiny("mobilenetv1", f"train.epochs={epochs}"), data=drawn, run=run, resume=True)
    after = RunFolder(run).metrics.read_text().splitlines()
    assert report.epochs == epochs
    assert after[: len(before) - 1] == before[:-1], "at most the last epoch is trained again"
    straight = tmp_path / "straight"
    train(tiny("mobilenetv1", f"train.epochs={epochs}"), data=drawn, run=straight)
    assert RunFolder(straight).metrics.read_text().splitlines() == after


def test_a_training_learns(drawn: Path, tmp_path: Path) -> None:
    config = tiny("u-mobilenetv1", "train.epochs=6", "augment.segmentation_draws=30")
    train(config, data=drawn, run=tmp_path / "run")
    first, *_, last = rows(tmp_path / "run")
    assert last["train_loss"] < first["train_loss"]


def test_the_run_folder_records_what_a_number_must_name(classified: Path) -> None:
    folder = RunFolder(classified)
    record = read_json(folder.record)
    assert {"preset", "seed", "init", "versions", "device", "precision", "commit"} <= set(record)
    assert record["data"]["train_images"] == len(read_split(folder.split).train)
    assert record["deployed_head"] in {"a", "b"}
    assert record["validation"]["average_precision"] == rows(classified)[0]["average_precision"]
    assert "not a medical device" in record["notice"]


def test_training_images_that_show_a_test_lesion_are_counted_in_the_words_on_the_data(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = training_ids(drawn)
    monkeypatch.setattr(TRAIN, "TEST_DUPLICATES", (*known[:2], "ISIC_0000000"))
    report = train(tiny("mobilenetv1", *ALL), data=drawn, run=tmp_path / "run")
    said = read_json(RunFolder(report.run).record)["data"]["summary"]
    assert said == "data, all 30 usable images trained on (2 show a lesion of the test set)"


def test_folders_and_what_a_list_leaves_out_are_recorded(drawn: Path, tmp_path: Path) -> None:
    halves, run, listed = write_halves(drawn, tmp_path), tmp_path / "run", tmp_path / "list.csv"
    ids = training_ids(drawn)
    listed.write_text(f"image_id,part\n{ids[0]},mask\n{ids[1]},image\n")
    config = tiny("u-mobilenetv1")
    report = train(config, data=halves, run=run, leave_out=listed)
    data = read_json(RunFolder(run).record)["data"]
    assert data["folders"] == ["a", "b"]
    assert data["summary"].startswith("a and b, ")
    assert data["train_images"] + data["validation_images"] == 28
    counts = {"images": 1, "masks": 1, "labels": 0}
    assert data["leave_out"] == {"file": "list.csv", **counts, "sha256": digest_file(listed)}
    assert f"1 masks left out (named by list.csv): {ids[0]}" in report.left_out
    assert list(report.left_out) == data["left_out"]
    longer = tiny("u-mobilenetv1", "train.epochs=2")
    with pytest.raises(RunError, match=r"other images.*the same --data and --leave-out"):
        train(longer, data=halves, run=run, resume=True)
    train(longer, data=halves, run=run, leave_out=listed, resume=True)
    predicted = predict(run, data=halves, split="validation", out=tmp_path / "out")
    assert predicted.images == data["validation_images"]
    measured = evaluate(tmp_path / "out", halves, draws=10).segmentation
    assert measured is not None
    assert measured.image_count == data["validation_images"]


def test_the_paper_split_validates_on_augmented_masks(drawn: Path, tmp_path: Path) -> None:
    config = tiny("u-mobilenetv1", "data.split=paper", "augment.segmentation_draws=60")
    report = train(config, data=drawn, run=tmp_path / "run")
    assert 0 <= report.best["jaccard"] <= 1


def test_a_run_stops_early_if_asked_and_a_plateau_run_below_the_smallest_rate(
    drawn: Path, tmp_path: Path
) -> None:
    early = ("train.epochs=30", "train.early_stop_patience=1", "train.learning_rate=1e-9")
    assert train(tiny("mobilenetv1", *early), data=drawn, run=tmp_path / "early").epochs < 30
    config = tiny("mobilenetv1", "train.epochs=4", "train.minimum_learning_rate=0.01")
    assert train(config, data=drawn, run=tmp_path / "run").epochs == 1
    again = train(config, data=drawn, run=tmp_path / "run", resume=True)
    assert again.epochs == 1, "resumed after the epoch that ended it, it trains no other"


def test_a_clipped_run_moves_otherwise_and_the_last_epoch_is_kept_if_asked(
    drawn: Path, tmp_path: Path
) -> None:
    last = ("train.keep=last", "train.epochs=2")
    free = train(tiny("mobilenetv1", *last), data=drawn, run=tmp_path / "free")
    clip = tiny("mobilenetv1", *last, "train.gradient_clip=1e-9")
    clipped = train(clip, data=drawn, run=tmp_path / "clipped")
    assert free.best["train_loss"] != clipped.best["train_loss"]
    record = read_json(RunFolder(free.run).record)
    assert (record["kept_epoch"], record["kept_by"]) == (2, "last epoch")
    assert "auc" in record["validation"]


def test_an_existing_run_is_never_overwritten(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RunError, match="exists and is not empty"):
        train(tiny("mobilenetv1"), data=drawn, run=tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        train(tiny("mobilenetv1"), data=drawn, run=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_another_configuration_or_other_images_cannot_resume_a_run(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(tiny("mobilenetv1"), data=drawn, run=run)
    before = RunFolder(run).metrics.read_text()
    with pytest.raises(RunError, match=r"another configuration \(train.seed 0 -> 1\)"):
        train(tiny("mobilenetv1", "train.seed=1"), data=drawn, run=run, resume=True)
    record = RunFolder(run).record
    text = record.read_text()
    record.write_text(text.replace(read_json(record)["data"]["fingerprint"], "0" * 64))
    with pytest.raises(RunError, match="trained on other images"):
        train(tiny("mobilenetv1", "train.epochs=2"), data=drawn, run=run, resume=True)
    assert RunFolder(run).metrics.read_text() == before


def test_a_loss_that_is_not_finite_leaves_the_epochs_before_it(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = tiny("mobilenetv1", "train.epochs=2"), RunFolder(tmp_path / "run")
    step, taken = ClassifierModule.step_loss, list[int]()

    def spoilt(module: ClassifierModule, share: Share) -> torch.Tensor:
        taken.append(module.current_epoch)
        bad = taken.count(1) == 2  # the second step of the second epoch
        return step(module, share) * (float("nan") if bad else 1)

    monkeypatch.setattr(ClassifierModule, "step_loss", spoilt)
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2, step 2") as caught:
        train(config, data=drawn, run=folder.path)
    assert "\n" not in str(caught.value)
    assert taken.count(0) == taken.count(1), "the loss is read when the epoch ends"
    assert len(folder.metrics.read_text().splitlines()) == 2
    assert all(bool(value.isfinite().all()) for value in load_file(folder.weights).values())
    monkeypatch.setattr(ClassifierModule, "step_loss", step)
    assert train(config, data=drawn, run=folder.path, resume=True).epochs == 2


@pytest.mark.parametrize(
    "preset", ["mobilenetv1", "dc-mobilenetv1", "joint-mobilenetv1", "u-mobilenetv1"]
)
def test_answers_that_are_not_finite_in_validation_stop_the_training(
    preset: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        TrainingModule, "on_validation_epoch_start", lambda self: _poison(self.network)
    )
    with pytest.raises(TrainingError, match="an answer of the network in validation is not finite"):
        train(tiny(preset), data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()


def _poison(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))


def test_a_measure_that_is_not_finite_stops_the_training(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainingModule, "on_validation_epoch_start", lambda self: _poison(self.network.head_b)
        )
        with pytest.raises(TrainingError, match="validation loss is nan in epoch 1"):
            train(tiny("dc-mobilenetv1"), data=drawn, run=tmp_path / "pair")
    inf = {"validation_loss": float("inf"), "rank": 0.5}
    monkeypatch.setattr(SegmentationModule, "measure", lambda *_: inf)
    with pytest.raises(TrainingError, match="validation loss is inf in epoch 1") as caught:
        train(tiny("u-mobilenetv1"), data=drawn, run=run)
    assert "\n" not in str(caught.value)
    assert not RunFolder(run).weights.exists()


def test_a_side_without_one_of_the_classes_is_refused_before_anything_is_written(
    drawn: Path, tmp_path: Path
) -> None:
    for name in (IMAGES, "ISBI2016_ISIC_Part1_Training_GroundTruth"):
        (tmp_path / name).symlink_to(drawn / name)
    labels = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    ids = [line.split(",")[0] for line in (drawn / labels).read_text().splitlines()]

    def label(malignant: int) -> None:
        lines = [f"{name},{int(number < malignant)}" for number, name in enumerate(ids)]
        (tmp_path / labels).write_text("\n".join(lines))

    label(1)  # too few for both sides
    with pytest.raises(DataError, match=r"none of the \d+ images that are .* on is malignant"):
        train(tiny("mobilenetv1"), data=tmp_path, run=tmp_path / "run")
    label(len(ids))
    for preset in ("dc-mobilenetv1", "joint-mobilenetv1"):
        with pytest.raises(DataError, match="images that are trained on is benign"):
            train(tiny(preset), data=tmp_path, run=tmp_path / "run")
    label(0)
    for split in ("paper", "all"):
        config = tiny("dc-mobilenetv1-cosine", f"data.split={split}")
        with pytest.raises(DataError, match=r"images that are (used|trained on) is malignant"):
            train(config, data=tmp_path, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny("u-mobilenetv1"), data=tmp_path, run=tmp_path / "masks")  # needs no class


def test_missing_weights_or_masks_are_refused_before_anything_is_written(
    drawn: Path, tmp_path: Path
) -> None:
    run, images = tmp_path / "run", tmp_path / "data"
    images.mkdir()
    (images / IMAGES).symlink_to(drawn / IMAGES)
    imagenet = tiny("mobilenetv1", "model.init=imagenet")
    with pytest.raises(WeightsError, match=r"model\.init"):
        train(imagenet, data=drawn, run=run, imagenet=tmp_path)
    with pytest.raises(DataError, match="0 training images with a mask"):
        train(tiny("u-mobilenetv1"), data=images, run=run)
    with pytest.raises(DataError, match="0 training images with both"):
        train(tiny("joint-mobilenetv1"), data=images, run=run)
    assert not run.exists()


def test_cuda_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        accelerator_of(Config().override(["train.device=cuda"]))
    assert accelerator_of(Config()) == "cpu"
    assert precision_of(Config().override(["train.precision=bfloat16"])) == "bf16-mixed"
    assert precision_of(Config().override(["train.precision=float32"])) == "32-true"


@pytest.mark.parametrize("preset", ["mobilenetv1", "joint-mobilenetv1"])
def test_training_on_all_images_keeps_the_last_epoch(
    preset: str, drawn: Path, tmp_path: Path
) -> None:
    report = train(tiny(preset, *ALL), data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    record, split = read_json(folder.record), read_split(folder.split)
    assert (len(split.train), split.validation) == (30, ())
    assert (record["kept_epoch"], record["validation"]) == (2, {})
    assert record["kept_by"] == "last epoch, nothing is validated on"
    assert record["data"]["summary"] == "data, all 30 usable images trained on"
    assert "deployed_head" not in record
    assert list(rows(report.run)[0]) == ["epoch", "learning_rate", "train_loss"]
    assert rows(report.run)[-1]["train_loss"] == report.best["train_loss"]
    written = load_file(folder.weights)
    state = torch.load(folder.state, weights_only=True)["state_dict"]
    assert all(torch.equal(written[key], state[f"network.{key}"]) for key in written)


def test_a_pair_network_without_validation_keeps_head_a_of_the_average(
    drawn: Path, tmp_path: Path
) -> None:
    config = tiny("dc-mobilenetv1", *ALL, "train.ema_decay=0.9")
    report = train(config, data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    assert read_json(folder.record)["deployed_head"] == "a"
    with safetensors.safe_open(folder.weights, framework="pt") as file:
        assert (file.metadata()["head"], file.metadata()["epoch"]) == ("a", "2")
    written = load_file(folder.weights)
    state = torch.load(folder.state, weights_only=True)["state_dict"]
    assert all(torch.equal(written[key], state[f"averaged.module.{key}"]) for key in written)
    deployed = load_run(report.run).network.state_dict()
    assert torch.equal(deployed["head.weight"], written["head_a.weight"])


@pytest.mark.parametrize(
    ("stop", "raised", "status"),
    [
        (KeyError("killed"), KeyError, "running"),
        (KeyboardInterrupt(), KeyboardInterrupt, "interrupted"),
        (SIGTERMException(), KeyboardInterrupt, "interrupted"),
    ],
)
def test_a_training_that_is_stopped_says_so_and_continues_as_if_it_was_not(
    stop: BaseException,
    raised: type[BaseException],
    status: str,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny("dc-mobilenetv1", *ALL, "train.ema_decay=0.9")
    once, twice, step = tmp_path / "once", tmp_path / "twice", PairModule.step_loss
    train(config, data=drawn, run=once)

    def stopped(module: PairModule, share: Share) -> torch.Tensor:
        if module.current_epoch == 1:
            raise stop
        return step(module, share)

    monkeypatch.setattr(PairModule, "step_loss", stopped)
    with pytest.raises(raised):
        train(config, data=drawn, run=twice)
    monkeypatch.undo()
    record = read_json(RunFolder(twice).record)
    assert (record["status"], record["kept_epoch"]) == (status, 1)
    assert train(config, data=drawn, run=twice, resume=True).epochs == 2
    assert read_json(RunFolder(twice).record)["status"] == "finished"
    assert_same_run(once, twice)


def test_a_run_that_was_killed_over_its_first_file_begins_when_resumed(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.toml.abcd1234.dermfuse").write_text("[mod")
    config = tiny("dc-mobilenetv1", "train.epochs=1")
    assert train(config, data=drawn, run=run, resume=True).epochs == 1
    assert not list(run.glob(".*"))


def test_a_warm_start_is_recorded_kept_by_a_resume_and_said_by_predictions(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    slow = ["train.learning_rate=1e-9", "data.input_size=64"]
    run = tmp_path / "second"
    before = train(tiny("u-mobilenetv1", *slow), data=drawn, run=run, start=segmented)
    weights, started = (load_file(RunFolder(r).weights) for r in (run, segmented))
    learnt = [key for key in weights if key.endswith((".weight", ".bias"))]
    assert all(torch.allclose(weights[key], started[key], atol=1e-6) for key in learnt)
    train(tiny("u-mobilenetv1", *slow, "train.epochs=2"), data=drawn, run=run, resume=True)
    record = read_json(RunFolder(run).record)
    assert (record["init"], record["start"]["preset"]) == ("run u-mobilenetv1", "u-mobilenetv1")
    assert record["start"]["config"]["data"]["input_size"] == 32
    assert (before.epochs, record["epochs"]) == (1, 2)
    predict(run, data=drawn, split="validation", out=tmp_path / "out")
    assert read_predictions(tmp_path / "out").manifest.details["init"] == "run u-mobilenetv1"


def test_a_run_of_another_network_or_that_saw_the_validation_images_is_no_start(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tiny("u-mobilenetv1", "train.seed=1")
    with pytest.raises(RunError, match=r"trained unet on mobilenet_v1.*classifier on mobilenet_v1"):
        train(tiny("mobilenetv1"), data=drawn, run=run, start=segmented)
    with pytest.raises(RunError, match=r"u-mobilenetv1 trained on ISIC_.*would be validated on"):
        train(other, data=drawn, run=run, start=segmented)
    with pytest.raises(RunError, match="is no run folder"):
        train(tiny("mobilenetv1"), data=drawn, run=run, start=tmp_path)
    assert not run.exists()


def test_a_run_that_saw_another_image_of_a_validated_lesion_is_no_start(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    data, start, listed = tmp_path / "data", tmp_path / "start", tmp_path / "list.csv"
    shutil.copytree(drawn, data)
    shutil.copytree(segmented, start)
    ids = training_ids(drawn)
    lines = [f"{image_id},g{number // 2}" for number, image_id in enumerate(ids)]
    (data / "groups.csv").write_text("\n".join(["image_id,lesion_group", *lines]))
    config = tiny("u-mobilenetv1")
    seen = select_lesions(data, config).split.validation[0]
    listed.write_text(f"image_id,part\n{seen},mask\n")
    chosen = select_lesions(data, config, leave_out=listed)
    assert seen in set(chosen.held_out) - set(chosen.split.validation)
    write_split(RunFolder(start).split, Split(train=(seen,), validation=()))
    with pytest.raises(RunError, match=f"start trained on {seen}, which would be validated on"):
        train(config, data=data, run=tmp_path / "run", start=start, leave_out=listed)


def test_a_warm_start_without_an_epoch_does_not_begin_anew_from_other_weights(
    drawn: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    config = tiny("u-mobilenetv1")
    run.path.mkdir()
    run.config.write_text(config.to_toml())
    write_json(run.record, {"init": "run u-mobilenetv1", "start": {"epoch": 1}})
    with pytest.raises(RunError, match=r"began from run u-mobilenetv1 .* Give it with --from"):
        train(config, data=drawn, run=run.path, resume=True)


def test_a_run_on_all_images_may_start_from_any_and_be_no_start_for_one_that_validates(
    segmented: Path, drawn: Path, tmp_path: Path
) -> None:
    everything = ["data.split=all", "train.schedule=cosine", "train.seed=5"]
    run = tmp_path / "everything"
    train(tiny("u-mobilenetv1", *everything), data=drawn, run=run, start=segmented)
    record = read_json(RunFolder(run).record)
    assert (record["init"], record["start"]["epoch"]) == ("run u-mobilenetv1", 1)
    again = train(tiny("u-mobilenetv1", *everything), data=drawn, run=tmp_path / "two", start=run)
    assert read_json(RunFolder(again.run).record)["start"]["validation"] == {}
    with pytest.raises(RunError, match=r"everything trained on ISIC_.*would be validated on"):
        train(tiny("u-mobilenetv1"), data=drawn, run=tmp_path / "run", start=run)


def test_the_paper_uses_none_of_them() -> None:
    config = load_preset("dc-mobilenetv1")
    assert (config.train.weight_decay, config.train.gradient_clip, config.model.dropout) == (0,) * 3
    assert (config.loss.label_smoothing, config.augment.mixup, config.augment.cutmix) == (0,) * 3
    assert (config.train.minimum_learning_rate, config.train.teachers) == (0, ())
    assert config.augment.policy == "paper"


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("no C++ compiler was found\nand more lines")


def test_no_compiler_is_one_line_before_anything_is_written(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", _broken)
    config = tiny("squeezenet", "train.compile=true")
    with pytest.raises(ConfigError, match=r"does not work here \(no C\+\+ compiler was found\)"):
        train(config, data=drawn, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # of torch itself
@pytest.mark.parametrize(
    ("backbone", "generates"), [("mobilenet_v1", False), ("squeezenet1_1", True)]
)
def test_a_compiled_epoch_equals_one_that_is_not(
    backbone: str, generates: bool, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not generates:  # differentiating the trace; generating its code takes minutes
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    more = ("train.batch_size=12", "augment.enabled=false", "train.ema_decay=0.9")
    rate = "train.learning_rate=1e-5"
    base = tiny("dc-mobilenetv1", *more, rate, f"model.backbone={backbone}")
    losses, weights = [], []
    for compiled in (False, True):
        config = base.override([f"train.compile={str(compiled).lower()}"])
        run = RunFolder(tmp_path / str(compiled))
        losses.append(train(config, data=drawn, run=run.path).best["train_loss"])
        weights.append(load_file(run.weights))
        assert read_json(run.record)["config"]["train"]["compile"] is compiled
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert list(weights[0]) == list(weights[1])
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-3)
    longer = base.override(["train.epochs=2"])
    assert train(longer, data=drawn, run=tmp_path / "True", resume=True).epochs == 2


MESSAGE = r"memory ran out with train\.batch_size 16 and data\.input_size 32.*Lower train\.batch_"


def _take_an_exabyte(*_: object) -> torch.Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


def _fill_a_gpu() -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_too_little_memory_is_one_line_that_names_what_takes_it(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("squeezenet", "train.batch_size=16")
    for take in (_take_an_exabyte, _fill_a_gpu):
        with pytest.raises(TrainingError, match=MESSAGE), explain_memory(config):
            take()
    with pytest.raises(RuntimeError, match="shapes do not fit"), explain_memory(config):
        raise RuntimeError("shapes do not fit")
    monkeypatch.setattr(ClassifierModule, "step_loss", _take_an_exabyte)
    with pytest.raises(TrainingError, match=MESSAGE):
        train(config, data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()


def test_a_file_is_no_run_to_resume(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="run is no run folder"):
        train(tiny("mobilenetv1"), data=drawn, run=tmp_path / "run", resume=True)
