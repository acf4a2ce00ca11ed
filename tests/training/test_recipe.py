"""The options of a recipe that the paper has not: each off by default, each with its effect."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dermfuse.config import Config, LossConfig, load_preset
from dermfuse.errors import ConfigError
from dermfuse.folders import RunFolder, read_json
from dermfuse.models.build import build_network
from dermfuse.models.classifier import Classifier
from dermfuse.training import train
from dermfuse.training.losses import cross_entropy
from dermfuse.training.modules import ClassifierModule, class_targets, warm_cosine

TINY = [
    "model.init=random",
    "data.input_size=32",
    "train.epochs=2",
    "train.batch_size=8",
    "augment.benign_copies=1",
    "augment.malignant_copies=2",
    "train.precision=float32",
    "train.threads=1",
]


def _tiny(*more: str) -> Config:
    return load_preset("mobilenetv1").override([*TINY, *more])


def _module(*more: str) -> ClassifierModule:
    config = _tiny(*more)
    return ClassifierModule(build_network(config.model), None, config)  # type: ignore[arg-type]


def test_the_paper_uses_none_of_them() -> None:
    config = load_preset("dc-mobilenetv1")
    assert (config.train.weight_decay, config.train.gradient_clip, config.model.dropout) == (0,) * 3
    assert (config.loss.label_smoothing, config.augment.mixup, config.augment.cutmix) == (0,) * 3
    assert (config.train.minimum_learning_rate, config.train.teachers) == (0, ())
    assert config.augment.policy == "paper"


def test_a_hard_target_has_the_loss_of_its_label() -> None:
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1])
    assert cross_entropy(logits, labels).item() == pytest.approx(
        F.cross_entropy(logits, labels).item()
    )


def test_smoothing_and_teachers_move_the_target() -> None:
    labels = np.array([0, 1])
    assert class_targets(labels, None, LossConfig()).tolist() == [0, 1]
    smooth = LossConfig(label_smoothing=0.1, distillation=0.5)
    assert class_targets(labels, None, smooth).tolist() == pytest.approx([0.05, 0.95])
    taught = class_targets(labels, np.array([0.25, 0.45], np.float32), smooth)
    assert taught.tolist() == pytest.approx([0.15, 0.7])


def test_weight_decay_spares_biases_and_batch_norm() -> None:
    module = _module("train.weight_decay=0.1")
    optimizer = module._optimizer()
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        dimensions = {parameter.ndim > 1 for parameter in group["params"]}
        assert dimensions == {group["weight_decay"] > 0}
    plain = _module()._optimizer()
    assert type(plain) is torch.optim.Adam
    assert [group["weight_decay"] for group in plain.param_groups] == [0, 0]


def test_dropout_drops_before_the_head_while_training_alone() -> None:
    config = _tiny("model.dropout=0.5")
    network = build_network(config.model)
    assert isinstance(network, Classifier)
    x = torch.rand(2, 3, 32, 32)
    network.eval()
    assert torch.equal(network(x), network.head(network.embed(x)))
    network.train()  # batch statistics: random weights alone answer next to nothing
    assert not torch.equal(network(x), network.head(network.embed(x)))
    assert not any("dropout" in name for name in network.state_dict())


def test_the_warm_up_is_as_long_as_asked() -> None:
    rates = [warm_cosine(step, steps=100, warmup=0.2) for step in range(100)]
    assert np.argmax(rates) in range(18, 21)
    assert warm_cosine(0, steps=100, warmup=0.0) == pytest.approx(1.0)


def test_a_plateau_run_stops_below_the_smallest_rate(drawn: Path, tmp_path: Path) -> None:
    config = _tiny("train.epochs=4", "train.minimum_learning_rate=0.01")
    assert train(config, data=drawn, run=tmp_path / "run").epochs == 1
    again = train(config, data=drawn, run=tmp_path / "run", resume=True)
    assert again.epochs == 1, "taken up after the epoch that ended it, it trains no other"


def test_a_clipped_run_moves_its_weights_less(drawn: Path, tmp_path: Path) -> None:
    weights = []
    for name, clip in (("free", "0.0"), ("clipped", "1e-9")):
        config = _tiny("train.epochs=1", f"train.gradient_clip={clip}")
        report = train(config, data=drawn, run=tmp_path / name)
        weights.append(report.best["train_loss"])
    assert weights[0] != weights[1]


def test_the_last_epoch_is_kept_if_asked(drawn: Path, tmp_path: Path) -> None:
    report = train(_tiny("train.epochs=3", "train.keep=last"), data=drawn, run=tmp_path / "run")
    record = read_json(RunFolder(report.run).record)
    assert (record["kept_epoch"], record["kept_by"]) == (3, "last epoch")
    assert "auc" in record["validation"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["augment.mixup=0.2", "augment.cutmix=0.2"], "augment.mixup is 0.2 with augment.cut"),
        (["augment.policy=label_blind", "augment.fresh=true"], "fresh is true with augment.policy"),
        (["augment.policy=label_blind", "data.split=paper"], 'data.split "paper"'),
        (
            ["train.schedule=cosine", "train.minimum_learning_rate=1e-6"],
            "the cosine ends by itself",
        ),
        (["train.keep=last", "train.early_stop_patience=2"], "keeps the best epoch"),
        (["model.network=unet", "model.dropout=0.2"], "no class head to drop before"),
        (["model.network=unet", "augment.mixup=0.2"], "masks cannot be mixed"),
        (["train.teachers=3"], "train.teachers is 3. Expected: a list"),
        (["model.dropout=1.5"], "model.dropout is 1.5"),
        (["loss.label_smoothing=1.0"], "loss.label_smoothing is 1.0"),
    ],
)
def test_contradictions_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config().override(settings)
