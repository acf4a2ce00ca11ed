import pytest
import torch
from torch import nn

from dermfuse.training.modules import average_weights, move_average


def _set(layer: nn.Linear, value: float) -> nn.Linear:
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def test_an_average_begins_with_a_copy_and_moves_faster_at_first() -> None:
    layer = _set(nn.Linear(1, 1), 7.0)
    averaged = average_weights(layer)
    move_average(averaged, _set(layer, 1.0), decay=0.9, updates=0)
    assert averaged.module.weight.item() == 1
    move_average(averaged, _set(layer, 12.0), decay=0.9, updates=1)
    assert averaged.module.weight.item() == pytest.approx(1 * 2 / 11 + 12 * 9 / 11)
    move_average(averaged, _set(layer, 20.0), decay=0.9, updates=1000)
    assert averaged.module.weight.item() == pytest.approx(10 * 0.9 + 20 * 0.1)


def test_an_average_takes_no_gradient() -> None:
    averaged = average_weights(nn.Linear(1, 1))
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.BatchNorm2d(1)
    averaged = average_weights(network)
    for updates, (mean, batches) in enumerate(((1.0, 5), (12.0, 6))):
        assert network.running_mean is not None
        assert network.num_batches_tracked is not None
        network.running_mean.fill_(mean)
        network.num_batches_tracked.fill_(batches)
        move_average(averaged, network, decay=0.9, updates=updates)
    assert averaged.module.running_mean.item() == pytest.approx(10)
    assert averaged.module.num_batches_tracked.item() == 6
    assert averaged.n_averaged.item() == 2
