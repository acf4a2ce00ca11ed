import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.errors import DataError
from dermfuse.training.samples import Samples, load_samples, select_lesions

from ..two_folders import IMAGES, LABELS, MASKS, TESTED, write_halves
from .tiny import training_ids

ALL = ["data.split=all", "train.schedule=cosine"]


def _config(preset: str, *more: str) -> Config:
    return load_preset(preset).override(["data.input_size=32", *more])


def _samples(config: Config, data: Path) -> Samples:
    return load_samples(select_lesions(data, config), config)


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """The drawn images, to be changed."""
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("split", ["source", "paper"])
@pytest.mark.parametrize("preset", ["dc-mobilenetv1-fresh", "u-mobilenetv1-fresh"])
def test_fresh_draws_change_what_is_trained_on_and_nothing_else(
    preset: str, split: str, drawn: Path
) -> None:
    small = ["augment.segmentation_draws=90", f"data.split={split}"]
    fixed = _samples(_config(preset, *small, "augment.fresh=false"), drawn)
    fresh = _samples(_config(preset, *small), drawn)
    assert fixed.at_epoch(3) is fixed
    first, second, again = (fresh.at_epoch(epoch).source.plan for epoch in (0, 1, 1))
    assert np.array_equal(first.crop, fixed.source.plan.crop), "the first epoch's is the fixed one"
    assert np.array_equal(second.occlusion, again.occlusion)
    assert np.array_equal(first.source, second.source)
    assert np.array_equal(fresh.labels, fixed.labels)
    train, validation = fresh.train_rows, fresh.validation_rows
    assert not np.array_equal(first.crop[train], second.crop[train])
    assert np.array_equal(first.crop[validation], second.crop[validation])
    rows = torch.from_numpy(fresh.original.nonzero()[0])
    assert torch.equal(fresh.source.images(rows), fresh.at_epoch(7).source.images(rows))


@pytest.mark.parametrize("kind", ["dc", "u"])
def test_label_blind_draws_are_new_in_every_epoch_and_validate_on_images_as_they_are(
    kind: str, drawn: Path
) -> None:
    samples = _samples(_config(f"{kind}-mobilenetv1", "augment.policy=label_blind"), drawn)
    assert samples.original[samples.validation_rows].all()
    assert len(samples.validation_rows) == 6
    crops = [samples.at_epoch(epoch).source.plan.crop[samples.train_rows] for epoch in (1, 2)]
    assert not np.array_equal(*crops)


def test_training_on_all_images_leaves_out_test_duplicates_alone(data: Path) -> None:
    twin = next((data / IMAGES).iterdir())
    shutil.copy(twin, next((data / TESTED).iterdir()))
    config = _config("dc-mobilenetv1", *ALL)
    chosen = select_lesions(data, config)
    assert {*training_ids(data)} - {*chosen.split.train} == {twin.stem}
    assert chosen.split.validation == ()
    assert "a lesion of the test set" in chosen.left_out[0]
    samples = load_samples(chosen, config)
    assert len(samples.train_rows) == len(samples.labels)
    assert (len(samples.validation_rows), samples.own_masks) == (0, {})


def test_groups_stay_on_one_side_and_leave_what_a_test_image_shows(data: Path) -> None:
    config, ids, tested = (
        _config("mobilenetv1"),
        training_ids(data),
        next((data / TESTED).iterdir()),
    )
    before = select_lesions(data, config)
    groups = [f"{image_id},g{number % 10}" for number, image_id in enumerate(ids)]
    _write(data / "groups.csv", "image_id,lesion_group", *groups, f"{tested.stem},g3")
    tested.with_stem(ids[7]).write_bytes(tested.read_bytes())  # another file of the same id
    chosen = select_lesions(data, config)
    lacking = {*ids[3::10], *ids[7::10]}
    assert {*ids} - {x.image_id for x in chosen.lesions} == lacking
    words = ", ".join(sorted(lacking)[:3])
    assert chosen.left_out[0].startswith(f"6 left out (a lesion of the test set): {words}")
    group = {x.image_id: x.lesion_group for x in chosen.lesions}
    held, kept = (
        {group[x] for x in side} for side in (chosen.split.validation, chosen.split.train)
    )
    assert held
    assert not held & kept
    assert select_lesions(data, _config("u-mobilenetv1")).split == chosen.split
    assert before.fingerprint != chosen.fingerprint
    kept_all = select_lesions(data, config.override(["data.exclude_test_duplicates=false"]))
    assert len(kept_all.lesions) == 30


