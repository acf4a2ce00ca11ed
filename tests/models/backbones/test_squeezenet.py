import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import IMAGENET, STRIDES, Normalise
from dermfuse.models.backbones.squeezenet import Fire, SqueezeNet, convert_torchvision

CATS = (281, 282, 283, 284, 285)


@pytest.fixture(scope="module")
def network() -> SqueezeNet:
    torch.manual_seed(0)
    return SqueezeNet().eval()


def test_the_parameters_are_those_of_the_paper(network: SqueezeNet) -> None:
    head = nn.Linear(network.embedding_channels, 2)
    total = count_parameters(network, trainable=False) + count_parameters(head, trainable=False)
    assert total == 1_237_498


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 224)])
def test_the_maps_are_exactly_the_image_over_the_stride(
    network: SqueezeNet, size: tuple[int, int]
) -> None:
    with torch.no_grad():
        maps = network.features(torch.rand(1, 3, *size))
    assert [m.shape[2:] for m in maps] == [(size[0] // s, size[1] // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == network.channels


def test_forward_keeps_the_published_sizes(network: SqueezeNet) -> None:
    with torch.no_grad():
        result = network(torch.rand(1, 3, 224, 224))
    assert result.shape == (1, 1000, 13, 13)
    assert result.min() >= 0


def test_the_padding_of_features_moves_forward_by_one_pixel(network: SqueezeNet) -> None:
    x = torch.rand(1, 3, 32, 32)
    padded = nn.functional.pad(x, (1, 0, 1, 0))
    with torch.no_grad():
        pooled = nn.functional.max_pool2d(network(padded), 3, stride=2, ceil_mode=True)
        torch.testing.assert_close(network.features(x)[-1], pooled)


def test_every_parameter_learns_from_either_use() -> None:
    for use in ("forward", "features"):
        network = SqueezeNet()
        result = network(torch.rand(1, 3, 64, 64))
        if use == "features":
            result = network.features(torch.rand(1, 3, 64, 64))[-1]
        result.sum().backward()
        assert all(p.grad is not None for p in network.parameters())


def test_a_fire_module_squeezes_and_expands_by_hand() -> None:
    fire = Fire(1, 1, 1, 1)
    for conv, weight, bias in (
        (fire.squeeze, 2.0, -1.0),
        (fire.expand1x1, -1.0, 4.0),
        (fire.expand3x3, 1.0, 0.0),
    ):
        nn.init.constant_(conv.weight, weight)
        conv.bias = nn.Parameter(torch.tensor([bias]))
    # squeezed: relu(2x - 1) = [[0, 1], [3, 5]]
    result = fire(torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 1, 2, 2))
    torch.testing.assert_close(result[0, 0], torch.tensor([[4.0, 3.0], [1.0, 0.0]]))
    torch.testing.assert_close(result[0, 1], torch.full((2, 2), 9.0))


def test_torchvisions_names_become_ours(network: SqueezeNet) -> None:
    fires = (3, 4, 6, 7, 9, 10, 11, 12)
    layers = ("squeeze", "expand1x1", "expand3x3")
    theirs = ["features.0"]
    theirs += [f"features.{position}.{layer}" for position in fires for layer in layers]
    theirs += ["classifier.1"]
    keys = [f"{name}.{part}" for name in theirs for part in ("weight", "bias")]
    own = network.state_dict()
    state = dict(zip(keys, own.values(), strict=True))
    converted = convert_torchvision(state)
    assert list(converted) == list(own)
    assert all(torch.equal(converted[key], own[key]) for key in own)


@pytest.mark.parametrize("key", ["features.5.weight", "fc.weight"])
def test_a_foreign_name_is_refused(key: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        convert_torchvision({key: torch.zeros(1)})


def cat_photograph() -> Tensor:
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(data.chelsea())  # 451 x 300
    image = image.resize((385, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    return Normalise(IMAGENET)(pixels)


@pytest.mark.real
def test_the_published_weights_name_a_cat_a_cat(network: SqueezeNet) -> None:
    if "DERMFUSE_IMAGENET" not in os.environ:
        pytest.skip("DERMFUSE_IMAGENET names no folder")
    safetensors = pytest.importorskip("safetensors.torch")
    path = Path(os.environ["DERMFUSE_IMAGENET"]) / "squeezenet1_1.safetensors"
    published = SqueezeNet().eval()
    published.load_state_dict(convert_torchvision(safetensors.load_file(path)))
    with torch.no_grad():
        scores = published(cat_photograph()).mean(dim=(2, 3)).softmax(dim=1)[0]
    assert int(scores.argmax()) == 285  # Egyptian cat
    assert float(scores[285]) == pytest.approx(0.396, abs=0.02)
    assert float(scores[list(CATS)].sum()) > 0.9
