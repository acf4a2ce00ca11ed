"""What every backbone promises, in one table."""

import pytest
import torch
from torch import nn

from dermfuse.errors import ConfigError
from dermfuse.models import count_parameters
from dermfuse.models.backbones import BACKBONES, Backbone, build_backbone
from dermfuse.models.backbones.base import STRIDES

DENSE_1000 = 1280 * 1000 + 1000
TABLE = {  # trainable parameters as published or as the paper counts them; channels of the maps
    "mobilenet_v1": (3_206_976, (32, 128, 256, 512, 1024)),
    "densenet121": (6_953_856, (64, 128, 256, 512, 1024)),
    "squeezenet1_1": (1_235_496, (64, 128, 256, 512, 1000)),
    "shufflenet_v1": (3_529_776, (48, 48, 480, 960, 1920)),
    "resnet18": (11_178_947, (64, 64, 128, 256, 512)),
    "vgg16": (138_357_544 - 123_642_856, (128, 256, 512, 512, 512)),
    "resnext50": (25_028_904 - 2_049_000, (64, 256, 512, 1024, 2048)),
    "efficientnet_lite0": (4_652_008 - DENSE_1000, (16, 24, 40, 112, 320)),
    "mobilenet_v2": (3_504_872 - DENSE_1000, (32, 24, 32, 96, 320)),
}


@pytest.fixture(scope="module", params=sorted(TABLE))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(request.param).eval()


def test_the_backbones_are_those_that_presets_name() -> None:
    assert set(BACKBONES) == set(TABLE)
    with pytest.raises(ConfigError, match=r"no backbone 'densnet121'.*Did you mean densenet121\?"):
        build_backbone("densnet121")
    with pytest.raises(ConfigError, match=r"one of mobilenet_v1, densenet121, .*mobilenet_v2\.$"):
        build_backbone("@")


def test_the_parameters_are_those_of_the_table(backbone: Backbone) -> None:
    assert count_parameters(backbone, trainable=True) == TABLE[backbone.name][0]


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_the_maps_are_exactly_the_image_over_the_stride(
    backbone: Backbone, size: tuple[int, int]
) -> None:
    channels = TABLE[backbone.name][1]
    assert backbone.channels == channels
    with torch.no_grad():
        maps = backbone.features(torch.rand(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [
        (2, c, size[0] // s, size[1] // s) for c, s in zip(channels, STRIDES, strict=True)
    ]


def test_the_embedding_is_made_of_the_deepest_map(backbone: Backbone) -> None:
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        embedded, deepest = backbone(x), backbone.features(x)[-1]
        assert embedded.shape[1] == backbone.embedding_channels
        if backbone.name != "squeezenet1_1":  # it ends at stride 16 and pads for ``features`` only
            assert torch.equal(embedded, backbone.embedding_map(deepest))
            assert embedded.shape[2:] == (2, 3)
    used_alone = sum(count_parameters(m, trainable=True) for m in backbone.embedding_layers())
    assert (used_alone > 0) == (embedded.shape[1] == 1280)


def test_every_parameter_learns(backbone: Backbone) -> None:
    backbone(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "blocks", "taken"),
    [("mobilenet_v1", "blocks", (0, 3, 5, 11, 13)), ("mobilenet_v2", "stages", (0, 2, 3, 5, 7))],
)
def test_skips_are_the_first_convolution_and_the_last_blocks_of_each_resolution(
    name: str, blocks: str, taken: tuple[int, ...]
) -> None:
    backbone, outputs = build_backbone(name).eval(), []
    for module in (backbone.stem, *getattr(backbone, blocks)):  # type: ignore[misc]
        module.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    maps = backbone.features(torch.rand(1, 3, 32, 32))
    assert all(m is outputs[at] for m, at in zip(maps, taken, strict=True))


def test_names_in_a_state_dict_are_a_public_format() -> None:
    expected = {
        "mobilenet_v1": {"stem.conv.weight", "blocks.12.depthwise.norm.running_mean"},
        "densenet121": {"stem.norm.bias", "blocks.2.23.conv2.weight", "transitions.0.conv.weight"},
        "squeezenet1_1": {"conv1.weight", "stages.2.3.expand3x3.bias", "conv10.weight"},
        "shufflenet_v1": {"stem_norm.weight", "stages.1.7.depthwise_norm.running_var"},
        "resnet18": {"bn_input.shift", "stages.3.1.bn2.weight", "stages.0.0.shortcut.weight"},
        "vgg16": {"blocks.0.0.weight", "blocks.4.2.bias"},
        "resnext50": {"layer2.0.downsample.1.running_var", "layer4.2.bn3.bias"},
        "efficientnet_lite0": {"stages.6.0.project.norm.bias", "top.conv.weight"},
        "mobilenet_v2": {"stages.0.0.depthwise.conv.weight", "stages.6.0.expand.norm.weight"},
    }
    for name, keys in expected.items():
        assert keys <= set(build_backbone(name).state_dict()), name


def test_totals_with_batch_norm_statistics_are_the_papers() -> None:
    for name, total in (
        ("mobilenet_v1", 3_230_914),
        ("densenet121", 7_039_554),
        ("squeezenet1_1", 1_237_498),
        ("resnet18", 11_187_915),
        ("shufflenet_v1", 3_582_578),  # the paper's is 3,616,946
    ):
        backbone = build_backbone(name)
        head = nn.Linear(backbone.embedding_channels, 2)
        counted = count_parameters(backbone, trainable=False)
        assert counted + count_parameters(head, trainable=False) == total, name
