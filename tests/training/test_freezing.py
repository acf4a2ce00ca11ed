import itertools

import pytest
import torch
from torch import nn

from dermfuse.config import ModelConfig, TrainConfig
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.build import build_network
from dermfuse.training.modules import freeze, parameters_behind


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


def test_a_network_without_a_backbone_keeps_nothing() -> None:
    network = build_network(ModelConfig(network="unet_original", backbone="", init="random"))
    assert freeze(network, TrainConfig()) == []
