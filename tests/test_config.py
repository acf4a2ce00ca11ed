import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import (
    Config,
    DataConfig,
    ModelConfig,
    Task,
    TrainConfig,
    find_config,
    has_masks,
    has_scores,
    load_config,
    load_preset,
    preset_names,
)
from dermfuse.errors import ConfigError


def test_the_defaults_are_the_papers_values() -> None:
    config = Config()
    assert (config.train.epochs, config.train.batch_size) == (50, 32)
    assert config.train.learning_rate == 1e-4
    assert (config.train.plateau_factor, config.train.plateau_patience) == (0.5, 3)
    assert config.loss.discriminant_weight == 0.5
    assert (config.loss.focal_alpha, config.loss.focal_gamma) == (0.25, 0.75)
    assert (config.loss.mask_focal_alpha, config.loss.mask_focal_gamma) == (0.75, 1.25)
    assert config.train.early_stop_patience == 0


def test_every_row_of_tables_iii_to_x_has_a_preset() -> None:
    rows = {name for name in preset_names() if load_preset(name).summary.startswith("Table")}
    assert rows >= {
        *("squeezenet", "shufflenet", "resnet18", "mobilenetv1", "densenet121"),
        *("mobilenetv1-noaug", "densenet121-noaug"),
        *("dc-mobilenetv1", "dc-densenet121", "dc-mobilenetv1-focal", "dc-densenet121-focal"),
        *("unet", "u-resnext50", "u-vgg16", "u-densenet121", "u-mobilenetv1"),
        *("u-mobilenetv1-noaug", "u-densenet121-noaug"),
        *("u-mobilenetv1-focal", "u-densenet121-focal"),
    }


@pytest.mark.parametrize("base", ["dc-mobilenetv1", "u-mobilenetv1"])
@pytest.mark.parametrize(
    ("variant", "setting"),
    [
        ("fresh", "augment.fresh=true"),
        ("ema", "train.ema_decay=0.998"),
        ("cosine", "train.schedule=cosine"),
    ],
)
def test_a_variant_changes_one_setting_of_its_base(base: str, variant: str, setting: str) -> None:
    name = f"{base}-{variant}"
    config = load_preset(name)
    changed = load_preset(base).override([setting])
    assert replace(changed, name=name, summary=config.summary) == config


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_survives_the_way_to_toml_and_back(name: str) -> None:
    config = load_preset(name)
    assert config.name == name
    assert config.summary.startswith("Table") or "beyond the paper" in config.summary.lower()
    assert Config.from_mapping(tomllib.loads(config.to_toml())) == config


def test_any_text_survives_the_way_to_toml_and_back() -> None:
    config = Config(summary='a "quoted" \\ line\nand another').override(
        ['train.teachers=["a", "b"]']
    )
    assert Config.from_mapping(tomllib.loads(config.to_toml())) == config


def test_assignments_override_a_preset_and_leave_it_alone() -> None:
    config = load_preset("dc-mobilenetv1")
    changed = config.override(["train.epochs=5", "data.split=paper", "train.learning_rate=1"])
    assert (changed.train.epochs, changed.data.split) == (5, "paper")
    assert changed.train.learning_rate == 1.0
    assert config.train.epochs == 50


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=5", 'no key "train.epoch".*Did you mean "epochs"'),
        ("trian.epochs=5", 'no key "trian".*Did you mean "train"'),
        ("data.split=papr", "data.split is 'papr'.*source, paper.*Did you mean \"paper\""),
        ("data.split=1", "data.split is 1. Expected: one of source, paper, all"),
        ("train.epochs=five", "train.epochs is 'five'. Expected: a whole number"),
        ("train.epochs=0", "train.epochs is 0. Expected: a value from 1"),
        ("train.epochs=true", "train.epochs is True. Expected: a whole number"),
        ("epochs=5", '"epochs=5" sets nothing. Expected: table.key=value'),
        ("train.epochs", "sets nothing"),
        ("data.input_size=100", "data.input_size is 100.*multiple of 32. Set it to 96"),
        ("data.folds=1", "data.folds is 1"),
        ("data.fold=2", "data.fold is 2 with data.folds 0"),
        ("train.batch_norm=frosen", 'Did you mean "frozen"'),
        ("train.ema_decay=1", r"train.ema_decay is 1.0. Expected: a value from 0"),
        ("train.teachers=3", "train.teachers is 3. Expected: a list"),
        ("model.dropout=1.5", "model.dropout is 1.5"),
        ("loss.focal_alpha=1.5", "loss.focal_alpha is 1.5"),
        ("loss.joint_class_weight=-1", "loss.joint_class_weight is -1"),
        ("augment.minimum_crop=0", "augment.minimum_crop is 0"),
    ],
)
def test_an_override_that_cannot_be_used_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config().override([assignment])


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match='Did you mean "u-mobilenetv1"'):
        load_preset("u-mobilnetv1")


