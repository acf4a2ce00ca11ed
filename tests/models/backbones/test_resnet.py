import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import IMAGENET, STRIDES, Backbone, Normalise
from dermfuse.models.backbones.resnet import (
    BasicBlock,
    PreActivationUnit,
    ResNet18,
    ResNet18PostActivation,
    ShiftBatchNorm2d,
    convert_post_activation,
    convert_torchvision,
)

CATS = (281, 282, 283, 284, 285)
BOTH = pytest.mark.parametrize("kind", [ResNet18, ResNet18PostActivation])


@pytest.fixture(scope="module")
def torchvision_network() -> ResNet18PostActivation:
    """Random weights whose BatchNorms are settled on ``noise``."""
    torch.manual_seed(0)
    network = ResNet18PostActivation()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return settled(network)


def noise() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def settled(network: ResNet18PostActivation) -> ResNet18PostActivation:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average, so one batch settles it
    with torch.no_grad():
        network.train()(noise())
    return network.eval()


def transplanted(network: ResNet18PostActivation) -> ResNet18:
    result = ResNet18()
    faults = result.load_state_dict(convert_torchvision(network.state_dict()), strict=False)
    assert not faults.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in faults.missing_keys)
    return result.eval()


def test_the_parameters_are_those_of_the_paper() -> None:
    network = ResNet18()
    head = nn.Linear(network.embedding_channels, 2)
    total = count_parameters(network, trainable=False) + count_parameters(head, trainable=False)
    assert total == 11_187_915


def test_torchvisions_parameters_are_those_that_it_publishes() -> None:
    # 11,689,512 are published, 513,000 of them in the classifier
    assert count_parameters(ResNet18PostActivation(), trainable=True) == 11_689_512 - 513_000


@BOTH
def test_the_maps_are_exactly_the_image_over_the_stride(kind: type[Backbone]) -> None:
    network = kind().eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps = network.features(x)
        torch.testing.assert_close(network(x), maps[-1])
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in STRIDES]
    assert tuple(m.shape[1] for m in maps) == network.channels
    assert all(bool((m >= 0).all()) for m in maps)


@BOTH
def test_every_parameter_learns(kind: type[Backbone]) -> None:
    network = kind()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_input_norm_has_a_shift_and_no_scale() -> None:
    norm = ShiftBatchNorm2d(3)
    assert count_parameters(norm, trainable=False) == 9
    nn.init.constant_(norm.shift, 2.0)
    result = norm(torch.randn(8, 3, 16, 16) * 5 + 1)
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.full((3,), 2.0))
    torch.testing.assert_close(result.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_a_pre_activation_shortcut_keeps_negative_sums() -> None:
    unit = PreActivationUnit(4, 4, stride=1, project=False).eval()
    nn.init.zeros_(unit.conv2.weight)
    x = torch.randn(1, 4, 3, 3)
    activated, result = unit(x)
    torch.testing.assert_close(result, x)
    torch.testing.assert_close(activated, x.relu(), atol=1e-4, rtol=1e-4)


def test_a_projection_takes_the_activated_input() -> None:
    unit = PreActivationUnit(1, 1, stride=2, project=True).eval()
    nn.init.zeros_(unit.conv2.weight)
    assert unit.shortcut is not None
    nn.init.constant_(unit.shortcut.weight, 3.0)
    _, result = unit(torch.tensor([[2.0, 9.0], [9.0, 9.0]]).view(1, 1, 2, 2))
    torch.testing.assert_close(result, torch.full((1, 1, 1, 1), 6.0), atol=1e-4, rtol=0)
    _, result = unit(torch.full((1, 1, 2, 2), -2.0))
    assert not result.any()


def test_without_its_branch_a_basic_block_rectifies_its_input() -> None:
    block = BasicBlock(4, 4, 1).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(block(x), x.relu())


def test_the_names_are_torchvisions() -> None:
    own = ResNet18PostActivation().state_dict()
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.1.bn2.running_mean": (64,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.0.downsample.1.bias": (512,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
    }
    assert {key: tuple(own[key].shape) for key in expected} == expected
    state = own | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    assert list(convert_post_activation(state)) == list(own)


def test_the_transplant_is_exact_where_no_sum_is_negative(
    torchvision_network: ResNet18PostActivation,
) -> None:
    network = ResNet18PostActivation()
    network.load_state_dict(torchvision_network.state_dict())
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        first = stage[0]
        assert isinstance(first, BasicBlock)
        nn.init.constant_(first.bn2.bias, 40.0)  # rectifying the first sum changes nothing
    settled(network)
    with torch.no_grad():
        expected = network.features(noise())
        maps = transplanted(network).features(noise())
    for theirs, ours in zip(expected, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_transplant_stays_near_where_sums_are_negative(
    torchvision_network: ResNet18PostActivation,
) -> None:
    with torch.no_grad():
        expected = torchvision_network.features(noise())
        maps = transplanted(torchvision_network).features(noise())
    torch.testing.assert_close(maps[0], expected[0], rtol=1e-4, atol=1e-4)
    for theirs, ours in zip(expected, maps, strict=True):
        cosine = nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
        assert cosine > 0.7


def test_the_transplant_answers_alike_in_training_mode(
    torchvision_network: ResNet18PostActivation,
) -> None:
    network = transplanted(torchvision_network)
    with torch.no_grad():
        expected = network(noise())
        result = network.train()(noise())  # with the batch's own mean and variance
    cosine = nn.functional.cosine_similarity(result.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.75  # 0.85; it would be 0.63 with mean 0 and variance 1 in the passing norms


def test_a_state_with_a_missing_layer_is_refused(
    torchvision_network: ResNet18PostActivation,
) -> None:
    state = torchvision_network.state_dict()
    del state["layer3.0.downsample.0.weight"]
    with pytest.raises(KeyError, match=r"layer3\.0\.downsample"):
        convert_torchvision(state)


def published() -> dict[str, Tensor]:
    if "DERMFUSE_IMAGENET" not in os.environ:
        pytest.skip("DERMFUSE_IMAGENET names no folder")
    safetensors = pytest.importorskip("safetensors.torch")
    state: dict[str, Tensor] = safetensors.load_file(
        Path(os.environ["DERMFUSE_IMAGENET"]) / "resnet18.safetensors"
    )
    return state


def cat_scores(network: Backbone, state: dict[str, Tensor]) -> Tensor:
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(data.chelsea())  # 451 x 300
    image = image.resize((385, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        embedding = network.eval()(Normalise(IMAGENET)(pixels)).mean(dim=(2, 3))
    logits = nn.functional.linear(embedding, state["fc.weight"].float(), state["fc.bias"])
    return logits.softmax(dim=1)[0]


@pytest.mark.real
def test_torchvisions_weights_name_a_cat_a_cat() -> None:
    state = published()
    network = ResNet18PostActivation()
    network.load_state_dict(convert_post_activation(state))
    scores = cat_scores(network, state)
    assert int(scores.argmax()) == 282  # tiger cat
    assert float(scores[282]) == pytest.approx(0.41, abs=0.02)
    assert float(scores[list(CATS)].sum()) > 0.9


@pytest.mark.real
def test_the_transplant_names_a_cat_a_cat() -> None:
    state = published()
    network = ResNet18()
    network.load_state_dict(convert_torchvision(state), strict=False)
    scores = cat_scores(network, state)
    assert int(scores.argmax()) in CATS
    assert float(scores[list(CATS)].sum()) > 0.9
