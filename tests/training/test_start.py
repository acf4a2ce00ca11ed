import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dermfuse.config import Config, load_preset
from dermfuse.data.splits import Split, write_split
from dermfuse.errors import RunError
from dermfuse.folders import RunFolder, read_json, write_json
from dermfuse.models.build import build_network
from dermfuse.predictions.folder import read_predictions
from dermfuse.training import predict, train
from dermfuse.training.samples import select_lesions
from dermfuse.training.train import load_start, read_origin

TINY = [
    "model.init=random",
    "data.input_size=32",
    "train.epochs=1",
    "train.batch_size=8",
    "augment.benign_copies=1",
    "augment.malignant_copies=2",
    "augment.segmentation_draws=4",
    "train.precision=float32",
    "train.threads=1",
]


def _tiny(preset: str, *more: str) -> Config:
    return load_preset(preset).override([*TINY, *more])


@pytest.fixture(scope="module")
def first(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("start") / "first"
    train(_tiny("u-mobilenetv1"), data=drawn, run=run)
    return run


def test_a_network_starts_from_the_best_weights_of_a_run(first: Path) -> None:
    config = load_preset("u-mobilenetv1").model
    network = build_network(config)
    said = load_start(network, first, model=config, validation=())
    weights = load_file(RunFolder(first).weights)
    assert all(torch.equal(network.state_dict()[key], weights[key]) for key in weights)
    assert said["init"] == "run first"
    assert said["start"]["epoch"] == 1
    assert said["start"]["config"]["data"]["input_size"] == 32


def test_a_warm_start_is_recorded_kept_by_a_resume_and_said_by_predictions(
    first: Path, drawn: Path, tmp_path: Path
) -> None:
    slow = ["train.learning_rate=1e-9", "data.input_size=64"]
    run = tmp_path / "second"
    before = train(_tiny("u-mobilenetv1", *slow), data=drawn, run=run, start=first)
    weights, started = (load_file(RunFolder(r).weights) for r in (run, first))
    assert torch.allclose(weights["head.weight"], started["head.weight"], atol=1e-6)
    train(_tiny("u-mobilenetv1", *slow, "train.epochs=2"), data=drawn, run=run, resume=True)
    record = read_json(RunFolder(run).record)
    assert (record["init"], record["start"]["preset"]) == ("run first", "u-mobilenetv1")
    assert (before.epochs, record["epochs"]) == (1, 2)
    predict(run, data=drawn, split="validation", out=tmp_path / "out")
    assert read_predictions(tmp_path / "out").manifest.details["init"] == "run first"


def test_a_run_of_another_network_is_no_start(first: Path, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"trained unet on mobilenet_v1.*classifier on mobilenet_v1"):
        train(_tiny("mobilenetv1"), data=drawn, run=tmp_path / "run", start=first)
    assert not (tmp_path / "run").exists()


def test_a_run_that_saw_the_validation_images_is_no_start(
    first: Path, drawn: Path, tmp_path: Path
) -> None:
    other = _tiny("u-mobilenetv1", "train.seed=1")
    with pytest.raises(RunError, match=r"first trained on ISIC_.*would be validated on"):
        train(other, data=drawn, run=tmp_path / "run", start=first)


def test_a_run_that_saw_another_image_of_a_validated_lesion_is_no_start(
    first: Path, drawn: Path, tmp_path: Path
) -> None:
    data, start, listed = tmp_path / "data", tmp_path / "start", tmp_path / "list.csv"
    shutil.copytree(drawn, data)
    shutil.copytree(first, start)
    ids = sorted(path.stem for path in (drawn / "ISBI2016_ISIC_Part3_Training_Data").iterdir())
    lines = [f"{image_id},g{number // 2}" for number, image_id in enumerate(ids)]
    (data / "groups.csv").write_text("\n".join(["image_id,lesion_group", *lines]))
    config = _tiny("u-mobilenetv1")
    seen = select_lesions(data, config).split.validation[0]
    listed.write_text(f"image_id,part\n{seen},mask\n")
    chosen = select_lesions(data, config, leave_out=listed)
    assert seen in set(chosen.held_out) - set(chosen.split.validation)
    write_split(RunFolder(start).split, Split(train=(seen,), validation=()))
    with pytest.raises(RunError, match=f"start trained on {seen}, which would be validated on"):
        train(config, data=data, run=tmp_path / "run", start=start, leave_out=listed)


def test_a_folder_without_a_run_is_no_start(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        train(_tiny("mobilenetv1"), data=drawn, run=tmp_path / "run", start=tmp_path)


def test_a_warm_start_without_an_epoch_does_not_begin_anew_from_other_weights(
    drawn: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    config = _tiny("u-mobilenetv1")
    run.path.mkdir()
    run.config.write_text(config.to_toml())
    write_json(run.record, {"init": "run first", "start": {"epoch": 1}})
    assert read_origin(run) == {"init": "run first", "start": {"epoch": 1}}
    with pytest.raises(RunError, match=r"began from run first .* Give it with --from"):
        train(config, data=drawn, run=run.path, resume=True)


def test_a_run_on_all_images_may_start_from_any_and_be_no_start_for_one_that_validates(
    first: Path, drawn: Path, tmp_path: Path
) -> None:
    everything = ["data.split=all", "train.schedule=cosine", "train.seed=5"]
    run = tmp_path / "everything"
    train(_tiny("u-mobilenetv1", *everything), data=drawn, run=run, start=first)
    record = read_json(RunFolder(run).record)
    assert (record["init"], record["start"]["epoch"]) == ("run first", 1)
    again = train(_tiny("u-mobilenetv1", *everything), data=drawn, run=tmp_path / "two", start=run)
    assert read_json(RunFolder(again.run).record)["start"]["validation"] == {}
    with pytest.raises(RunError, match=r"everything trained on ISIC_.*would be validated on"):
        train(_tiny("u-mobilenetv1"), data=drawn, run=tmp_path / "run", start=run)
