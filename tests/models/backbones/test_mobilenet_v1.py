import pytest
import torch

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import SamePadConv2d
from dermfuse.models.backbones.mobilenet_v1 import (
    BLOCKS,
    MobileNetV1,
    convert_keras,
    convert_published,
)


@pytest.fixture(scope="module")
def backbone() -> MobileNetV1:
    torch.manual_seed(0)
    return MobileNetV1().eval()


def _published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    words = {"depthwise": "dw", "pointwise": "pw", "conv": "0", "norm": "1", "stem": "conv_stem"}
    return {
        ".".join(words.get(word, word) for word in key.split(".")): tensor
        for key, tensor in state.items()
        if not key.endswith("num_batches_tracked")
    }


def _keras_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    leaves = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    keras = {}
    for key, tensor in state.items():
        *path, module, leaf = key.split(".")
        if leaf == "num_batches_tracked":
            continue
        layer = "conv1" if path == ["stem"] else f"conv_{path[2][0]}w_{int(path[1]) + 1}"
        if module == "norm":
            name = leaves.get(leaf, "gamma")
            keras[f"{layer}_bn/{name}"] = tensor
        elif "_dw_" in layer:
            keras[f"{layer}/depthwise_kernel"] = tensor.permute(2, 3, 0, 1)
        else:
            keras[f"{layer}/kernel"] = tensor.permute(2, 3, 1, 0)
    return keras


def test_it_has_the_papers_parameters(backbone: MobileNetV1) -> None:
    assert count_parameters(backbone, trainable=True) == 3_206_976
    assert count_parameters(backbone, trainable=False) == 3_230_914 - 2_050


def test_its_table_has_thirteen_blocks_of_which_four_halve_the_map() -> None:
    assert len(BLOCKS) == 13
    assert [row for row, block in enumerate(BLOCKS) if block.s == 2] == [1, 3, 5, 11]


def test_its_maps_have_the_promised_channels_and_strides(backbone: MobileNetV1) -> None:
    maps = backbone.features(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, 32, 32, 48),
        (2, 128, 16, 24),
        (2, 256, 8, 12),
        (2, 512, 4, 6),
        (2, 1024, 2, 3),
    ]


def test_its_skips_are_the_last_blocks_before_each_halving(backbone: MobileNetV1) -> None:
    outputs = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, row=row: outputs.update({row: out}))
        for row, module in enumerate(backbone.blocks)
    ]
    maps = backbone.features(torch.rand(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    for taken, row in zip(maps[1:], (2, 4, 10, 12), strict=True):
        assert taken is outputs[row]


def test_forward_is_the_deepest_map(backbone: MobileNetV1) -> None:
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(backbone(x), backbone.features(x)[-1])


def test_no_value_exceeds_six(backbone: MobileNetV1) -> None:
    for features in backbone.features(10 * torch.randn(1, 3, 32, 32)):
        assert features.min() >= 0
        assert features.max() <= 6


def test_a_strided_convolution_starts_at_the_first_pixel() -> None:
    convolution = SamePadConv2d(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[[[1.0, 0, 0], [0, 0, 0], [0, 0, 10.0]]]]))
    x = torch.arange(16.0).view(1, 1, 4, 4)
    # pads (0, 1): windows start at pixels 0 and 2; symmetric padding would start at -1 and 1
    expected = [[0 + 100, 2 + 0], [8 + 0, 10 + 0]]
    assert convolution(x)[0, 0].tolist() == expected


def test_published_names_become_its_own(backbone: MobileNetV1) -> None:
    state = backbone.state_dict()
    converted = convert_published(_published_names(state))
    assert set(converted) == {key for key in state if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(tensor, state[key]) for key, tensor in converted.items())


def test_keras_weights_become_the_published_ones(backbone: MobileNetV1) -> None:
    state = backbone.state_dict()
    expected = _published_names(state)
    converted = convert_keras(_keras_names(state))
    assert set(converted) == set(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in converted.items())
