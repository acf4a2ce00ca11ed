import pytest
import torch
from torch import nn

from dermfuse.errors import ConfigError
from dermfuse.models import count_parameters
from dermfuse.models.unet import CHANNELS, DoubleConv, OriginalUNet


@pytest.fixture(scope="module")
def network() -> OriginalUNet:
    torch.manual_seed(0)
    return OriginalUNet().eval()


def test_it_has_31_million_parameters_in_about_120_mb(network: OriginalUNet) -> None:
    assert count_parameters(network, trainable=True) == 31_037_633
    values = count_parameters(network, trainable=False)
    assert values == 31_049_409
    assert 118 < 4 * values / 2**20 < 4 * values / 1e6 < 125


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_the_mask_has_the_size_of_the_image(network: OriginalUNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(
    ("size", "padded"), [((31, 32), "32 x 32"), ((32, 33), "32 x 48"), ((1, 1), "16 x 16")]
)
def test_another_size_is_refused_with_the_size_to_pad_to(
    network: OriginalUNet, size: tuple[int, int], padded: str
) -> None:
    with pytest.raises(ConfigError, match=f"multiples of 16.*{padded}"):
        network(torch.rand(1, 3, *size))


def test_every_parameter_learns(network: OriginalUNet) -> None:
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_skips_are_joined_at_their_own_strides(network: OriginalUNet) -> None:
    joined = [level[0].weight.shape[1] for level in network.decoder]  # type: ignore[index]
    assert joined == [1024, 512, 256, 128]
    assert CHANNELS == (64, 128, 256, 512, 1024)


def test_two_convolutions_keep_the_size_and_rectify() -> None:
    result = DoubleConv(3, 8)(torch.randn(2, 3, 5, 7))
    assert result.shape == (2, 8, 5, 7)
    assert result.min() >= 0
    assert isinstance(DoubleConv(3, 8)[0], nn.Conv2d)
