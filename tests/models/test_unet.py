import pytest
import torch
from torch import nn

from dermfuse.config import load_preset
from dermfuse.errors import ConfigError
from dermfuse.models import build_network, count_parameters
from dermfuse.models.backbones import build_backbone
from dermfuse.models.unet import DecoderStage, DoubleConv, OriginalUNet, UNet


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(build_backbone("mobilenet_v1")).eval()


@pytest.fixture(scope="module")
def original() -> OriginalUNet:
    torch.manual_seed(0)
    return OriginalUNet().eval()


@pytest.mark.parametrize(
    ("preset", "stated_mb", "values"),
    [
        ("u-mobilenetv1", 32, 8_326_993),
        ("u-densenet121", 48, 12_144_849),
        ("u-vgg16", 73, 19_029_457),
        ("u-resnext50", 125, 32_063_057),
        ("unet", 120, 31_049_409),
    ],
)
def test_its_file_is_about_as_large_as_the_paper_states(
    preset: str, stated_mb: int, values: int
) -> None:
    network = build_network(load_preset(preset).model)
    assert count_parameters(network, trainable=False) == values
    assert 4 * values / 2**20 == pytest.approx(stated_mb, rel=0.04)


def test_the_decoders_have_the_papers_channels(unet: UNet, original: OriginalUNet) -> None:
    assert [stage.conv2.out_channels for stage in unet.decoder] == [256, 128, 64, 32, 16]
    joined = [1024 + 512, 256 + 256, 128 + 128, 64 + 32, 32]
    assert [stage.conv1.in_channels for stage in unet.decoder] == joined
    assert unet.head.in_channels == 16
    assert [level[0].in_channels for level in original.decoder] == [1024, 512, 256, 128]  # type: ignore[index]
    assert count_parameters(original, trainable=True) == 31_037_633


def test_a_stage_repeats_each_pixel_into_a_square_of_four() -> None:
    stage = DecoderStage(1, 0, 1).eval()
    for convolution in (stage.conv1, stage.conv2):
        nn.init.dirac_(convolution.weight)
    y = stage(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), None)
    expected = [[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    torch.testing.assert_close(y[0, 0], torch.tensor(expected), rtol=1e-4, atol=0)


def test_a_stage_joins_its_skip_behind_what_comes_from_below() -> None:
    stage = DecoderStage(1, 1, 1).eval()
    nn.init.zeros_(stage.conv1.weight)
    nn.init.dirac_(stage.conv2.weight)
    with torch.no_grad():
        stage.conv1.weight[0, 1, 1, 1] = 1.0  # reads the skip alone
    skip = torch.rand(1, 1, 4, 4)
    y = stage(torch.rand(1, 1, 2, 2), skip)
    torch.testing.assert_close(y, skip, rtol=1e-4, atol=0)


def test_two_convolutions_keep_the_size_and_rectify() -> None:
    result = DoubleConv(3, 8)(torch.randn(2, 3, 5, 7))
    assert result.shape == (2, 8, 5, 7)
    assert result.min() >= 0


def test_the_mask_has_the_size_of_the_image(unet: UNet, original: OriginalUNet) -> None:
    with torch.no_grad():
        assert unet(torch.rand(2, 3, 32, 64)).shape == (2, 1, 32, 64)
        assert original(torch.rand(2, 3, 16, 48)).shape == (2, 1, 16, 48)


@pytest.mark.parametrize(
    ("name", "size", "padded"),
    [
        *[("unet", (250, 224), "256 x 224"), ("unet", (224, 225), "224 x 256")],
        *[("unet", (16, 16), "32 x 32"), ("original", (31, 32), "32 x 32")],
        *[("original", (32, 33), "32 x 48"), ("original", (1, 1), "16 x 16")],
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(
    name: str, size: tuple[int, int], padded: str, request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(name)
    with pytest.raises(ConfigError, match=f"{size[0]} x {size[1]} pixels.*to {padded}"):
        network(torch.rand(1, 3, *size))


def test_names_in_a_state_dict_are_a_public_format(unet: UNet, original: OriginalUNet) -> None:
    names = set(unet.state_dict())
    assert {"decoder.0.conv1.weight", "decoder.4.norm2.running_var", "head.bias"} <= names
    assert {key.split(".")[0] for key in names} == {"backbone", "decoder", "head"}
    names = set(original.state_dict())
    assert {"encoder.4.3.weight", "ups.0.bias", "decoder.3.4.running_mean", "head.bias"} <= names
