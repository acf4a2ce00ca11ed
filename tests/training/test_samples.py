import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.errors import DataError
from dermfuse.training.samples import Samples, load_samples, select_lesions

ALL = ["data.split=all", "train.schedule=cosine", "data.input_size=32"]


def _samples(config: Config, data: Path) -> Samples:
    return load_samples(select_lesions(data, config), config)


@pytest.mark.parametrize("split", ["source", "paper"])
@pytest.mark.parametrize("preset", ["dc-mobilenetv1-fresh", "u-mobilenetv1-fresh"])
def test_fresh_draws_change_what_is_trained_on_and_nothing_else(
    preset: str, split: str, drawn: Path
) -> None:
    small = ["data.input_size=32", "augment.segmentation_draws=90", f"data.split={split}"]
    fixed = _samples(load_preset(preset).override([*small, "augment.fresh=false"]), drawn)
    fresh = _samples(load_preset(preset).override(small), drawn)
    first, second, again = (fresh.at_epoch(epoch).source.plan for epoch in (0, 1, 1))
    assert torch.equal(first.crop, fixed.source.plan.crop), (
        "the first epoch's plan is the fixed one"
    )
    assert torch.equal(second.occlusion, again.occlusion)
    assert torch.equal(first.source, second.source)
    assert np.array_equal(fresh.labels, fixed.labels)
    train, validation = fresh.train_rows, fresh.validation_rows
    assert not torch.equal(first.crop[train], second.crop[train])
    assert torch.equal(first.crop[validation], second.crop[validation])
    originals = fresh.original.nonzero()[0]
    rows = torch.from_numpy(originals)
    assert torch.equal(fresh.source.images(rows), fresh.at_epoch(7).source.images(rows))


def test_one_plan_serves_all_epochs_unless_drawn_anew(drawn: Path) -> None:
    samples = _samples(load_preset("mobilenetv1").override(["data.input_size=32"]), drawn)
    assert samples.at_epoch(3) is samples


def test_training_on_all_images_leaves_out_test_duplicates_alone(
    drawn: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn, data)
    twin = next((data / "ISBI2016_ISIC_Part3_Training_Data").iterdir())
    shutil.copy(twin, next((data / "ISBI2016_ISIC_Part3_Test_Data").iterdir()))
    config = load_preset("dc-mobilenetv1").override(ALL)
    chosen = select_lesions(data, config)
    assert len(chosen.split.train) == 29
    assert twin.stem not in chosen.split.train
    assert chosen.split.validation == ()
    assert "a duplicate of a test image" in chosen.left_out[0]
    samples = load_samples(chosen, config)
    assert len(samples.train_rows) == len(samples.labels)
    assert (len(samples.validation_rows), samples.own_masks) == (0, {})


def test_a_folder_without_labels_trains_no_class_network(drawn: Path, tmp_path: Path) -> None:
    images = "ISBI2016_ISIC_Part3_Training_Data"
    (tmp_path / images).symlink_to(drawn / images)
    with pytest.raises(DataError, match="0 training images with a label"):
        select_lesions(tmp_path, load_preset("mobilenetv1").override(ALL))
