import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors.torch import load_file

from dermfuse.config import Config, load_preset, preset_names
from dermfuse.data.splits import read_split
from dermfuse.errors import ConfigError, DataError, RunError, TrainingError, WeightsError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.folders import RunFolder, read_json
from dermfuse.release.cards import digest_file
from dermfuse.training import predict, train
from dermfuse.training.modules import (
    ClassifierModule,
    PairModule,
    SegmentationModule,
    TrainingModule,
)
from dermfuse.training.prediction import load_run
from dermfuse.training.recorder import read_weights
from dermfuse.training.shares import Share
from dermfuse.training.train import accelerator_of, precision_of

from ..two_folders import write_halves

TINY = [
    "model.init=random",
    "train.backbone=trained",
    "train.frozen_stages=0",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "train.learning_rate=0.001",
    "augment.benign_copies=1",
    "augment.malignant_copies=2",
    "augment.segmentation_draws=4",
    "train.precision=float32",
    "train.threads=1",
]


def _tiny(preset: str, *more: str) -> Config:
    return load_preset(preset).override([*TINY, *more])


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_and_takes_an_epoch(preset: str, drawn: Path, tmp_path: Path) -> None:
    config = _tiny(preset, "data.validation_fraction=0.9", "train.batch_size=4")
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
    train(_tiny(preset, "train.epochs=3", *more), data=drawn, run=once)
    train(_tiny(preset, "train.epochs=1", *more), data=drawn, run=twice)
    train(_tiny(preset, "train.epochs=3", *more), data=drawn, run=twice, resume=True)
    assert RunFolder(once).metrics.read_text() == RunFolder(twice).metrics.read_text()
    weights, again = (load_file(RunFolder(run).weights) for run in (once, twice))
    assert all(torch.equal(weights[key], again[key]) for key in weights | again)


def _rates(run: Path) -> list[float]:
    lines = RunFolder(run).metrics.read_text().splitlines()
    return [float(line.split(",")[1]) for line in lines[1:]]


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
    train(_tiny(preset, *plateaus, "train.epochs=9"), data=drawn, run=once)
    for epochs in (2, 3, 6, 9):
        config = _tiny(preset, *plateaus, f"train.epochs={epochs}")
        train(config, data=drawn, run=often, resume=epochs > 2)
    assert len(set(_rates(once))) >= 3, "the rate falls twice"
    assert RunFolder(once).metrics.read_text() == RunFolder(often).metrics.read_text()
    weights, again = (load_file(RunFolder(run).weights) for run in (once, often))
    assert all(torch.equal(weights[key], again[key]) for key in weights | again)


