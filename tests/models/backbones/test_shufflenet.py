import itertools

import pytest
import torch
from torch import nn

from dermfuse.models import count_parameters
from dermfuse.models.backbones import shufflenet
from dermfuse.models.backbones.base import STRIDES
from dermfuse.models.backbones.shufflenet import STAGE2_CHANNELS, ShuffleNet, ShuffleUnit

PAPER = 3_616_946


def total(groups: int, width: float) -> int:
    with torch.device("meta"):
        network = ShuffleNet(groups=groups, width=width)
        head = nn.Linear(int(STAGE2_CHANNELS[groups] * width) * 4, 2)
    return count_parameters(network, trainable=False) + count_parameters(head, trainable=False)


def test_the_network_counts_3582578() -> None:
    network = ShuffleNet()
    head = nn.Linear(network.embedding_channels, 2)
    counted = count_parameters(network, trainable=False) + count_parameters(head, trainable=False)
    assert counted == 3_582_578
    assert PAPER - counted == 34_368


def test_no_standard_configuration_comes_nearer() -> None:
    totals = {}
    for groups, width in itertools.product(STAGE2_CHANNELS, (0.5, 1.0, 1.5, 2.0)):
        try:
            totals[groups, width] = total(groups, width)
        except ValueError:  # the groups do not divide the channels
            continue
    assert min(totals, key=lambda key: abs(totals[key] - PAPER)) == (3, 2.0)
    assert all(f"{number:,}" in (shufflenet.__doc__ or "") for number in totals.values())
    assert len(totals) == 14


def test_the_maps_are_exactly_the_image_over_the_stride() -> None:
    network = ShuffleNet().eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps = network.features(x)
        torch.testing.assert_close(network(x), maps[-1])
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == network.channels


def test_every_parameter_learns() -> None:
    network = ShuffleNet()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_without_its_branch_a_unit_of_stride_1_rectifies() -> None:
    unit = ShuffleUnit(24, 24, stride=1, groups=3, first_groups=3).eval()
    nn.init.zeros_(unit.expand_norm.weight)
    x = torch.randn(1, 24, 4, 4)
    torch.testing.assert_close(unit(x), x.relu())


def test_without_its_branch_a_unit_of_stride_2_pools() -> None:
    unit = ShuffleUnit(12, 24, stride=2, groups=3, first_groups=1).eval()
    nn.init.zeros_(unit.expand_norm.weight)
    result = unit(torch.full((1, 12, 4, 4), 9.0))
    # a 3x3 mean over zero padding: 4 of 9 pixels in the corner, 6 of 9 on the edge
    pooled = torch.tensor([[4.0, 6.0], [6.0, 9.0]]).expand(1, 12, 2, 2)
    torch.testing.assert_close(result[:, :12], pooled)
    assert not result[:, 12:].any()


def test_the_shuffle_lets_every_group_see_every_other() -> None:
    unit = ShuffleUnit(36, 36, stride=1, groups=3, first_groups=3).eval()
    for conv in (unit.reduce, unit.depthwise, unit.expand):
        nn.init.ones_(conv.weight)  # so that no ReLU hides a path
    x = torch.rand(1, 36, 1, 1, requires_grad=True)
    unit(x)[0, 0].sum().backward()  # an output of the first group
    assert x.grad is not None
    by_group = x.grad.view(3, 12).abs().sum(dim=1)
    assert (by_group > 0).all()


def test_groups_that_the_paper_does_not_name_are_refused() -> None:
    with pytest.raises(KeyError):
        ShuffleNet(groups=5)