def test_a_listed_mask_label_or_image_is_not_used_and_the_others_stay_where_they_were(
    drawn: Path, tmp_path: Path
) -> None:
    masks, classes = (_config(name, "data.folds=3") for name in ("u-mobilenetv1", "mobilenetv1"))
    ids = training_ids(drawn)
    parts = [f"{ids[0]},mask", f"{ids[1]},label", f"{ids[2]},image"]
    listed = _write(tmp_path / "list.csv", "image_id,part", *parts)
    for config, lacking in ((masks, {ids[0], ids[2]}), (classes, {ids[1], ids[2]})):
        whole, chosen = (select_lesions(drawn, config, leave_out=x) for x in (None, listed))
        assert {x.image_id for x in whole.lesions} - {x.image_id for x in chosen.lesions} == lacking
        assert {*whole.split.validation} - lacking == {*chosen.split.validation}
        assert {*whole.split.train} - lacking == {*chosen.split.train}
        assert whole.fingerprint != chosen.fingerprint
        assert f"1 masks left out (named by list.csv): {ids[0]}" in chosen.left_out
    assert chosen.leave_out is not None
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    counts = {"images": 1, "masks": 1, "labels": 1}
    assert chosen.leave_out.to_dict() == {"file": "list.csv", **counts, "sha256": digest}
    listed.write_text(listed.read_text().replace("label", "mask"))
    assert select_lesions(drawn, classes, leave_out=listed).fingerprint != chosen.fingerprint


def test_two_folders_are_split_as_the_one_that_holds_what_they_hold(
    drawn: Path, tmp_path: Path
) -> None:
    halves = write_halves(drawn, tmp_path)
    for name, masks in (("mobilenetv1", 0), ("u-mobilenetv1", 10)):
        config = _config(name, "data.folds=3")
        whole, joined = select_lesions(drawn, config), select_lesions(halves, config)
        assert joined.split == whole.split
        assert [x.label for x in joined.lesions] == [x.label for x in whole.lesions]
        assert joined.left_out[-1].startswith("10 images are in several folders (the file of a")
        assert len(load_samples(joined, config).own_masks) == masks


def test_images_without_what_is_learnt_are_left_out(data: Path) -> None:
    joint, classes = (_config(name, *ALL) for name in ("joint-mobilenetv1", "mobilenetv1"))
    ours, theirs = (_samples(config, data) for config in (joint, classes))
    assert ours.labels.tolist() == theirs.labels.tolist(), "the class-balanced plan"
    assert ours.source.planes.shape[1] == 4, "images and masks"
    lines = (data / LABELS).read_text().splitlines()
    _write(data / LABELS, *lines[:-1])
    unmasked = min((data / MASKS).iterdir())
    unmasked.unlink()
    chosen = select_lesions(data, joint)
    lacking = {lines[-1].split(",")[0], unmasked.stem.removesuffix("_Segmentation")}
    assert {*training_ids(data)} - {x.image_id for x in chosen.lesions} == lacking
    said = [sentence.split(":")[0] for sentence in chosen.left_out]
    assert said == ["1 left out (no mask)", "1 left out (no label)"]
    (data / LABELS).unlink()
    with pytest.raises(DataError, match="0 training images with a label"):
        select_lesions(data, classes)
