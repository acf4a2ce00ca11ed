"""The building blocks of the backbones, by hand."""

import pytest
import torch
from torch import nn

from dermfuse.models.backbones import build_backbone
from dermfuse.models.backbones.base import PYTORCH, TENSORFLOW
from dermfuse.models.backbones.densenet import LAYERS, DenseLayer
from dermfuse.models.backbones.mobilenet_v1 import BLOCKS, ConvNormReLU6
from dermfuse.models.backbones.mobilenet_v2 import InvertedResidual
from dermfuse.models.backbones.resnext import Bottleneck
from dermfuse.models.backbones.shufflenet import ShuffleUnit
from dermfuse.models.backbones.squeezenet import Fire


def test_mobilenet_v1_has_thirteen_blocks_of_which_four_halve_the_map_and_densenet_121_layers() -> (
    None
):
    assert [row for row, block in enumerate(BLOCKS) if block.s == 2] == [1, 3, 5, 11]
    assert len(BLOCKS) == 13
    stem, transitions, dense = 1, 3, 1
    assert stem + 2 * sum(LAYERS) + transitions + dense == 121


@pytest.mark.parametrize(
    ("release", "epsilon", "corner"), [(PYTORCH, 1e-5, 4 / 16), (TENSORFLOW, 1e-3, 9 / 16)]
)
def test_torchvision_pads_a_strided_convolution_on_both_sides(
    release: object, epsilon: float, corner: float
) -> None:
    layer = ConvNormReLU6(1, 1, kernel=3, s=2, release=release).eval()  # type: ignore[arg-type]
    nn.init.constant_(layer.conv.weight, 1 / 16)
    assert layer.norm.eps == epsilon
    # the first window holds 2 x 2 pixels of the image with padding, 3 x 3 without
    assert layer(torch.ones(1, 1, 4, 4))[0, 0, 0, 0].item() == pytest.approx(corner, rel=1e-3)


def test_no_value_of_mobilenet_v1_exceeds_six() -> None:
    for features in build_backbone("mobilenet_v1").eval().features(10 * torch.randn(1, 3, 32, 32)):
        assert 0 <= features.min() <= features.max() <= 6


def test_a_dense_layer_keeps_its_input_and_adds_32_channels() -> None:
    x = torch.randn(1, 8, 4, 4)
    y = DenseLayer(8)(x)
    assert y.shape == (1, 40, 4, 4)
    assert torch.equal(y[:, :8], x)


def test_an_inverted_residual_has_a_shortcut_where_its_size_stays_and_a_linear_projection() -> None:
    shortcuts = [
        InvertedResidual(16, c, t=6, s=s, k=3, release=PYTORCH).has_shortcut
        for c, s in ((24, 2), (24, 1), (16, 1))
    ]
    assert shortcuts == [False, False, True]
    silent = InvertedResidual(24, 24, t=6, s=1, k=3, release=PYTORCH).eval()
    nn.init.zeros_(silent.project.conv.weight)
    x = torch.randn(1, 24, 4, 4)
    assert torch.equal(silent(x), x)
    block = InvertedResidual(1, 1, t=1, s=2, k=3, release=PYTORCH).eval()
    nn.init.constant_(block.project.conv.weight, -1)
    nn.init.ones_(block.depthwise.conv.weight)
    assert block(torch.ones(1, 1, 2, 2)).item() == pytest.approx(-4, abs=1e-3)  # no ReLU6


def test_without_its_branch_a_block_rectifies_its_input() -> None:
    bottleneck, unit = Bottleneck(24, 32, 24, 1).eval(), ShuffleUnit(24, 24, stride=1).eval()
    for block, last in ((bottleneck, bottleneck.bn3), (unit, unit.expand_norm)):
        nn.init.zeros_(last.weight)
        x = torch.randn(1, 24, 4, 4)
        torch.testing.assert_close(block(x), x.relu())


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


def test_squeezenet_keeps_its_published_sizes_and_pads_for_the_u_net_by_one_pixel() -> None:
    network = build_backbone("squeezenet1_1").eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        result = network(torch.rand(1, 3, 224, 224))
        assert result.shape == (1, 1000, 13, 13)
        assert result.min() >= 0
        padded = network(nn.functional.pad(x, (1, 0, 1, 0)))
        pooled = nn.functional.max_pool2d(padded, 3, stride=2, ceil_mode=True)
        torch.testing.assert_close(network.features(x)[-1], pooled)


def test_the_deepest_map_of_vgg_pools_the_one_before() -> None:
    with torch.no_grad():
        *_, stride16, stride32 = build_backbone("vgg16").features(torch.rand(1, 3, 32, 64))
    torch.testing.assert_close(nn.functional.max_pool2d(stride16, 2), stride32)


def test_without_its_branch_a_shuffle_unit_of_stride_2_pools() -> None:
    unit = ShuffleUnit(12, 24, stride=2, first_groups=1).eval()
    nn.init.zeros_(unit.expand_norm.weight)
    result = unit(torch.full((1, 12, 4, 4), 9.0))
    # a 3x3 mean over zero padding: 4 of 9 pixels in the corner, 6 of 9 on the edge
    pooled = torch.tensor([[4.0, 6.0], [6.0, 9.0]]).expand(1, 12, 2, 2)
    torch.testing.assert_close(result[:, :12], pooled)
    assert not result[:, 12:].any()


def test_the_shuffle_lets_every_group_see_every_other() -> None:
    unit = ShuffleUnit(36, 36, stride=1).eval()
    for conv in (unit.reduce, unit.depthwise, unit.expand):
        nn.init.ones_(conv.weight)  # so that no ReLU hides a path
    x = torch.rand(1, 36, 1, 1, requires_grad=True)
    unit(x)[0, 0].sum().backward()  # an output of the first group
    assert x.grad is not None
    assert (x.grad.view(3, 12).abs().sum(dim=1) > 0).all()