def test_the_cosine_falls_over_the_epochs_and_its_length_is_fixed(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    cosine = ["train.schedule=cosine", "train.new_layer_factor=10", "train.epochs=2"]
    train(_tiny("dc-mobilenetv1", *cosine), data=drawn, run=run)
    rates = _rates(run)
    assert rates[0] > rates[1]
    with pytest.raises(RunError, match=r"train.epochs 2 -> 3"):
        train(
            _tiny("dc-mobilenetv1", *cosine[:2], "train.epochs=3"), data=drawn, run=run, resume=True
        )


def test_frozen_batch_norms_keep_their_statistics(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("dermfuse.training.train")  # the function hides it
    monkeypatch.setattr(module, "load_imagenet", lambda *_, **__: None)
    frozen = ["model.init=imagenet", "train.batch_norm=frozen", "train.epochs=2"]
    train(_tiny("u-mobilenetv1", *frozen), data=drawn, run=tmp_path / "run")
    weights = load_file(RunFolder(tmp_path / "run").weights)
    means = {key: value for key, value in weights.items() if key.endswith("running_mean")}
    assert {bool(value.any()) for key, value in means.items() if "backbone" in key} == {False}
    assert {bool(value.any()) for key, value in means.items() if "backbone" not in key} == {True}


def test_a_frozen_backbone_stays_as_it_was_and_the_rest_moves(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("dermfuse.training.train")
    started: dict[str, torch.Tensor] = {}

    def remember(backbone: torch.nn.Module, **_: object) -> None:
        started.update({key: value.clone() for key, value in backbone.state_dict().items()})

    monkeypatch.setattr(module, "load_imagenet", remember)
    frozen = ["model.init=imagenet", "train.backbone=frozen", "train.epochs=2"]
    report = train(_tiny("dc-mobilenetv1", *frozen), data=drawn, run=tmp_path / "run")
    weights = load_file(RunFolder(report.run).weights)
    kept = {key.removeprefix("backbone."): w for key, w in weights.items() if "backbone." in key}
    assert kept.keys() == started.keys()
    assert all(torch.equal(kept[key], started[key]) for key in kept), "weights and statistics"
    still = _tiny("dc-mobilenetv1", *frozen, "train.learning_rate=1e-9")
    unmoved = load_file(RunFolder(train(still, data=drawn, run=tmp_path / "still").run).weights)
    assert not torch.allclose(weights["head_a.bias"], unmoved["head_a.bias"])


def test_averaged_weights_are_those_that_are_validated_and_written(
    drawn: Path, tmp_path: Path
) -> None:
    config = _tiny("dc-mobilenetv1", "train.ema_decay=0.99", "train.learning_rate=0.01")
    report = train(config, data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    state = torch.load(folder.state, weights_only=True)["state_dict"]
    written = load_file(folder.weights)
    averaged = {key: state[f"averaged.module.{key}"] for key in written}
    assert all(torch.equal(written[key], averaged[key]) for key in written)
    key = "head_a.weight"
    assert not torch.equal(written[key], state[f"network.{key}"]), "trained on without averaging"
    predict(report.run, data=drawn, split="validation", out=tmp_path / "out")
    measured = evaluate(tmp_path / "out", drawn, draws=10).classification
    assert measured is not None
    assert measured.average_precision.value == pytest.approx(report.best["average_precision"])


def test_new_layers_may_learn_faster_than_the_backbone() -> None:
    config = Config().override(["train.new_layer_factor=10"])
    network = torch.nn.ModuleDict(
        {"backbone": torch.nn.Linear(1, 1), "head": torch.nn.Linear(1, 1)}
    )
    groups = TrainingModule(network, None, config)._parameter_groups()  # type: ignore[arg-type]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3])


def test_a_run_that_is_killed_goes_on_after_its_last_epoch(drawn: Path, tmp_path: Path) -> None:
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
        while _epochs(run) < 2:
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline, "no two epochs in two minutes"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = RunFolder(run).metrics.read_text().splitlines()
    epochs = len(before) + 1
    report = train(_tiny("mobilenetv1", f"train.epochs={epochs}"), data=drawn, run=run, resume=True)
    after = RunFolder(run).metrics.read_text().splitlines()
    assert report.epochs == epochs
    assert after[: len(before) - 1] == before[:-1], "at most the last epoch is trained again"
    straight = tmp_path / "straight"
    train(_tiny("mobilenetv1", f"train.epochs={epochs}"), data=drawn, run=straight)
    assert RunFolder(straight).metrics.read_text().splitlines() == after


def _epochs(run: Path) -> int:
    path = RunFolder(run).metrics
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_a_training_learns(drawn: Path, tmp_path: Path) -> None:
    config = _tiny("u-mobilenetv1", "train.epochs=6", "augment.segmentation_draws=30")
    train(config, data=drawn, run=tmp_path / "run")
    _, first, *_, last = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert float(last.split(",")[2]) < float(first.split(",")[2]), "the training loss falls"


def test_the_run_folder_records_what_a_number_must_name(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = train(_tiny("dc-mobilenetv1"), data=drawn, run=run)
    record = read_json(RunFolder(run).record)
    assert {"preset", "seed", "init", "versions", "device", "precision", "commit"} <= set(record)
    assert record["data"]["train_images"] == len(read_split(RunFolder(run).split).train)
    assert record["deployed_head"] in {"a", "b"}
    assert record["validation"]["average_precision"] == report.best["average_precision"]
    assert "not a medical device" in record["notice"]
    assert report.to_dict()["run"] == str(run)


def test_training_images_that_show_a_test_lesion_are_counted_in_the_words_on_the_data(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sorted(path.stem for path in (drawn / "ISBI2016_ISIC_Part3_Training_Data").iterdir())
    module = importlib.import_module("dermfuse.training.train")  # the function hides it
    monkeypatch.setattr(module, "TEST_DUPLICATES", (*known[:2], "ISIC_0000000"))
    report = train(_tiny("mobilenetv1", *ALL), data=drawn, run=tmp_path / "run")
    said = read_json(RunFolder(report.run).record)["data"]["summary"]
    assert said == "data, all 30 usable images trained on (2 show a lesion of the test set)"


def test_folders_and_what_a_list_leaves_out_are_recorded(drawn: Path, tmp_path: Path) -> None:
    halves, run, listed = write_halves(drawn, tmp_path), tmp_path / "run", tmp_path / "list.csv"
    ids = sorted(path.stem for path in (drawn / "ISBI2016_ISIC_Part3_Training_Data").iterdir())
    listed.write_text(f"image_id,part\n{ids[0]},mask\n{ids[1]},image\n")
    config = _tiny("u-mobilenetv1")
    report = train(config, data=halves, run=run, leave_out=listed)
    data = read_json(RunFolder(run).record)["data"]
    assert data["folders"] == ["a", "b"]
    assert data["summary"].startswith("a and b, ")
    assert data["train_images"] + data["validation_images"] == 28
    assert data["leave_out"] == {
        "file": "list.csv",
        "images": 1,
        "masks": 1,
        "labels": 0,
        "sha256": digest_file(listed),
    }
    assert f"1 masks left out (named by list.csv): {ids[0]}" in report.left_out
    assert list(report.left_out) == data["left_out"]
    longer = _tiny("u-mobilenetv1", "train.epochs=2")
    with pytest.raises(RunError, match=r"other images.*the same --data and --leave-out"):
        train(longer, data=halves, run=run, resume=True)
    train(longer, data=halves, run=run, leave_out=listed, resume=True)
    predicted = predict(run, data=halves, split="validation", out=tmp_path / "out")
    assert predicted.images == data["validation_images"]
    measured = evaluate(tmp_path / "out", halves, draws=10).segmentation
    assert measured is not None
    assert measured.image_count == data["validation_images"]


def test_the_paper_split_validates_on_augmented_masks(drawn: Path, tmp_path: Path) -> None:
    config = _tiny("u-mobilenetv1", "data.split=paper", "augment.segmentation_draws=60")
    report = train(config, data=drawn, run=tmp_path / "run")
    assert 0 <= report.best["jaccard"] <= 1


def test_early_stopping_is_off_unless_asked_for(drawn: Path, tmp_path: Path) -> None:
    config = _tiny(
        "mobilenetv1", "train.epochs=30", "train.early_stop_patience=1", "train.learning_rate=1e-9"
    )
    assert train(config, data=drawn, run=tmp_path / "run").epochs < 30


def test_an_existing_run_is_never_overwritten(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RunError, match="exists and is not empty"):
        train(_tiny("mobilenetv1"), data=drawn, run=tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        train(_tiny("mobilenetv1"), data=drawn, run=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_another_configuration_or_other_images_cannot_resume_a_run(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(_tiny("mobilenetv1"), data=drawn, run=run)
    before = RunFolder(run).metrics.read_text()
    with pytest.raises(RunError, match=r"another configuration \(train.seed 0 -> 1\)"):
        train(_tiny("mobilenetv1", "train.seed=1"), data=drawn, run=run, resume=True)
    record = RunFolder(run).record
    text = record.read_text()
    record.write_text(text.replace(read_json(record)["data"]["fingerprint"], "0" * 64))
    with pytest.raises(RunError, match="trained on other images"):
        train(_tiny("mobilenetv1", "train.epochs=2"), data=drawn, run=run, resume=True)
    assert RunFolder(run).metrics.read_text() == before


def test_a_damaged_state_is_refused(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(_tiny("mobilenetv1"), data=drawn, run=run)
    RunFolder(run).state.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"training state .* cannot be read"):
        train(_tiny("mobilenetv1", "train.epochs=2"), data=drawn, run=run, resume=True)


def test_a_loss_that_is_not_finite_stops_the_training(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PairModule, "step_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1, step 1"):
        train(_tiny("dc-mobilenetv1"), data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()


def test_a_loss_that_is_not_finite_leaves_the_epochs_before_it(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = _tiny("mobilenetv1", "train.epochs=2"), RunFolder(tmp_path / "run")
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
        train(_tiny(preset), data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()


def test_a_head_alone_that_is_not_finite_in_validation_stops_the_training(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        TrainingModule, "on_validation_epoch_start", lambda self: _poison(self.network.head_b)
    )
    with pytest.raises(TrainingError, match="validation loss is nan in epoch 1"):
        train(_tiny("dc-mobilenetv1"), data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()


def _poison(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measure_that_is_not_finite_stops_the_training(
    value: float, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SegmentationModule, "measure", lambda *_: {"validation_loss": value, "rank": 0.5}
    )
    with pytest.raises(TrainingError, match=f"validation loss is {value} in epoch 1") as caught:
        train(_tiny("u-mobilenetv1"), data=drawn, run=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not RunFolder(tmp_path / "run").weights.exists()


def test_a_side_without_one_of_the_classes_is_refused_before_anything_is_written(
    drawn: Path, tmp_path: Path
) -> None:
    for name in ("ISBI2016_ISIC_Part3_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"):
        (tmp_path / name).symlink_to(drawn / name)
    labels = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    ids = [line.split(",")[0] for line in (drawn / labels).read_text().splitlines()]

    def label(malignant: int) -> None:
        lines = [f"{name},{int(number < malignant)}" for number, name in enumerate(ids)]
        (tmp_path / labels).write_text("\n".join(lines))

    label(1)  # too few for both sides
    with pytest.raises(DataError, match=r"none of the \d+ images that are .* on is malignant"):
        train(_tiny("mobilenetv1"), data=tmp_path, run=tmp_path / "run")
    label(len(ids))
    for preset in ("dc-mobilenetv1", "joint-mobilenetv1"):
        with pytest.raises(DataError, match="images that are trained on is benign"):
            train(_tiny(preset), data=tmp_path, run=tmp_path / "run")
    label(0)
    for split in ("paper", "all"):
        config = _tiny("dc-mobilenetv1-cosine", f"data.split={split}")
        with pytest.raises(DataError, match=r"images that are (used|trained on) is malignant"):
            train(config, data=tmp_path, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(_tiny("u-mobilenetv1"), data=tmp_path, run=tmp_path / "masks")  # needs no class


def test_missing_weights_are_an_error_before_anything_is_written(
    drawn: Path, tmp_path: Path
) -> None:
    config = _tiny("mobilenetv1", "model.init=imagenet")
    with pytest.raises(WeightsError, match=r"model\.init"):
        train(config, data=drawn, run=tmp_path / "run", imagenet=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_masks_cannot_train_a_unet(drawn: Path, tmp_path: Path) -> None:
    images = "ISBI2016_ISIC_Part3_Training_Data"
    (tmp_path / images).symlink_to(drawn / images)
    with pytest.raises(DataError, match="0 training images with a mask"):
        train(_tiny("u-mobilenetv1"), data=tmp_path, run=tmp_path / "run")
    with pytest.raises(DataError, match="0 training images with both"):
        train(_tiny("joint-mobilenetv1"), data=tmp_path, run=tmp_path / "run")


def test_cuda_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        accelerator_of(Config().override(["train.device=cuda"]))
    assert accelerator_of(Config()) == "cpu"
    assert precision_of(Config().override(["train.precision=bfloat16"])) == "bf16-mixed"
    assert precision_of(Config().override(["train.precision=float32"])) == "32-true"


def test_weights_of_another_network_are_refused(drawn: Path, tmp_path: Path) -> None:
    train(_tiny("mobilenetv1"), data=drawn, run=tmp_path / "run")
    with pytest.raises(RunError, match="does not fit the run's network"):
        read_weights(RunFolder(tmp_path / "run").weights, torch.nn.Linear(2, 2))


def test_each_kind_of_network_must_say_its_loss_and_its_metrics() -> None:
    module = TrainingModule(torch.nn.Linear(1, 1), None, Config())  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        module.step_loss(None)
    with pytest.raises(NotImplementedError):
        module.measure([])


ALL = ["data.split=all", "train.schedule=cosine", "train.epochs=2"]


@pytest.mark.parametrize("preset", ["mobilenetv1", "joint-mobilenetv1"])
def test_training_on_all_images_keeps_the_last_epoch(
    preset: str, drawn: Path, tmp_path: Path
) -> None:
    report = train(_tiny(preset, *ALL), data=drawn, run=tmp_path / "run")
    folder = RunFolder(report.run)
    record, split = read_json(folder.record), read_split(folder.split)
    assert (len(split.train), split.validation) == (30, ())
    assert (record["kept_epoch"], record["validation"]) == (2, {})
    assert record["kept_by"] == "last epoch, nothing is validated on"
    assert record["data"]["summary"] == "data, all 30 usable images trained on"
    assert "deployed_head" not in record
    header, _, last = folder.metrics.read_text().splitlines()
    assert header == "epoch,learning_rate,train_loss"
    assert float(last.split(",")[2]) == report.best["train_loss"]
    written = load_file(folder.weights)
    state = torch.load(folder.state, weights_only=True)["state_dict"]
    assert all(torch.equal(written[key], state[f"network.{key}"]) for key in written)


def test_a_pair_network_without_validation_keeps_head_a_of_the_average(
    drawn: Path, tmp_path: Path
) -> None:
    config = _tiny("dc-mobilenetv1", *ALL, "train.ema_decay=0.9")
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


def test_a_killed_training_on_all_images_goes_on_as_if_it_was_not(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _tiny("dc-mobilenetv1", *ALL, "train.epochs=3", "train.ema_decay=0.9")
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(config, data=drawn, run=once)
    step = PairModule.step_loss

    def killed(module: PairModule, share: Share) -> torch.Tensor:
        if module.current_epoch == 2:
            raise KeyError("killed")
        return step(module, share)

    monkeypatch.setattr(PairModule, "step_loss", killed)
    with pytest.raises(KeyError, match="killed"):
        train(config, data=drawn, run=twice)
    monkeypatch.setattr(PairModule, "step_loss", step)
    record = read_json(RunFolder(twice).record)
    assert (record["status"], record["kept_epoch"]) == ("running", 2)
    train(config, data=drawn, run=twice, resume=True)
    assert RunFolder(once).metrics.read_text() == RunFolder(twice).metrics.read_text()
    weights, again = (load_file(RunFolder(run).weights) for run in (once, twice))
    assert all(torch.equal(weights[key], again[key]) for key in weights | again)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SIGTERMException])
def test_a_training_that_is_told_to_stop_says_so_and_goes_on_later(
    stop: type[BaseException], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = _tiny("mobilenetv1", "train.epochs=2"), tmp_path / "run"
    step = ClassifierModule.step_loss

    def stopped(module: ClassifierModule, share: Share) -> torch.Tensor:
        if module.current_epoch == 1:
            raise stop
        return step(module, share)

    monkeypatch.setattr(ClassifierModule, "step_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(config, data=drawn, run=run)
    assert read_json(RunFolder(run).record)["status"] == "interrupted"
    monkeypatch.setattr(ClassifierModule, "step_loss", step)
    assert train(config, data=drawn, run=run, resume=True).epochs == 2
    assert read_json(RunFolder(run).record)["status"] == "finished"


def test_a_run_that_was_killed_over_its_first_file_begins_when_resumed(
    drawn: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.toml.abcd1234.dermfuse").write_text("[mod")
    config = _tiny("dc-mobilenetv1", "train.epochs=1")
    assert train(config, data=drawn, run=run, resume=True).epochs == 1
    assert not list(run.glob(".*"))
