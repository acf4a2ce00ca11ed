import pytest
import torch

from dermfuse.models import count_parameters
from dermfuse.models.backbones.base import PYTORCH, TENSORFLOW
from dermfuse.models.backbones.mobilenet_v1 import ConvNormReLU6
from dermfuse.models.backbones.mobilenet_v2 import (
    BOTTLENECKS,
    InvertedResidual,
    MobileNetV2,
    convert_torchvision,
)
from dermfuse.models.weights import PUBLISHED


@pytest.fixture(scope="module")
def backbone() -> MobileNetV2:
    torch.manual_seed(0)
    return MobileNetV2().eval()


def _torchvision_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Written from torchvision's list of layers, with the block's number counted up."""
    numbers = {}
    for number, (stage, block) in enumerate(
        ((s, b) for s, row in enumerate(BOTTLENECKS) for b in range(row.n)), start=1
    ):
        numbers[f"{stage}.{block}"] = number
    first = {"depthwise": ("0.0", "0.1"), "project": ("1", "2")}
    later = {"expand": ("0.0", "0.1"), "depthwise": ("1.0", "1.1"), "project": ("2", "3")}
    theirs = {}
    for key, tensor in state.items():
        *path, part, module, leaf = key.split(".")
        index = ("conv", "norm").index(module)
        if path:
            number = numbers[f"{path[1]}.{path[2]}"]
            place = (first if number == 1 else later)[part][index]
            theirs[f"features.{number}.conv.{place}.{leaf}"] = tensor
        else:
            theirs[f"features.{0 if part == 'stem' else 18}.{index}.{leaf}"] = tensor
    return theirs


def test_it_has_torchvisions_parameters(backbone: MobileNetV2) -> None:
    published, dense = 3_504_872, 1280 * 1000 + 1000
    assert count_parameters(backbone, trainable=True) == published - dense == 2_223_872


def test_its_table_is_the_papers() -> None:
    assert [tuple(row) for row in BOTTLENECKS] == [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]


def test_its_maps_have_the_promised_channels_and_strides(backbone: MobileNetV2) -> None:
    with torch.no_grad():
        maps = backbone.features(torch.rand(2, 3, 64, 96))
        assert backbone(torch.rand(1, 3, 64, 96)).shape == (1, 1280, 2, 3)
    assert [tuple(m.shape) for m in maps] == [
        (2, 32, 32, 48),
        (2, 24, 16, 24),
        (2, 32, 8, 12),
        (2, 96, 4, 6),
        (2, 320, 2, 3),
    ]


def test_its_skips_are_the_first_convolution_and_the_last_blocks(backbone: MobileNetV2) -> None:
    outputs = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, row=row: outputs.update({row: out}))
        for row, module in enumerate((backbone.stem, *backbone.stages))
    ]
    maps = backbone.features(torch.rand(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    for taken, row in zip(maps, (0, 2, 3, 5, 7), strict=True):
        assert taken is outputs[row]


def test_only_a_block_of_the_same_size_has_a_shortcut() -> None:
    assert not InvertedResidual(16, 24, t=6, s=2).has_shortcut
    assert not InvertedResidual(16, 24, t=6, s=1).has_shortcut
    assert InvertedResidual(24, 24, t=6, s=1).has_shortcut


def test_a_block_whose_branch_is_silent_passes_its_input_on() -> None:
    block = InvertedResidual(24, 24, t=6, s=1).eval()
    torch.nn.init.zeros_(block.project.conv.weight)
    x = torch.randn(1, 24, 4, 4)
    assert torch.equal(block(x), x)


def test_the_projection_is_linear() -> None:
    block = InvertedResidual(1, 1, t=1, s=2).eval()
    torch.nn.init.constant_(block.project.conv.weight, -1)
    torch.nn.init.ones_(block.depthwise.conv.weight)
    assert block(torch.ones(1, 1, 2, 2)).item() == pytest.approx(-4, abs=1e-3)  # no ReLU6


@pytest.mark.parametrize(
    ("release", "epsilon", "corner"), [(PYTORCH, 1e-5, 4 / 16), (TENSORFLOW, 1e-3, 9 / 16)]
)
def test_torchvision_pads_a_strided_convolution_on_both_sides(
    release: object, epsilon: float, corner: float
) -> None:
    layer = ConvNormReLU6(1, 1, kernel=3, s=2, release=release).eval()  # type: ignore[arg-type]
    torch.nn.init.constant_(layer.conv.weight, 1 / 16)
    assert layer.norm.eps == epsilon
    # the first window holds 2 x 2 pixels of the image with padding, 3 x 3 without
    assert layer(torch.ones(1, 1, 4, 4))[0, 0, 0, 0].item() == pytest.approx(corner, rel=1e-3)


def test_torchvision_names_become_its_own(backbone: MobileNetV2) -> None:
    state = backbone.state_dict()
    converted = convert_torchvision(_torchvision_names(state))
    assert set(converted) == set(state)
    assert all(tensor is state[key] for key, tensor in converted.items())


@pytest.mark.parametrize("key", ["features.19.0.weight", "features.1.conv.5.weight"])
def test_a_foreign_name_is_refused(key: str) -> None:
    with pytest.raises((KeyError, ValueError, IndexError)):
        convert_torchvision({key: torch.zeros(1)})


def test_its_dense_layer_is_kept_for_the_imagenet_classifier() -> None:
    entry = PUBLISHED["mobilenet_v2"]
    state = {"features.0.0.weight": torch.ones(1), "classifier.1.weight": torch.ones(1)}
    assert set(entry.backbone_state(state, source=None)) == {"stem.conv.weight"}  # type: ignore[arg-type]
    assert entry.head == "classifier.1"
