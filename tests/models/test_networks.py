"""Every network of the package: how large it is, and what it answers to given weights."""

import zlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dermfuse.config import load_preset
from dermfuse.errors import ConfigError
from dermfuse.models import build_network, count_parameters
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.backbones.base import STRIDES
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork
from dermfuse.models.unet import OriginalUNet, UNet

WAVE = np.sin(np.arange(60_013.0) ** 2)  # like noise, and the same on every machine


@pytest.mark.parametrize(
    ("preset", "trainable", "total", "stated_mb"),
    [
        ("mobilenetv1", 3_209_026, 3_230_914, None),
        ("densenet121", 6_955_906, 7_039_554, None),
        ("squeezenet", 1_237_498, 1_237_498, None),
        ("resnet18", 11_179_973, 11_187_915, None),
        ("shufflenet", 3_533_618, 3_582_578, None),  # the paper's total is 3,616,946
        ("dc-mobilenetv1", 3_736_902, 3_758_790, None),
        ("dc-densenet121", 7_483_782, 7_567_430, None),
        ("u-mobilenetv1", 8_303_121, 8_326_993, 32),
        ("u-densenet121", 12_059_217, 12_144_849, 48),
        ("u-vgg16", 19_027_473, 19_029_457, 73),
        ("u-resnext50", 31_992_849, 32_063_057, 125),
        ("unet", 31_037_633, 31_049_409, 120),
    ],
)
def test_networks_have_the_papers_parameters_and_about_the_size_it_states(
    preset: str, trainable: int, total: int, stated_mb: int | None
) -> None:
    network = build_network(load_preset(preset).model)
    assert count_parameters(network, trainable=True) == trainable
    assert count_parameters(network, trainable=False) == total
    assert stated_mb is None or 4 * total / 2**20 == pytest.approx(stated_mb, rel=0.04)


DENSE_1000 = 1280 * 1000 + 1000
# Trainable parameters as published or as the paper counts them; channels of the maps; and, with
# weights that follow from their names alone, the mean of the embedding, of the size of the logits
# and of the mask's logits. These three were taken from the networks that name a cat under
# ImageNet's weights: another padding, order, epsilon, scale of the pixels or name in the state
# dict moves them.
TABLE = {
    "mobilenet_v1": (3_206_976, (32, 128, 256, 512, 1024), (0.208392, 1.51196, 2.61425)),
    "densenet121": (6_953_856, (64, 128, 256, 512, 1024), (0.853617, 1.48461, 5.69707)),
    "squeezenet1_1": (1_235_496, (64, 128, 256, 512, 1000), (6.14053, 23.1766, 7.73811)),
    "shufflenet_v1": (3_529_776, (48, 48, 480, 960, 1920), (1744.77, 1378.15, 1979.49)),
    "resnet18": (11_178_947, (64, 64, 128, 256, 512), (14.0425, 12.9881, 26.3267)),
    "vgg16": (138_357_544 - 123_642_856, (128, 256, 512, 512, 512), (21.7335, 52.5991, 20.8551)),
    "resnext50": (25_028_904 - 2_049_000, (64, 256, 512, 1024, 2048), (1786.24, 1914.06, 703.055)),
    "efficientnet_lite0": (
        4_652_008 - DENSE_1000,
        (16, 24, 40, 112, 320),
        (0.990534, 0.919263, 5.03353),
    ),
    "mobilenet_v2": (3_504_872 - DENSE_1000, (32, 24, 32, 96, 320), (1.19089, 2.46841, 3.30334)),
}


def test_the_backbones_are_those_that_presets_name() -> None:
    assert set(BACKBONES) == set(TABLE)
    with pytest.raises(ConfigError, match=r'no backbone .*Did you mean "densenet121"\?$'):
        build_backbone("densnet121")
    with pytest.raises(ConfigError, match=r"one of mobilenet_v1, densenet121, .*mobilenet_v2\.$"):
        build_backbone("@")


def images(height: int, width: int) -> Tensor:
    """Two images, in the layout that training uses."""
    pixels = torch.from_numpy(np.resize(WAVE / 2 + 0.5, (2, 3, height, width))).float()
    return pixels.contiguous(memory_format=torch.channels_last)


def filled(network: nn.Module) -> nn.Module:
    """The network, whose weights follow from their names: He's deviation, norms near 1."""
    for name, tensor in network.state_dict().items():
        wave = np.resize(WAVE[zlib.crc32(name.encode()) % 10_000 :], tensor.shape)
        scaled = 2 * wave / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 1 + wave / 4
        tensor.copy_(torch.as_tensor(scaled))
    return network.eval()


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_backbone_has_its_size_its_maps_and_its_answers(name: str) -> None:
    parameters, channels, answers = TABLE[name]
    joint = filled(JointNetwork(build_backbone(name)))
    backbone = joint.backbone
    assert count_parameters(backbone, trainable=True) == parameters
    x = images(32, 64)
    classifier = Classifier(backbone, head=joint.class_head).eval()
    with torch.inference_mode():
        embedding, logits = classifier.embed(x), classifier(x)
        maps, (class_logits, mask_logits) = backbone.features(x), joint(x)
    assert [m.shape for m in maps] == [
        (2, c, 32 // s, 64 // s) for c, s in zip(channels, STRIDES, strict=True)
    ]
    assert backbone.channels == channels
    assert embedding.shape == (2, backbone.embedding_channels)
    assert mask_logits.shape == (2, 1, 32, 64)
    found = [embedding.mean(), logits.abs().mean(), mask_logits.mean()]
    assert [float(one) for one in found] == pytest.approx(answers, rel=2e-4)
    if name != "squeezenet1_1":  # it ends at stride 16, and is padded for masks alone
        torch.testing.assert_close(class_logits, logits)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_mask_trains_all_but_the_layers_of_the_embedding_and_a_class_trains_all(
    name: str,
) -> None:
    backbone = build_backbone(name)
    backbone(images(64, 64)).sum().backward()
    assert [key for key, p in backbone.named_parameters() if p.grad is None] == []
    backbone.zero_grad()
    unet = UNet(backbone)
    unet(images(32, 32)).sum().backward()
    left = {p for p in unet.parameters() if p.grad is None}
    assert left == {p for p in unet.parameters() if not p.requires_grad}
    assert left == {p for layer in backbone.embedding_layers() for p in layer.parameters()}
    assert bool(left) == (backbone.embedding_channels == 1280)


def test_the_original_u_net_and_the_pair_network_have_their_answers() -> None:
    original = filled(OriginalUNet())
    pair = filled(DiscriminantNetwork(build_backbone("mobilenet_v1")))
    x = images(32, 32)
    with torch.inference_mode():
        mask_logits, logits = original(images(16, 48)), pair(x, x.flip(0))
    assert mask_logits.shape == (2, 1, 16, 48)
    assert float(mask_logits.mean()) == pytest.approx(1.37253, rel=2e-4)
    assert [float(one[0, 0]) for one in logits] == pytest.approx(
        [1.41741, 0.901217, 1.34680], rel=2e-4
    )


@pytest.mark.parametrize(
    ("preset", "size", "padded"),
    [
        *[("u-mobilenetv1", (250, 224), "256 x 224"), ("u-mobilenetv1", (16, 16), "32 x 32")],
        *[("unet", (32, 33), "32 x 48"), ("joint-mobilenetv1", (48, 64), "64 x 64")],
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(
    preset: str, size: tuple[int, int], padded: str
) -> None:
    with pytest.raises(ConfigError, match=f"{size[0]} x {size[1]} pixels.*to {padded}"):
        build_network(load_preset(preset).model)(images(*size))
