import pytest
import torch
from torch import nn

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import STRIDES
from dermfuse.models.backbones.resnext import Bottleneck, ResNeXt50, convert_torchvision


@pytest.fixture(scope="module")
def network() -> ResNeXt50:
    return ResNeXt50().eval()


def test_the_parameters_are_those_that_torchvision_publishes(network: ResNeXt50) -> None:
    # 25,028,904 are published, 2,049,000 of them in the classifier
    assert count_parameters(network, trainable=True) == 25_028_904 - 2_049_000


def test_the_maps_are_exactly_the_image_over_the_stride(network: ResNeXt50) -> None:
    with torch.no_grad():
        maps = network.features(torch.rand(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == network.channels


def test_every_parameter_learns(network: ResNeXt50) -> None:
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_without_its_branch_a_block_rectifies_its_input() -> None:
    block = Bottleneck(64, 32, 64, 1).eval()
    nn.init.zeros_(block.bn3.weight)
    x = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(x), x.relu())


def test_the_names_are_torchvisions(network: ResNeXt50) -> None:
    own = network.state_dict()
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.conv2.weight": (128, 4, 3, 3),
        "layer2.0.downsample.0.weight": (512, 256, 1, 1),
        "layer2.0.downsample.1.running_var": (512,),
        "layer3.5.conv3.weight": (1024, 512, 1, 1),
        "layer4.2.bn3.bias": (2048,),
    }
    assert {key: tuple(own[key].shape) for key in expected} == expected


def test_the_conversion_drops_the_classifier_only(network: ResNeXt50) -> None:
    own = network.state_dict()
    state = own | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    assert list(convert_torchvision(state)) == list(own)
