import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dermfuse.training.losses import (
    binary_cross_entropy,
    cross_entropy,
    dice_bce,
    dice_loss,
    discriminant_loss,
    focal,
    joint_loss,
    mask_focal,
    total_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]

LN2, LN4 = math.log(2), math.log(4)
CLASS_LOSSES = [cross_entropy, focal, discriminant_loss]
MASK_LOSSES = [binary_cross_entropy, dice_loss, dice_bce, mask_focal]


def class_logits(*malignant: float) -> Tensor:
    """Logits (B, 2) whose softmax gives these malignant probabilities."""
    return torch.tensor([[0.0, math.log(p / (1 - p))] for p in malignant])


def mask_logits(probabilities: list[list[float]]) -> Tensor:
    """Logits (1, 1, H, W) whose sigmoid gives these probabilities."""
    return torch.logit(torch.tensor(probabilities))[None, None]


TRUTH = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]


@pytest.mark.parametrize(
    ("probability", "label", "expected"),
    [(0.5, 1, LN2), (0.5, 0, LN2), (0.25, 1, LN4), (0.75, 0, LN4), (0.75, 1, math.log(4 / 3))],
)
def test_cross_entropy_is_equation_3(probability: float, label: int, expected: float) -> None:
    logits, labels = class_logits(probability), torch.tensor([label])
    assert cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    assert discriminant_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("probability", "label", "expected"),
    [
        (0.5, 1, 0.25 * 0.5**0.75 * LN2),
        (0.5, 0, 0.75 * 0.5**0.75 * LN2),
        (0.25, 1, 0.25 * 0.75**0.75 * LN4),
        (0.75, 0, 0.75 * 0.75**0.75 * LN4),
        (0.9, 1, 0.25 * 0.1**0.75 * math.log(10 / 9)),
    ],
)
def test_focal_is_equation_4(probability: float, label: int, expected: float) -> None:
    loss = focal(class_logits(probability), torch.tensor([label]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_losses_are_means_over_the_batch_of_numbers_or_booleans() -> None:
    logits, labels = class_logits(0.5, 0.25), torch.tensor([1, 1])
    assert cross_entropy(logits, labels).item() == pytest.approx((LN2 + LN4) / 2)
    assert discriminant_loss(logits, labels.bool()).item() == pytest.approx((LN2 + LN4) / 2)
    expected = 0.25 * (0.5**0.75 * LN2 + 0.75**0.75 * LN4) / 2
    assert focal(logits, labels).item() == pytest.approx(expected)


def test_focal_without_damping_is_half_a_cross_entropy() -> None:
    logits, labels = class_logits(0.3, 0.8, 0.6), torch.tensor([1, 0, 0])
    half = focal(logits, labels, alpha=0.5, gamma=0)
    assert half.item() == pytest.approx(cross_entropy(logits, labels).item() / 2)


def test_the_joint_loss_weighs_the_class_loss_beside_the_mask_loss() -> None:
    class_loss, mask_loss = torch.tensor(2.0), torch.tensor(3.0)
    assert joint_loss(class_loss, mask_loss).item() == 5.0
    assert joint_loss(class_loss, mask_loss, class_weight=0.25).item() == 3.5


def test_total_loss_is_equation_5_and_does_not_care_which_stream_came_first() -> None:
    a, b, c = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(8.0)
    assert total_loss(a, b, c).item() == total_loss(b, a, c).item() == 7.0
    assert total_loss(a, b, c, weights=(2.0, 1.0, 0.25)).item() == 6.0


def test_binary_cross_entropy_is_equation_9() -> None:
    logits = mask_logits([[0.5, 0.5], [0.25, 0.75]])
    expected = (LN2 + LN2 + math.log(4 / 3) + LN4) / 4
    assert binary_cross_entropy(logits, TRUTH).item() == pytest.approx(expected)


def test_dice_loss_is_equation_10() -> None:
    logits = mask_logits([[0.5, 0.5], [0.25, 0.75]])
    # S1 = 0.5, S2 = 1, S3 = 2, e = 1: 1 - (2 * 0.5 + 1) / (1 + 2 + 1)
    assert dice_loss(logits, TRUTH).item() == pytest.approx(1 / 2)
    assert dice_loss(logits, TRUTH, smooth=0.5).item() == pytest.approx(1 - 1.5 / 3.5)
    none = torch.full((1, 1, 4, 4), -100.0)  # beside an empty mask
    assert dice_loss(none, torch.zeros(1, 1, 4, 4)).item() == pytest.approx(0, abs=1e-6)


def test_dice_loss_is_averaged_over_images_and_not_over_their_pixels() -> None:
    first = mask_logits([[0.5, 0.5], [0.25, 0.75]])
    second = mask_logits([[0.5, 0.5], [0.5, 0.5]])
    full = torch.ones(1, 1, 2, 2)
    both = dice_loss(torch.cat([first, second]), torch.cat([TRUTH, full]))
    assert both.item() == pytest.approx((1 / 2 + (1 - 5 / 7)) / 2)


def test_dice_bce_is_equation_11() -> None:
    logits = mask_logits([[0.5, 0.5], [0.25, 0.75]])
    expected = 1 / 2 + (LN2 + LN2 + math.log(4 / 3) + LN4) / 4
    assert dice_bce(logits, TRUTH).item() == pytest.approx(expected)


def test_mask_focal_is_equation_4_per_pixel() -> None:
    logits = mask_logits([[0.5, 0.5], [0.25, 0.75]])
    expected = (
        0.75 * 0.5**1.25 * LN2
        + 0.25 * (0.5**1.25 * LN2 + 0.25**1.25 * math.log(4 / 3) + 0.75**1.25 * LN4)
    ) / 4
    assert mask_focal(logits, TRUTH).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *MASK_LOSSES])
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_saturated_networks_have_finite_losses_and_gradients(loss: Loss, size: float) -> None:
    if loss in CLASS_LOSSES:
        logits = torch.tensor([[size, -size], [-size, size]] * 2, requires_grad=True)
        value = loss(logits, torch.tensor([0, 1, 1, 0]))
    else:
        logits = torch.tensor([size, -size, size, -size]).view(1, 1, 2, 2).requires_grad_()
        value = loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_mask_losses_are_computed_in_float32(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 64, 64, generator=generator).bfloat16()
    masks = (torch.rand(2, 1, 64, 64, generator=generator) > 0.5).bfloat16()
    value = loss(logits, masks)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.float(), masks.float()).item(), rel=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_class_losses_are_computed_in_float32(loss: Loss) -> None:
    assert loss(class_logits(0.3).bfloat16(), torch.tensor([1])).dtype == torch.float32


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_masks_of_another_shape_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\) and masks \(2, 4, 4\) differ"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8), st.booleans()), min_size=1, max_size=16))
def test_mask_losses_lie_in_their_range(pixels: list[tuple[float, bool]]) -> None:
    logits = torch.tensor([p[0] for p in pixels]).view(1, 1, 1, -1)
    masks = torch.tensor([float(p[1]) for p in pixels]).view(1, 1, 1, -1)
    assert -1e-6 <= dice_loss(logits, masks).item() <= 1
    cross = binary_cross_entropy(logits, masks).item()
    assert 0 <= mask_focal(logits, masks).item() <= 0.75 * cross + 1e-6
