import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.errors import DataError
from dermfuse.training.samples import Samples, load_samples, select_lesions

from ..two_folders import write_halves
from .tiny import IMAGES, training_ids

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
    assert np.array_equal(first.crop, fixed.source.plan.crop), (
        "the first epoch's plan is the fixed one"
    )
    assert np.array_equal(second.occlusion, again.occlusion)
    assert np.array_equal(first.source, second.source)
    assert np.array_equal(fresh.labels, fixed.labels)
    train, validation = fresh.train_rows, fresh.validation_rows
    assert not np.array_equal(first.crop[train], second.crop[train])
    assert np.array_equal(first.crop[validation], second.crop[validation])
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
    twin = next((data / IMAGES).iterdir())
    shutil.copy(twin, next((data / "ISBI2016_ISIC_Part3_Test_Data").iterdir()))
    config = load_preset("dc-mobilenetv1").override(ALL)
    chosen = select_lesions(data, config)
    assert len(chosen.split.train) == 29
    assert twin.stem not in chosen.split.train
    assert chosen.split.validation == ()
    assert "a lesion of the test set" in chosen.left_out[0]
    samples = load_samples(chosen, config)
    assert len(samples.train_rows) == len(samples.labels)
    assert (len(samples.validation_rows), samples.own_masks) == (0, {})


def _listed(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["image_id,part", *lines]) + "\n")
    return path


def test_a_listed_mask_label_or_image_is_not_used_and_the_others_stay_where_they_were(
    drawn: Path, tmp_path: Path
) -> None:
    masks, classes = (
        load_preset(name).override(["data.folds=3"]) for name in ("u-mobilenetv1", "mobilenetv1")
    )
    ids = training_ids(drawn)
    listed = _listed(tmp_path / "list.csv", f"{ids[0]},mask", f"{ids[1]},label", f"{ids[2]},image")
    for config, lacking in ((masks, {ids[0], ids[2]}), (classes, {ids[1], ids[2]})):
        whole, chosen = (select_lesions(drawn, config, leave_out=x) for x in (None, listed))
        assert {x.image_id for x in whole.lesions} - {x.image_id for x in chosen.lesions} == lacking
        assert set(whole.split.validation) - lacking == set(chosen.split.validation)
        assert set(whole.split.train) - lacking == set(chosen.split.train)
        assert whole.fingerprint != chosen.fingerprint
        assert f"1 masks left out (named by list.csv): {ids[0]}" in chosen.left_out
    assert chosen.leave_out is not None
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    counts = {"images": 1, "masks": 1, "labels": 1}
    assert chosen.leave_out.to_dict() == {"file": "list.csv", **counts, "sha256": digest}
    listed.write_text(listed.read_text().replace("label", "mask"))
    assert select_lesions(drawn, classes, leave_out=listed).fingerprint != chosen.fingerprint


def test_groups_stay_on_one_side_for_masks_and_for_classes(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "data")
    ids = training_ids(drawn)
    lines = [f"{image_id},g{number % 10}" for number, image_id in enumerate(ids)]
    before = select_lesions(tmp_path / "data", load_preset("mobilenetv1"))
    (tmp_path / "data" / "groups.csv").write_text("\n".join(["image_id,lesion_group", *lines]))
    splits = []
    for name in ("u-mobilenetv1", "mobilenetv1"):
        chosen = select_lesions(tmp_path / "data", load_preset(name))
        held = {x.lesion_group for x in chosen.lesions if x.image_id in chosen.split.validation}
        kept = {x.lesion_group for x in chosen.lesions if x.image_id in chosen.split.train}
        assert held
        assert not held & kept
        splits.append(chosen.split)
    assert splits[0] == splits[1]
    assert before.fingerprint != chosen.fingerprint


def test_two_folders_are_split_as_the_one_that_holds_what_they_hold(
    drawn: Path, tmp_path: Path
) -> None:
    halves = write_halves(drawn, tmp_path)
    for name in ("mobilenetv1", "u-mobilenetv1"):
        config = load_preset(name).override(["data.folds=3", "data.input_size=32"])
        whole, joined = select_lesions(drawn, config), select_lesions(halves, config)
        assert joined.split == whole.split
        assert [x.label for x in joined.lesions] == [x.label for x in whole.lesions]
        assert joined.left_out[-1].startswith("10 images are in several folders (the file of a")
        samples = load_samples(joined, config)
        assert len(samples.own_masks) == (len(joined.split.validation) if name[0] == "u" else 0)


def test_images_in_a_group_with_a_test_image_are_left_out(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "data")
    ids = training_ids(drawn)
    tested = next((drawn / "ISBI2016_ISIC_Part3_Test_Data").iterdir()).stem
    lines = ["image_id,lesion_group", f"{ids[3]},x", f"{ids[4]},x", f"{tested},x", f"{ids[5]},y"]
    (tmp_path / "data" / "groups.csv").write_text("\n".join(lines))
    config = load_preset("mobilenetv1")
    chosen = select_lesions(tmp_path / "data", config)
    assert {*ids} - {x.image_id for x in chosen.lesions} == {ids[3], ids[4]}
    assert chosen.left_out == (f"2 left out (a lesion of the test set): {ids[3]}, {ids[4]}",)
    kept = select_lesions(
        tmp_path / "data", config.override(["data.exclude_test_duplicates=false"])
    )
    assert len(kept.lesions) == 30


def test_a_training_image_with_the_id_of_a_test_image_is_left_out(
    drawn: Path, tmp_path: Path
) -> None:
    a, b = write_halves(drawn, tmp_path)
    first = sorted((b / IMAGES).iterdir())[-1]
    shutil.copy(first, a / "ISBI2016_ISIC_Part3_Test_Data")
    first.write_bytes(first.read_bytes() + b"\0")  # the bytes differ, the id does not
    chosen = select_lesions([a, b], load_preset("mobilenetv1"))
    assert first.stem not in {x.image_id for x in chosen.lesions}


def test_a_folder_without_labels_trains_no_class_network(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).symlink_to(drawn / IMAGES)
    with pytest.raises(DataError, match="0 training images with a label"):
        select_lesions(tmp_path, load_preset("mobilenetv1").override(ALL))


def test_the_joint_network_learns_from_images_with_label_and_mask_by_the_class_balanced_plan(
    drawn: Path, tmp_path: Path
) -> None:
    joint, classes = (
        load_preset(name).override(ALL) for name in ("joint-mobilenetv1", "mobilenetv1")
    )
    ours, theirs = (_samples(config, drawn) for config in (joint, classes))
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.source.planes.shape[1] == 4, "images and masks"
    shutil.copytree(drawn, tmp_path / "data")
    table = tmp_path / "data" / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    *lines, last = table.read_text().splitlines()
    table.write_text("\n".join(lines) + "\n")
    masks = tmp_path / "data" / "ISBI2016_ISIC_Part1_Training_GroundTruth"
    sorted(masks.iterdir())[0].unlink()
    chosen = select_lesions(tmp_path / "data", joint)
    ids = {lesion.image_id for lesion in chosen.lesions}
    assert len(ids) == 28
    assert last.split(",")[0] not in ids
    said = [sentence.split(":")[0] for sentence in chosen.left_out]
    assert said == ["1 left out (no mask)", "1 left out (no label)"]
