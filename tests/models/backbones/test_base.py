import pytest
import torch
from torch import Tensor, nn

from dermfuse.models.backbones.base import (
    IMAGENET,
    SYMMETRIC,
    Normalisation,
    Normalise,
    SamePadConv2d,
)
from dermfuse.models.backbones.efficientnet_lite import EfficientNetLite0

COUNTING = torch.arange(16.0).view(1, 1, 4, 4)
Kernel = int | tuple[int, int]


def summing(kernel: Kernel, stride: int) -> SamePadConv2d:
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
        pytest.param(2, 1, torch.ones(1, 1, 2, 2), [[4, 2], [2, 1]], id="even kernel"),
        pytest.param(3, 1, torch.ones(1, 1, 2, 2), [[4, 4], [4, 4]], id="stride 1 is symmetric"),
        pytest.param(1, 2, COUNTING, [[0, 2], [8, 10]], id="kernel 1 needs no padding"),
    ],
)
def test_same_padding_equals_values_by_hand(
    kernel: Kernel, stride: int, image: Tensor, expected: list[list[float]]
) -> None:
    result = summing(kernel, stride)(image)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32)[None, None])


@pytest.mark.parametrize(
    ("normalisation", "pixel", "scaled"),
    [
        (SYMMETRIC, [0.0, 1.0, 0.5], [-1, 1, 0]),
        (EfficientNetLite0.normalisation, [127 / 255, 1.0, 127 / 255], [0, 1, 0]),
        (IMAGENET, [0.485, 0.456 + 0.224, 0.406 - 0.225], [0, 1, -1]),
    ],
)
def test_pixels_are_scaled_as_the_weights_expect_by_constants_outside_the_state(
    normalisation: Normalisation, pixel: list[float], scaled: list[float]
) -> None:
    normalise = Normalise(normalisation)
    result = normalise(torch.tensor(pixel).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(result, torch.tensor(scaled).float(), rtol=0, atol=1e-6)
    assert not normalise.state_dict()
    assert not list(normalise.parameters())
