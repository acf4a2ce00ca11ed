import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dermfuse.config import ModelConfig, TrainConfig
from dermfuse.models import build_network
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.training.updates import (
    KERAS_MIN_DELTA,
    average_weights,
    count_plateaus,
    freeze,
    move_average,
    parameters_behind,
    warm_cosine,
)


@pytest.mark.parametrize(
    ("losses", "plateaus"),
    [
        ([], 0),
        ([0.9, 0.8, 0.7, 0.6], 0),
        ([0.5, 0.6, 0.6, 0.6], 1),  # the third epoch without a fall
        ([0.5, 0.6, 0.6, 0.4, 0.4, 0.4], 0),  # a fall counts anew
        ([0.5, *[0.6] * 6], 2),
        ([0.5, *[0.5 - 0.9 * KERAS_MIN_DELTA] * 3], 1),  # too small a fall
    ],
)
def test_the_rate_falls_after_three_epochs_without_a_fall(
    losses: list[float], plateaus: int
) -> None:
    assert count_plateaus(losses, patience=3) == plateaus


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_plateau_rule_is_that_of_pytorch(patience: int) -> None:
    losses = np.abs(np.random.default_rng(patience).normal(1, 0.2, 40)).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=KERAS_MIN_DELTA,
        threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    for epoch, loss in enumerate(losses, start=1):
        theirs.step(loss)
        expected = 0.5 ** count_plateaus(losses[:epoch], patience=patience)
        assert optimizer.param_groups[0]["lr"] == expected
    assert expected < 0.5


def test_the_warm_up_is_as_long_as_asked() -> None:
    rates = [warm_cosine(step, steps=100, warmup=0.2) for step in range(100)]
    assert np.argmax(rates) in range(18, 21)
    assert warm_cosine(0, steps=100, warmup=0.0) == pytest.approx(1.0)


def test_an_average_begins_with_a_copy_and_moves_faster_at_first() -> None:
    layer = nn.Linear(1, 1)
    averaged = average_weights(layer)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    for updates, value, expected in (
        (0, 1.0, 1.0),
        (1, 12.0, 1 * 2 / 11 + 12 * 9 / 11),
        (1000, 20.0, 10 * 0.9 + 20 * 0.1),
    ):
        nn.init.constant_(layer.weight, value)
        move_average(averaged, layer, decay=0.9, updates=updates)
        assert averaged.module.weight.item() == pytest.approx(expected)


def test_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm2d(1)
    averaged = average_weights(network)
    for updates, (mean, batches) in enumerate(((1.0, 5), (12.0, 6))):
        network.running_mean.fill_(mean)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(batches)  # type: ignore[union-attr]
        move_average(averaged, network, decay=0.9, updates=updates)
    assert averaged.module.running_mean.item() == pytest.approx(10)
    assert averaged.module.num_batches_tracked.item() == 6
    assert averaged.n_averaged.item() == 2


def test_stages_of_mobilenet_v1_are_its_blocks_up_to_each_stride() -> None:
    backbone = build_backbone("mobilenet_v1")
    names = {id(p): name for name, p in backbone.named_parameters()}

    def blocks(stages: int) -> set[str]:
        found = (names[id(p)] for p in parameters_behind(backbone, stages))
        return {
            ".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in found
        }

    assert blocks(1) == {"stem"}
    assert blocks(2) == {"stem", "blocks.0", "blocks.1", "blocks.2"}
    assert blocks(3) == blocks(2) | {"blocks.3", "blocks.4"}
    assert len(blocks(5)) == 14


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_keeps_more_the_more_stages_are_frozen(name: str) -> None:
    backbone = build_backbone(name)
    counts = [len(parameters_behind(backbone, stages)) for stages in range(6)]
    assert counts[0] == 0
    assert all(a <= b for a, b in itertools.pairwise(counts))  # a pool between two adds nothing
    assert counts[0] < counts[1] < counts[3] < counts[5]
    assert backbone.training
    assert all(p.grad is None for p in backbone.parameters())


def test_frozen_stages_get_no_gradient_and_keep_their_statistics() -> None:
    network = build_network(ModelConfig(network="classifier"))
    kept = freeze(network, TrainConfig(frozen_stages=2))
    assert len(kept) == 7  # the stem's BatchNorm and two of each of three blocks
    network.train()
    for layer in kept:
        layer.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    moved = [not torch.equal(a, b.running_mean) for a, b in zip(before, norms, strict=True)]
    assert moved == [False] * 7 + [True] * 20
    learnt = [p.grad is not None for p in network.parameters()]
    assert learnt == [False] * 21 + [True] * (len(learnt) - 21)
    without_backbone = build_network(
        ModelConfig(network="unet_original", backbone="", init="random")
    )
    assert freeze(without_backbone, TrainConfig()) == []
