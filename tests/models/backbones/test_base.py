import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dermfuse.models.backbones.base import (
    IMAGENET,
    STRIDES,
    SYMMETRIC,
    Backbone,
    Normalisation,
    Normalise,
    SamePadConv2d,
)

COUNTING = torch.arange(16.0).view(1, 1, 4, 4)


def summing(kernel: int | tuple[int, int], stride: int) -> SamePadConv2d:
    conv = SamePadConv2d(1, 1, kernel, stride=stride, bias=False)
    nn.init.ones_(conv.weight)
    return conv


@pytest.mark.parametrize(
    ("kernel", "stride", "image", "expected"),
    [
        pytest.param(3, 2, COUNTING, [[45, 39], [66, 50]], id="even side pads right and bottom"),
        pytest.param(
            3, 2, torch.ones(1, 1, 5, 5), [[4, 6, 4], [6, 9, 6], [4, 6, 4]], id="odd side pads both"
        ),
        pytest.param(5, 2, torch.ones(1, 1, 4, 4), [[16, 12], [12, 9]], id="kernel 5 pads 1 and 2"),
        pytest.param((1, 3), 2, COUNTING, [[3, 5], [27, 21]], id="only columns are padded"),
        pytest.param((3, 1), 2, COUNTING, [[12, 18], [20, 24]], id="only rows are padded"),
        pytest.param(2, 1, torch.ones(1, 1, 2, 2), [[4, 2], [2, 1]], id="even kernel"),
        pytest.param(3, 1, torch.ones(1, 1, 2, 2), [[4, 4], [4, 4]], id="stride 1 is symmetric"),
        pytest.param(1, 2, COUNTING, [[0, 2], [8, 10]], id="kernel 1 needs no padding"),
    ],
)
def test_same_padding_equals_values_by_hand(
    kernel: int | tuple[int, int], stride: int, image: Tensor, expected: list[list[float]]
) -> None:
    result = summing(kernel, stride)(image)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32)[None, None])


def test_symmetric_padding_would_answer_otherwise() -> None:
    symmetric = nn.functional.conv2d(COUNTING, torch.ones(1, 1, 3, 3), stride=2, padding=1)
    assert not torch.equal(symmetric, summing(3, 2)(COUNTING))


def test_same_padding_keeps_bias_and_groups() -> None:
    conv = SamePadConv2d(2, 2, 3, stride=2, groups=2)
    nn.init.ones_(conv.weight)
    conv.bias = nn.Parameter(torch.tensor([0.0, 100.0]))
    result = conv(torch.cat((COUNTING, 2 * COUNTING), dim=1))
    torch.testing.assert_close(result[0, 0], torch.tensor([[45.0, 39.0], [66.0, 50.0]]))
    torch.testing.assert_close(result[0, 1], torch.tensor([[190.0, 178.0], [232.0, 200.0]]))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
)
def test_same_padding_yields_the_side_over_the_stride(
    height: int, width: int, kernel: int, stride: int
) -> None:
    result = summing(kernel, stride)(torch.ones(1, 1, height, width))
    assert result.shape[2:] == (-(-height // stride), -(-width // stride))


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    normalise = Normalise(Normalisation((0.5, 0.25, 0.0), (0.5, 0.25, 2.0)))
    pixel = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(pixel).flatten(), torch.tensor([1.0, -1.0, 0.25]))


def test_tensorflows_convention_spans_minus_one_to_one() -> None:
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    result = Normalise(SYMMETRIC)(black_and_white)
    torch.testing.assert_close(result[:, :, 0, 0], torch.tensor([[-1.0] * 3, [1.0] * 3]))


def test_the_constants_of_normalise_are_not_in_its_state() -> None:
    normalise = Normalise(IMAGENET)
    assert not normalise.state_dict()
    assert not list(normalise.parameters())
    assert normalise.to(torch.float64).mean.dtype == torch.float64


def test_a_backbone_embeds_its_deepest_map() -> None:
    class Pools(Backbone):
        def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
            s2, s4, s8, s16, s32 = (nn.functional.avg_pool2d(x, stride) for stride in STRIDES)
            return s2, s4, s8, s16, s32

    assert Pools()(torch.ones(1, 3, 64, 32)).shape == (1, 3, 2, 1)