def test_a_file_of_ones_own_is_as_good_as_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "my-variant.toml"
    path.write_text('[model]\nnetwork = "discriminant"\nbackbone = "efficientnet_lite0"\n')
    config = find_config(str(path))
    assert (config.name, config.model.backbone) == ("my-variant", "efficientnet_lite0")
    assert find_config("dc-mobilenetv1") == load_preset("dc-mobilenetv1")
    with pytest.raises(ConfigError, match="is missing"):
        find_config(str(tmp_path / "other.toml"))


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["data.split=paper", "data.folds=5"], 'folds is 5 with data.split "paper"'),
        (["data.outer_folds=3"], "outer_folds is 3 with data.folds 0"),
        (["model.network=unet_original"], "with model.backbone"),
        (["model.network=unet_original", "model.backbone="], "no ImageNet weights"),
        (["model.network=unet", "model.dropout=0.2"], 'dropout is 0.2 with model.network "unet"'),
        (
            ["train.batch_norm=frozen", "model.init=random"],
            'batch_norm is "frozen" with model.init',
        ),
        (["train.backbone=frozen", "model.init=random"], 'backbone is "frozen" with model.init'),
        (["train.frozen_stages=2", "model.init=random"], "frozen_stages is 2 with model.init"),
        (
            ["augment.fresh=true", "augment.enabled=false"],
            "augment.fresh is true with augment.enabled false",
        ),
        (
            ["augment.policy=label_blind", "augment.fresh=true"],
            'augment.fresh is true with augment.policy "label_blind"',
        ),
        (["augment.policy=label_blind", "data.split=paper"], 'with data.split "paper"'),
        (["augment.mixup=1", "augment.cutmix=1"], "mixup is 1.0 with augment.cutmix 1.0"),
        (
            ["augment.mixup=1", "model.network=unet"],
            'augment.mixup is 1.0 with model.network "unet"',
        ),
        (["train.graph=true", "train.compile=true"], "train.graph is true with train.compile true"),
        (["train.minimum_learning_rate=1e-6", "train.schedule=cosine"], 'with train.schedule "cos'),
        (["train.keep=last", "train.early_stop_patience=2"], 'with train.keep "last"'),
        (["data.split=all"], 'train.schedule is "plateau" with data.split "all"'),
        (
            ["data.split=all", "train.schedule=cosine", "data.folds=5"],
            'folds is 5 with data.split "all"',
        ),
        (["data.split=all", "train.schedule=cosine", "data.fold=1"], "fold is 1 with data.folds 0"),
        (
            ["data.split=all", "train.schedule=cosine", "train.early_stop_patience=3"],
            'early_stop_patience is 3 with data.split "all"',
        ),
    ],
)
def test_contradictions_are_refused_with_what_to_set(assignments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config().override(assignments)
    assert caught.value.expected


def test_a_table_is_checked_however_it_is_built() -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size is 1. Expected: a value from 2"):
        TrainConfig(batch_size=1)
    with pytest.raises(ConfigError, match="learning_rate is nan"):
        replace(TrainConfig(), learning_rate=math.nan)


@pytest.mark.parametrize(
    ("network", "task", "scores", "masks"),
    [
        ("discriminant", "classification", True, False),
        ("unet", "segmentation", False, True),
        ("joint", "joint", True, True),
    ],
)
def test_the_network_tells_the_task(network: Any, task: Task, scores: bool, masks: bool) -> None:
    assert ModelConfig(network=network).task == task
    assert (has_scores(task), has_masks(task)) == (scores, masks)


def test_a_configuration_file_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match="is missing"):
        load_config(path)
    path.write_text("no = [toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)
    path.write_text("train = 5")
    with pytest.raises(ConfigError, match=r"config\.toml: train is 5. Expected: a table"):
        load_config(path)
    path.write_text(Config(name="mine").to_toml())
    assert load_config(path).name == "mine"


def test_training_on_all_images_follows_the_cosine() -> None:
    config = load_preset("dc-mobilenetv1").override(["data.split=all", "train.schedule=cosine"])
    assert not config.data.validates
    assert Config().data.validates
    assert DataConfig(split="paper").validates
