import pytest
import torch

from dermfuse.errors import ConfigError
from dermfuse.models import count_parameters
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.unet import DECODER_CHANNELS, DecoderStage, UNet


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(build_backbone("mobilenet_v1")).eval()


@pytest.mark.parametrize(
    ("backbone", "stated_mb"),
    [("mobilenet_v1", 32), ("densenet121", 48), ("vgg16", 73), ("resnext50", 125)],
)
def test_its_file_is_about_as_large_as_the_paper_states(backbone: str, stated_mb: int) -> None:
    unet = UNet(build_backbone(backbone))
    mebibytes = 4 * count_parameters(unet, trainable=False) / 2**20
    assert mebibytes == pytest.approx(stated_mb, rel=0.04)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_carries_a_unet(backbone: str) -> None:
    unet = UNet(build_backbone(backbone)).eval()
    with torch.inference_mode():
        assert unet(torch.rand(1, 3, 32, 64)).shape == (1, 1, 32, 64)


def test_the_decoder_has_the_papers_channels(unet: UNet) -> None:
    assert [stage.conv2.out_channels for stage in unet.decoder] == [256, 128, 64, 32, 16]
    assert [stage.conv1.in_channels for stage in unet.decoder] == [
        1024 + 512,
        256 + 256,
        128 + 128,
        64 + 32,
        32,
    ]
    assert DECODER_CHANNELS[-1] == unet.head.in_channels


def test_a_stage_repeats_each_pixel_into_a_square_of_four() -> None:
    stage = DecoderStage(1, 0, 1).eval()
    for convolution in (stage.conv1, stage.conv2):
        torch.nn.init.dirac_(convolution.weight)
    y = stage(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), None)
    expected = [[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    torch.testing.assert_close(y[0, 0], torch.tensor(expected), rtol=1e-4, atol=0)


def test_a_stage_joins_its_skip_behind_what_comes_from_below() -> None:
    stage = DecoderStage(1, 1, 1).eval()
    torch.nn.init.zeros_(stage.conv1.weight)
    torch.nn.init.dirac_(stage.conv2.weight)
    with torch.no_grad():
        stage.conv1.weight[0, 1, 1, 1] = 1.0  # reads the skip alone
    skip = torch.rand(1, 1, 4, 4)
    y = stage(torch.rand(1, 1, 2, 2), skip)
    torch.testing.assert_close(y, skip, rtol=1e-4, atol=0)


def test_every_parameter_learns_from_the_mask() -> None:
    unet = UNet(build_backbone("mobilenet_v1"))
    unet(torch.rand(2, 3, 32, 64)).square().mean().backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("height", "width", "padded"),
    [(250, 224, "256 x 224"), (224, 225, "224 x 256"), (16, 16, "32 x 32")],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(
    unet: UNet, height: int, width: int, padded: str
) -> None:
    with pytest.raises(ConfigError, match=f"{height} x {width} pixels.*to {padded}"):
        unet(torch.rand(1, 3, height, width))


def test_its_names_in_a_state_dict_are_a_public_format(unet: UNet) -> None:
    keys = list(unet.state_dict())
    assert {key.split(".")[0] for key in keys} == {"backbone", "decoder", "head"}
    assert {"decoder.0.conv1.weight", "decoder.4.norm2.running_var", "head.bias"} <= set(keys)


def test_the_memory_format_changes_no_answer(unet: UNet) -> None:
    x = torch.rand(1, 3, 32, 64)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(unet(channels_last), unet(x), rtol=1e-3, atol=1e-4)


def test_it_exports_with_any_batch_size(unet: UNet) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    x = torch.rand(2, 3, 32, 64)
    program = torch.export.export(unet, (x,), dynamic_shapes=({0: batch},))
    three = torch.rand(3, 3, 32, 64)
    torch.testing.assert_close(program.module()(three), unet(three), rtol=1e-3, atol=1e-4)
