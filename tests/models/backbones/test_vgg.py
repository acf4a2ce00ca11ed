import os
from pathlib import Path

import pytest
import torch
from torch import nn

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import STRIDES
from dermfuse.models.backbones.vgg import Vgg16, convert_torchvision
from dermfuse.models.unet import UNet

LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture(scope="module")
def network() -> Vgg16:
    return Vgg16().eval()


def test_the_parameters_are_those_that_torchvision_publishes(network: Vgg16) -> None:
    # 138,357,544 are published, 123,642,856 of them in the Dense layers
    assert count_parameters(network, trainable=True) == 138_357_544 - 123_642_856


def test_a_unet_has_the_papers_73_mb(network: Vgg16) -> None:
    values = count_parameters(UNet(network), trainable=False)
    assert round(4 * values / 2**20) == 73


def test_the_maps_are_exactly_the_image_over_the_stride(network: Vgg16) -> None:
    with torch.no_grad():
        maps = network.features(torch.rand(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == network.channels


def test_the_deepest_map_pools_the_one_before(network: Vgg16) -> None:
    with torch.no_grad():
        *_, stride16, stride32 = network.features(torch.rand(1, 3, 32, 64))
    torch.testing.assert_close(nn.functional.max_pool2d(stride16, 2), stride32)


def test_every_parameter_learns(network: Vgg16) -> None:
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_torchvisions_names_become_ours_without_the_dense_layers(network: Vgg16) -> None:
    own = network.state_dict()
    keys = [f"features.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    state = dict(zip(keys, own.values(), strict=True)) | {"classifier.6.bias": torch.zeros(1000)}
    converted = convert_torchvision(state)
    assert list(converted) == list(own)
    assert all(torch.equal(converted[key], own[key]) for key in own)


@pytest.mark.real
def test_the_published_weights_fit() -> None:
    if "DERMFUSE_IMAGENET" not in os.environ:
        pytest.skip("DERMFUSE_IMAGENET names no folder")
    safetensors = pytest.importorskip("safetensors.torch")
    path = Path(os.environ["DERMFUSE_IMAGENET"]) / "vgg16_features.safetensors"
    network = Vgg16()
    network.load_state_dict(convert_torchvision(safetensors.load_file(path)))
    with torch.no_grad():
        deepest = network(torch.rand(1, 3, 64, 64))
    assert torch.isfinite(deepest).all()
    assert deepest.any()
