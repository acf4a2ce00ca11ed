import shutil
from functools import partial
from pathlib import Path

import pytest
import safetensors
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from dermfuse.config import Config, preset_names
from dermfuse.data.splits import Split, read_split, write_split
from dermfuse.errors import ConfigError, DataError, RunError, TrainingError, WeightsError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.predictions.folder import read_predictions
from dermfuse.records.folders import RunFolder, read_json, write_json
from dermfuse.release.cards import digest_file
from dermfuse.training import modules, train
from dermfuse.training.distributed import explain_memory
from dermfuse.training.prediction import load_run, predict
from dermfuse.training.shares import Share
from dermfuse.training.train import accelerator_of, precision_of

from ..two_folders import IMAGES, LABELS, MASKS, write_halves
from .tiny import ALL, MANY, Fit, rows, tiny, training_ids

BLIND = ["augment.policy=label_blind"]
PLATEAUS = ["train.plateau_patience=1", "train.new_layer_factor=3", "train.learning_rate=0.01"]


def assert_same_run(fit: Fit) -> None:
    assert fit.run("once").metrics.read_text() == fit.run("twice").metrics.read_text()
    once, twice = fit.weights("once"), fit.weights("twice")
    assert all(torch.equal(once[key], twice[key]) for key in once | twice)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_and_takes_an_epoch(preset: str, fit: Fit) -> None:
    report = fit(preset, "data.validation_fraction=0.9", "train.batch_size=4")
    assert report.epochs == len(rows(report.run)) == 1
    assert fit.run().weights.is_file()
    assert fit.record()["status"] == "finished"


