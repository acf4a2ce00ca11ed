import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dermfuse.config import ModelConfig, TrainConfig
from dermfuse.models import build_network
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.training import updates


@pytest.mark.parametrize(
    ("losses", "plateaus"),
    [
        ([], 0),
        ([0.9, 0.8, 0.7, 0.6], 0),
        ([0.5, 0.6, 0.6, 0.6], 1),  # the third epoch without a fall
        ([0.5, 0.6, 0.6, 0.4, 0.4, 0.4], 0),  # a fall counts anew
        ([0.5, *[0.6] * 6], 2),
        ([0.5, *[0.6] * 3, 0.55, 0.55], 1),  # the best stays what a loss is compared with
        ([0.5, *[0.5 - 0.9 * updates.KERAS_MIN_DELTA] * 3], 1),  # too small a fall
    ],
)
def test_the_rate_falls_after_three_epochs_without_a_fall(
    losses: list[float], plateaus: int
) -> None:
    assert updates.count_plateaus(losses, patience=3) == plateaus


def test_the_warm_up_is_as_long_as_asked() -> None:
    rates = [updates.warm_cosine(step, steps=100, warmup=0.2) for step in range(100)]
    assert np.argmax(rates) in range(18, 21)
    assert updates.warm_cosine(0, steps=100, warmup=0.0) == pytest.approx(1.0)


def test_weights_and_statistics_are_averaged_faster_at_first_and_counters_copied() -> None:
    norm = nn.BatchNorm2d(1)
    averaged = updates.average_weights(norm)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    for before, value, expected in (
        (0, 1, 1.0),
        (1, 12, 1 * 2 / 11 + 12 * 9 / 11),
        (1000, 20, 10 * 0.9 + 20 * 0.1),
    ):
        for name in ("weight", "running_mean", "num_batches_tracked"):
            getattr(norm, name).data.fill_(value)
        updates.move_average(averaged, norm, decay=0.9, updates=before)
        moved = averaged.module.state_dict()
        assert moved["weight"].item() == pytest.approx(expected)
        assert moved["running_mean"].item() == pytest.approx(expected)
        assert moved["num_batches_tracked"].item() == value
    assert averaged.n_averaged.item() == 3


def test_stages_of_mobilenet_v1_are_its_blocks_up_to_each_stride() -> None:
    backbone = build_backbone("mobilenet_v1")
    names = {id(p): name for name, p in backbone.named_parameters()}
    stages = []
    for count in range(1, 6):
        behind = (names[id(p)] for p in updates.parameters_behind(backbone, count))
        stages.append(
            {".".join(name.split(".")[: 1 + name.startswith("blocks")]) for name in behind}
        )
    assert stages[0] == {"stem"}
    assert stages[1] == {"stem", "blocks.0", "blocks.1", "blocks.2"}
    assert stages[2] == stages[1] | {"blocks.3", "blocks.4"}
    assert len(stages[4]) == 14


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_keeps_more_the_more_stages_are_frozen(name: str) -> None:
    backbone = build_backbone(name)
    counts = [len(updates.parameters_behind(backbone, stages)) for stages in range(6)]
    assert all(a <= b for a, b in itertools.pairwise(counts))  # a pool between two adds nothing
    assert 0 == counts[0] < counts[1] < counts[3] < counts[5]
    assert backbone.training
    assert all(p.grad is None for p in backbone.parameters())


def test_frozen_stages_get_no_gradient_and_keep_their_statistics() -> None:
    network = build_network(ModelConfig(network="classifier"))
    kept = updates.freeze(network, TrainConfig(frozen_stages=2))
    assert len(kept) == 7  # the stem's BatchNorm and two of each of three blocks
    network.train()
    for layer in kept:
        layer.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [bool(norm.running_mean.any()) for norm in norms] == [False] * 7 + [True] * 20  # type: ignore[union-attr]
    learnt = [p.grad is not None for p in network.parameters()]
    assert learnt == [False] * 21 + [True] * (len(learnt) - 21)
    bare = build_network(ModelConfig(network="unet_original", backbone="", init="random"))
    assert updates.freeze(bare, TrainConfig()) == []
