import re

import pytest
import torch

from dermfuse.models import count_parameters
from dermfuse.models.backbones.densenet import LAYERS, DenseLayer, DenseNet121, convert_torchvision


@pytest.fixture(scope="module")
def backbone() -> DenseNet121:
    torch.manual_seed(0)
    return DenseNet121().eval()


def _torchvision_names(state: dict[str, torch.Tensor], *, dotted: bool) -> dict[str, torch.Tensor]:
    def rename(key: str) -> str:
        key = re.sub(
            r"^blocks\.(\d+)\.(\d+)",
            lambda m: f"denseblock{int(m[1]) + 1}.denselayer{int(m[2]) + 1}",
            key,
        )
        if dotted:
            key = re.sub(r"(norm|conv)([12])", r"\1.\2", key)
        key = re.sub(r"^transitions\.(\d+)", lambda m: f"transition{int(m[1]) + 1}", key)
        key = re.sub(r"^stem\.(conv|norm)", r"\g<1>0", key)
        return "features." + re.sub(r"^norm\.", "norm5.", key)

    return {rename(key): tensor for key, tensor in state.items()}


def test_it_has_the_papers_parameters(backbone: DenseNet121) -> None:
    assert count_parameters(backbone, trainable=True) == 6_953_856
    assert count_parameters(backbone, trainable=False) == 7_039_554 - 2_050


def test_it_has_121_layers_with_weights() -> None:
    in_blocks = 2 * sum(LAYERS)
    stem, transitions, dense = 1, 3, 1
    assert stem + in_blocks + transitions + dense == 121


def test_its_maps_have_the_promised_channels_and_strides(backbone: DenseNet121) -> None:
    maps = backbone.features(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, 64, 32, 48),
        (2, 128, 16, 24),
        (2, 256, 8, 12),
        (2, 512, 4, 6),
        (2, 1024, 2, 3),
    ]


def test_a_dense_layer_keeps_its_input_and_adds_32_channels() -> None:
    x = torch.randn(1, 8, 4, 4)
    y = DenseLayer(8)(x)
    assert y.shape == (1, 40, 4, 4)
    assert torch.equal(y[:, :8], x)


def test_forward_is_the_deepest_map_and_is_rectified(backbone: DenseNet121) -> None:
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(backbone(x), backbone.features(x)[-1])
    assert backbone(x).min() >= 0


@pytest.mark.parametrize("dotted", [False, True])
def test_both_of_torchvisions_spellings_become_its_own(backbone: DenseNet121, dotted: bool) -> None:
    state = backbone.state_dict()
    converted = convert_torchvision(_torchvision_names(state, dotted=dotted))
    assert set(converted) == set(state)
    assert all(tensor is state[key] for key, tensor in converted.items())