@pytest.mark.parametrize(
    ("preset", "stops", "rates", "more"),
    [
        ("mobilenetv1", (1, 3), 1, []),
        ("dc-mobilenetv1", (1, 3), 1, ["augment.fresh=true"]),
        ("dc-mobilenetv1", (1, 3), 1, MANY),
        ("dc-mobilenetv1", (2, 3, 5, 7), 3, PLATEAUS),
        ("u-mobilenetv1", (1, 3), 1, BLIND),
        ("u-mobilenetv1", (1, 4), 1, ["data.split=paper", "augment.segmentation_draws=60"]),
        ("joint-mobilenetv1", (1, 3), 1, []),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    preset: str, stops: tuple[int, ...], rates: int, more: list[str], fit: Fit
) -> None:
    once = fit(preset, *more, f"train.epochs={stops[-1]}", run="once").run
    assert len({row["learning_rate"] for row in rows(once)}) >= rates, "the plateau rule applies"
    assert rows(once)[-1]["train_loss"] < rows(once)[0]["train_loss"], "it learns"
    killed = fit.folder / "twice" / ".config.toml.abcd1234.dermfuse"  # over its first file
    killed.parent.mkdir()
    killed.write_text("[mod")
    for epochs in stops:
        fit(preset, *more, f"train.epochs={epochs}", run="twice", resume=True)
    assert_same_run(fit)
    assert not killed.exists()


@pytest.mark.parametrize(
    ("stop", "raised", "status"),
    [
        (KeyError("killed"), KeyError, "running"),
        (KeyboardInterrupt(), KeyboardInterrupt, "interrupted"),
        (SIGTERMException(), KeyboardInterrupt, "interrupted"),
    ],
)
def test_a_training_that_is_stopped_says_so_and_continues_as_if_it_was_not(
    stop: BaseException, raised: type[BaseException], status: str, fit: Fit
) -> None:
    config, step = ["dc-mobilenetv1", *ALL, "train.ema_decay=0.9"], modules.PairModule.step_loss
    fit(*config, run="once")

    def stopped(module: modules.PairModule, share: Share) -> Tensor:
        if module.current_epoch == 1:
            raise stop
        return step(module, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules.PairModule, "step_loss", stopped)
        with pytest.raises(raised):
            fit(*config, run="twice")
    record = fit.record("twice")
    assert (record["status"], record["kept_epoch"]) == (status, 1)
    assert fit(*config, run="twice", resume=True).epochs == 2
    assert fit.record("twice")["status"] == "finished"
    assert_same_run(fit)


@pytest.mark.parametrize(
    ("what", "names"),
    [("batch_norm", ("running_mean", "running_var")), ("backbone", ("",))],
)
def test_what_is_frozen_stays_as_it_was_and_the_rest_moves(
    what: str, names: tuple[str, ...], fit: Fit, segmented: Path
) -> None:
    shutil.copytree(segmented, fit.folder / "start")
    fit("u-mobilenetv1", "model.init=imagenet", f"train.{what}=frozen", start=segmented)
    moved = {
        key for key, value in fit.weights().items() if (value != fit.weights("start")[key]).any()
    }
    assert not [key for key in moved if key.startswith("backbone.") and key.endswith(names)]
    assert [key for key in moved if not key.startswith("backbone.") and key.endswith(names)]
    assert any(key.startswith("backbone.") for key in moved) == (what == "batch_norm")


def test_averaged_weights_are_validated_and_the_record_says_what_an_evaluation_does(
    fit: Fit,
) -> None:
    report = fit("squeezenet", "train.ema_decay=0.99")  # its scores differ after one epoch
    state = torch.load(fit.run().state, weights_only=True)["state_dict"]
    written = fit.weights()["head.weight"]
    assert not torch.equal(written, state["network.head.weight"]), "trained on without averaging"
    predict(report.run, data=fit.data, split="validation", out=fit.folder / "out")
    measured = evaluate(fit.folder / "out", fit.data, draws=10).classification
    assert measured is not None
    assert 0 < report.best["auc"] < 1, "a ranking that chance would not make equal"
    assert measured.average_precision.value == pytest.approx(report.best["average_precision"])


def test_the_run_folder_records_what_a_number_must_name(classified: Path) -> None:
    record = read_json(RunFolder(classified).record)
    assert {"preset", "seed", "init", "versions", "device", "precision", "commit"} <= set(record)
    assert record["data"]["train_images"] == len(read_split(RunFolder(classified).split).train)
    assert record["validation"]["average_precision"] == rows(classified)[0]["average_precision"]
    assert "not a medical device" in record["notice"]


def test_folders_and_what_a_list_leaves_out_are_recorded(fit: Fit) -> None:
    halves, listed = write_halves(fit.data, fit.folder), fit.folder / "list.csv"
    first, second, *_ = training_ids(fit.data)
    listed.write_text(f"image_id,part\n{first},mask\n{second},image\n")
    report = fit("u-mobilenetv1", data=halves, leave_out=listed)
    data = fit.record()["data"]
    assert data["folders"] == ["a", "b"]
    assert data["summary"].startswith("a and b, ")
    assert data["train_images"] + data["validation_images"] == 28
    assert data["leave_out"]["sha256"] == digest_file(listed)
    assert f"1 masks left out (named by list.csv): {first}" in report.left_out
    assert list(report.left_out) == data["left_out"]
    longer = partial(fit, "u-mobilenetv1", "train.epochs=2", data=halves, resume=True)
    with pytest.raises(RunError, match=r"other images.*the same --data and --leave-out"):
        longer()
    assert longer(leave_out=listed).epochs == 2


def test_a_run_stops_early_if_asked_and_a_plateau_run_below_the_smallest_rate(fit: Fit) -> None:
    early = ("train.epochs=30", "train.early_stop_patience=1", "train.learning_rate=1e-9")
    assert fit("mobilenetv1", *early, run="early").epochs < 30
    least = partial(fit, "mobilenetv1", "train.epochs=4", "train.minimum_learning_rate=0.01")
    assert least().epochs == 1
    assert least(resume=True).epochs == 1, "resumed after the epoch that ended it, it is over"


def test_a_clipped_run_moves_otherwise_and_the_last_epoch_is_kept_if_asked(fit: Fit) -> None:
    last = ("mobilenetv1", "train.keep=last", "train.epochs=2")
    free, clipped = fit(*last), fit(*last, "train.gradient_clip=1e-9", run="clipped")
    assert free.best["train_loss"] != clipped.best["train_loss"]
    assert (fit.record()["kept_epoch"], fit.record()["kept_by"]) == (2, "last epoch")
    assert "auc" in fit.record()["validation"]


def test_an_existing_folder_is_never_overwritten(fit: Fit) -> None:
    kept = fit.folder / "run" / "kept"
    kept.parent.mkdir()
    kept.write_text("kept")
    with pytest.raises(RunError, match="exists and is not empty"):
        fit("mobilenetv1")
    for run in ("run", "run/kept"):
        with pytest.raises(RunError, match="is no run folder"):
            fit("mobilenetv1", run=run, resume=True)
    assert [path.read_text() for path in kept.parent.iterdir()] == ["kept"]


def test_another_configuration_or_other_images_cannot_resume_a_run(fit: Fit) -> None:
    cosine = ["train.schedule=cosine", "train.new_layer_factor=10", "train.epochs=2"]
    first, second = rows(fit("dc-mobilenetv1", *cosine).run)
    assert first["learning_rate"] > second["learning_rate"]
    for setting, change in (("seed=1", "seed 0 -> 1"), ("epochs=3", "epochs 2 -> 3")):
        with pytest.raises(RunError, match=rf"another configuration \(train\.{change}\)"):
            fit("dc-mobilenetv1", *cosine, f"train.{setting}", resume=True)
    record, fingerprint = fit.run().record, fit.record()["data"]["fingerprint"]
    record.write_text(record.read_text().replace(fingerprint, "0" * 64))
    with pytest.raises(RunError, match="trained on other images"):
        fit("dc-mobilenetv1", *cosine, resume=True)
    assert rows(fit.run().path) == [first, second]


def test_a_loss_that_is_not_finite_leaves_the_epochs_before_it(fit: Fit) -> None:
    step, taken = modules.ClassifierModule.step_loss, list[int]()

    def spoilt(module: modules.ClassifierModule, share: Share) -> Tensor:
        taken.append(module.current_epoch)
        bad = taken.count(1) == 2  # the second step of the second epoch
        return step(module, share) * (float("nan") if bad else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules.ClassifierModule, "step_loss", spoilt)
        with pytest.raises(TrainingError, match="the loss is nan in epoch 2, step 2"):
            fit("mobilenetv1", "train.epochs=2")
    assert taken.count(0) == taken.count(1), "the loss is read when the epoch ends"
    assert len(rows(fit.run().path)) == 1
    assert all(bool(value.isfinite().all()) for value in fit.weights().values())
    assert fit("mobilenetv1", "train.epochs=2", resume=True).epochs == 2


@pytest.mark.parametrize(
    ("preset", "poisoned", "found"),
    [
        ("mobilenetv1", "network", "an answer of the network in validation is not finite"),
        ("dc-mobilenetv1", "network.head_b", "validation loss is nan in epoch 1"),
    ],
)
def test_answers_and_measures_that_are_not_finite_stop_the_training(
    preset: str, poisoned: str, found: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(module: modules.TrainingModule) -> None:
        for parameter in module.get_submodule(poisoned).parameters():
            parameter.data.fill_(float("nan"))

    monkeypatch.setattr(modules.TrainingModule, "on_validation_epoch_start", begin)
    with pytest.raises(TrainingError, match=found):
        fit(preset)
    assert not fit.run().weights.exists()


def test_a_side_without_one_of_the_classes_is_refused_before_anything_is_written(fit: Fit) -> None:
    data = fit.folder / "data"
    data.mkdir()
    for name in (IMAGES, MASKS):
        (data / name).symlink_to(fit.data / name)
    for malignant, preset, setting, found in (
        (1, "mobilenetv1", "train.seed=0", r"images that are .* on is malignant"),
        (30, "dc-mobilenetv1", "train.seed=0", "images that are trained on is benign"),
        (0, "joint-mobilenetv1", "data.split=paper", "images that are used is malignant"),
        (0, "dc-mobilenetv1-cosine", "data.split=all", "images that are trained on is malignant"),
    ):
        lines = (f"{each},{int(n < malignant)}" for n, each in enumerate(training_ids(fit.data)))
        (data / LABELS).write_text("\n".join(lines))
        with pytest.raises(DataError, match=rf"none of the \d+ {found}"):
            fit(preset, setting, data=data)
    assert not fit.run().path.exists()
    fit("u-mobilenetv1", data=data)  # needs no class


def test_what_is_missing_is_refused_before_anything_is_written(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler was found\nand more lines")

    monkeypatch.setattr(torch, "compile", broken)
    (fit.folder / IMAGES).symlink_to(fit.data / IMAGES)
    images = {"data": fit.folder}
    for error, preset, setting, options, found in (
        (
            WeightsError,
            "mobilenetv1",
            "model.init=imagenet",
            {"imagenet": fit.folder},
            r"model\.init",
        ),
        (DataError, "u-mobilenetv1", "train.seed=0", images, "0 training images with a mask"),
        (DataError, "joint-mobilenetv1", "train.seed=0", images, "0 training images with both"),
        (ConfigError, "squeezenet", "train.compile=true", {}, r"no C\+\+ compiler was found\)"),
    ):
        with pytest.raises(error, match=found):
            fit(preset, setting, **options)
    assert not fit.run().path.exists()


def test_cuda_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no CUDA device"):
        accelerator_of(Config().override(["train.device=cuda"]))
    assert accelerator_of(Config()) == "cpu"
    for wanted, name in (("bfloat16", "bf16-mixed"), ("float32", "32-true")):
        assert precision_of(Config().override([f"train.precision={wanted}"])) == name


@pytest.mark.parametrize(
    ("preset", "more", "kept", "head"),
    [
        ("joint-mobilenetv1", [], "network", None),
        ("dc-mobilenetv1", ["train.ema_decay=0.9"], "averaged.module", "a"),
    ],
)
def test_training_on_all_images_keeps_the_last_epoch_and_of_a_pair_network_head_a(
    preset: str,
    more: list[str],
    kept: str,
    head: str | None,
    fit: Fit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "TEST_DUPLICATES", (*training_ids(fit.data)[:2], "ISIC_0000000"))
    report = fit(preset, *ALL, *more)
    record, split = fit.record(), read_split(fit.run().split)
    assert (len(split.train), split.validation) == (30, ())
    assert (record["kept_epoch"], record["validation"]) == (2, {})
    assert record["kept_by"] == "last epoch, nothing is validated on"
    said = "data, all 30 usable images trained on (2 show a lesion of the test set)"
    assert record["data"]["summary"] == said
    assert list(rows(report.run)[0]) == ["epoch", "learning_rate", "train_loss"]
    assert rows(report.run)[-1]["train_loss"] == report.best["train_loss"]
    written = fit.weights()
    state = torch.load(fit.run().state, weights_only=True)["state_dict"]
    assert all(torch.equal(written[key], state[f"{kept}.{key}"]) for key in written)
    with safetensors.safe_open(fit.run().weights, framework="pt") as file:
        metadata = file.metadata()
    assert record.get("deployed_head") == metadata.get("head") == head
    assert metadata["epoch"] == "2"
    if head:
        deployed = load_run(report.run).network.state_dict()
        assert torch.equal(deployed["head.weight"], written["head_a.weight"])


def test_a_warm_start_is_recorded_kept_by_a_resume_and_said_by_predictions(
    fit: Fit, segmented: Path
) -> None:
    slow = ["u-mobilenetv1", "train.learning_rate=1e-9", "data.input_size=64"]
    fit(*slow, start=segmented)
    shutil.copytree(segmented, fit.folder / "start")
    weights, started = fit.weights(), fit.weights("start")
    learnt = [key for key in weights if key.endswith((".weight", ".bias"))]
    assert all(torch.allclose(weights[key], started[key], atol=1e-6) for key in learnt)
    fit(*slow, "train.epochs=2", resume=True)
    record = fit.record()
    assert (record["init"], record["epochs"]) == ("run u-mobilenetv1", 2)
    assert record["start"]["config"]["data"]["input_size"] == 32
    predict(fit.run().path, data=fit.data, split="validation", out=fit.folder / "out")
    assert read_predictions(fit.folder / "out").manifest.details["init"] == "run u-mobilenetv1"


def test_a_run_of_another_network_or_that_saw_the_validation_images_is_no_start(
    fit: Fit, segmented: Path
) -> None:
    fit("u-mobilenetv1", *ALL, "train.seed=5", run="all", start=segmented)
    assert fit.record("all")["start"]["epoch"] == 1, "without validation any run will do"
    for preset, start, found in (
        ("mobilenetv1", segmented, "trained unet on mobilenet_v1.*classifier on mobilenet_v1"),
        ("u-mobilenetv1", segmented, "u-mobilenetv1 trained on ISIC_.*would be validated on"),
        ("u-mobilenetv1", fit.folder / "all", "all trained on ISIC_.*would be validated on"),
        ("mobilenetv1", fit.folder, "is no run folder"),
    ):
        with pytest.raises(RunError, match=found):
            fit(preset, "train.seed=1", start=start)
    start, listed = fit.run("all"), fit.folder / "list.csv"
    seen = read_split(RunFolder(segmented).split).validation[0]
    listed.write_text(f"image_id,part\n{seen},mask\n")  # others may show the same lesion
    write_split(start.split, Split(train=(seen,), validation=()))
    with pytest.raises(RunError, match=f"all trained on {seen}, which would be validated on"):
        fit("u-mobilenetv1", start=start.path, leave_out=listed)
    run = fit.run()
    assert not run.path.exists()
    run.path.mkdir()
    run.config.write_text(tiny("u-mobilenetv1").to_toml())
    write_json(run.record, {"init": "run u-mobilenetv1", "start": {"epoch": 1}})
    with pytest.raises(RunError, match=r"began from run u-mobilenetv1 .* Give it with --from"):
        fit("u-mobilenetv1", resume=True)


def _take_an_exabyte(*_: object) -> Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


def test_too_little_memory_is_one_line_that_names_what_takes_it(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = r"memory ran out with train\.batch_size 16 and data\.input_size 32.*Lower train\.batch_"
    monkeypatch.setattr(modules.ClassifierModule, "step_loss", _take_an_exabyte)
    with pytest.raises(TrainingError, match=found):
        fit("squeezenet", "train.batch_size=16")
    assert not fit.run().weights.exists()
    with pytest.raises(RuntimeError, match="shapes do not fit"), explain_memory(Config()):
        raise RuntimeError("shapes do not fit")
