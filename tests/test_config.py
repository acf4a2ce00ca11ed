import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.config import Config, TrainConfig, find_config, load_preset, preset_names
from dermfuse.errors import ConfigError


def test_the_defaults_are_the_papers_values() -> None:
    train, loss = Config().train, Config().loss
    assert (train.epochs, train.batch_size, train.learning_rate) == (50, 32, 1e-4)
    assert (train.plateau_factor, train.plateau_patience, train.early_stop_patience) == (0.5, 3, 0)
    assert (loss.class_weight_a, loss.class_weight_b, loss.discriminant_weight) == (1, 1, 0.5)
    assert (loss.focal_alpha, loss.focal_gamma) == (0.25, 0.75)
    assert (loss.mask_focal_alpha, loss.mask_focal_gamma) == (0.75, 1.25)


@pytest.mark.parametrize("base", ["dc-mobilenetv1", "u-mobilenetv1"])
def test_a_variant_changes_one_setting_of_its_base(base: str) -> None:
    settings = {"fresh": "augment.fresh=true", "ema": "train.ema_decay=0.998"}
    for variant, setting in (settings | {"cosine": "train.schedule=cosine"}).items():
        config = load_preset(f"{base}-{variant}")
        changed = load_preset(base).override([setting])
        assert replace(changed, name=config.name, summary=config.summary) == config


def test_presets_and_any_text_survive_the_way_to_toml_and_back() -> None:
    presets = [load_preset(name) for name in preset_names()]
    text = Config(summary='a "quoted" \\ line\nand another').override(['train.teachers=["a", "b"]'])
    for config in (*presets, text):
        assert Config.from_mapping(tomllib.loads(config.to_toml())) == config
    assert tuple(config.name for config in presets) == preset_names()
    for summary in (config.summary for config in presets):
        assert summary.startswith("Table") or "beyond the paper" in summary.lower()


def test_assignments_override_a_preset_and_leave_it_alone() -> None:
    config = load_preset("dc-mobilenetv1")
    changed = config.override(["train.epochs=5", "data.split=paper", "train.learning_rate=1"])
    assert (changed.train.epochs, changed.data.split) == (5, "paper")
    assert repr(changed.train.learning_rate) == "1.0"
    assert config.train.epochs == 50


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ("train.epoch=5", 'no key "train.epoch".*Did you mean "epochs"'),
        ("data.split=papr", "data.split is 'papr'.*source, paper.*Did you mean \"paper\""),
        ("train.epochs=true", "train.epochs is True. Expected: a whole number"),
        ("train.epochs=0", "train.epochs is 0. Expected: a value from 1"),
        ("train.ema_decay=1", r"train.ema_decay is 1.0. Expected: a value from 0"),
        ("epochs=5", '"epochs=5" sets nothing. Expected: table.key=value'),
        ("data.input_size=100", "data.input_size is 100.*multiple of 32. Set it to 96"),
        ("data.folds=1", "data.folds is 1"),
        ("data.folds=2 data.fold=2", "data.fold is 2 with data.folds 2"),
        ("data.folds=2 data.outer_folds=1", "data.outer_folds is 1"),
        # What contradicts itself.
        ("data.outer_folds=3", "outer_folds is 3 with data.folds 0"),
        ("data.split=paper data.folds=5", 'folds is 5 with data.split "paper"'),
        ("data.split=all train.schedule=cosine data.folds=5", 'folds is 5 with data.split "all"'),
        ("data.split=all", 'train.schedule is "plateau" with data.split "all"'),
        ("model.network=unet_original", "with model.backbone"),
        ("model.backbone=", "with model.backbone"),
        ("model.network=unet_original model.backbone=", "no ImageNet weights"),
        ("model.network=unet model.dropout=0.2", 'dropout is 0.2 with model.network "unet"'),
        ("train.batch_norm=frozen model.init=random", 'batch_norm is "frozen" with model.init'),
        ("train.backbone=frozen model.init=random", 'backbone is "frozen" with model.init'),
        ("train.frozen_stages=2 model.init=random", "frozen_stages is 2 with model.init"),
        ("augment.fresh=true augment.enabled=false", "fresh is true with augment.enabled false"),
        ("augment.policy=label_blind augment.enabled=false", "with augment.enabled false"),
        ("augment.policy=label_blind augment.fresh=true", "fresh is true with augment.policy"),
        ("augment.policy=label_blind data.split=paper", 'with data.split "paper"'),
        ("augment.mixup=1 augment.cutmix=1", "mixup is 1.0 with augment.cutmix 1.0"),
        ("augment.mixup=1 model.network=unet", 'mixup is 1.0 with model.network "unet"'),
        ("augment.cutmix=1 model.network=joint", 'cutmix is 1.0 with model.network "joint"'),
        ("train.graph=true train.compile=true", "train.graph is true with train.compile true"),
        ("train.minimum_learning_rate=1e-6 train.schedule=cosine", 'with train.schedule "cos'),
        ("train.keep=last train.early_stop_patience=2", 'with train.keep "last"'),
        ("data.split=all train.schedule=cosine train.early_stop_patience=3", "patience is 3 with"),
    ],
)
def test_what_cannot_be_used_or_contradicts_itself_is_refused(
    assignments: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config().override(assignments.split())
    assert caught.value.expected


def test_a_table_is_checked_however_it_is_built() -> None:
    with pytest.raises(ConfigError, match=r"train.batch_size is 1. Expected: a value from 2"):
        TrainConfig(batch_size=1)
    with pytest.raises(ConfigError, match="learning_rate is nan"):
        replace(TrainConfig(), learning_rate=math.nan)


def test_a_file_of_ones_own_is_as_good_as_a_preset_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "my-variant.toml"
    path.write_text('[model]\nnetwork = "discriminant"\nbackbone = "efficientnet_lite0"\n')
    config = find_config(str(path))
    assert (config.name, config.model.backbone) == ("my-variant", "efficientnet_lite0")
    assert find_config("dc-mobilenetv1") == load_preset("dc-mobilenetv1")
    for text, message in (("no = [toml", "cannot be read"), ("train = 5", "toml: train is 5")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            find_config(str(path))
