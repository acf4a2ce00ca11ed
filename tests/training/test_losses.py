import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dermfuse.config import LossConfig
from dermfuse.training import losses

Loss = Callable[[Tensor, Tensor], Tensor]

LN2, LN4, LN43 = math.log(2), math.log(4), math.log(4 / 3)
BCE = (LN2 + LN2 + LN43 + LN4) / 4
ON_LESION, ON_SKIN = 0.5**1.25 * LN2, 0.5**1.25 * LN2 + 0.25**1.25 * LN43 + 0.75**1.25 * LN4
CLASS_LOSSES = [losses.cross_entropy, losses.focal, losses.discriminant_loss]
MASK_LOSSES = [losses.binary_cross_entropy, losses.dice_loss, losses.dice_bce, losses.mask_focal]
UNDAMPED = LossConfig(
    class_loss="focal", focal_alpha=0.5, focal_gamma=0,
    mask_loss="focal", mask_focal_alpha=0.5, mask_focal_gamma=0,
)  # fmt: skip
TRUTH = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]
PREDICTED = torch.logit(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))[None, None]


@pytest.mark.parametrize(
    ("loss", "malignant", "labels", "expected"),
    [
        (losses.cross_entropy, [0.5], [1], LN2),
        (losses.cross_entropy, [0.25], [1], LN4),
        (losses.cross_entropy, [0.75], [0], LN4),
        (losses.cross_entropy, [0.75], [0.25], (LN43 + 3 * LN4) / 4),
        (losses.discriminant_loss, [0.5, 0.25], [True, True], (LN2 + LN4) / 2),
        (losses.focal, [0.25], [1], 0.25 * 0.75**0.75 * LN4),
        (losses.focal, [0.75], [0], 0.75 * 0.75**0.75 * LN4),
        (losses.focal, [0.5, 0.25], [1, 1], 0.25 * (0.5**0.75 * LN2 + 0.75**0.75 * LN4) / 2),
        (losses.choose_class_loss(UNDAMPED), [0.25], [1], LN4 / 2),
        (losses.choose_class_loss(LossConfig()), [0.25], [1], LN4),
    ],
)
def test_class_losses_are_equations_3_and_4(
    loss: Loss, malignant: list[float], labels: list[float], expected: float
) -> None:
    logits = torch.tensor([[0.0, math.log(p / (1 - p))] for p in malignant])
    assert loss(logits, torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.binary_cross_entropy, BCE),
        (losses.dice_loss, 1 - (2 * 0.5 + 1) / (1 + 2 + 1)),
        (losses.dice_bce, 1 / 2 + BCE),
        (losses.mask_focal, (0.75 * ON_LESION + 0.25 * ON_SKIN) / 4),
        (losses.choose_mask_loss(LossConfig()), 1 / 2 + BCE),
        (losses.choose_mask_loss(UNDAMPED), BCE / 2),
    ],
)
def test_mask_losses_are_equations_9_to_11_and_4_per_pixel(loss: Loss, expected: float) -> None:
    assert loss(PREDICTED, TRUTH).item() == pytest.approx(expected)


def test_dice_loss_is_averaged_over_images_and_is_0_for_an_empty_mask_that_is_found() -> None:
    halves, full = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    both = losses.dice_loss(torch.cat([PREDICTED, halves]), torch.cat([TRUTH, full]))
    assert both.item() == pytest.approx((1 / 2 + (1 - 5 / 7)) / 2)
    assert losses.dice_loss(PREDICTED, TRUTH, smooth=0.5).item() == pytest.approx(1 - 1.5 / 3.5)
    assert losses.dice_loss(halves - 100, halves).item() == pytest.approx(0, abs=1e-6)


def test_losses_of_several_answers_are_weighted_sums() -> None:
    a, b, c = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(8.0)
    assert losses.total_loss(a, b, c).item() == losses.total_loss(b, a, c).item() == 7.0
    assert losses.total_loss(a, b, c, weights=(2.0, 1.0, 0.25)).item() == 6.0
    assert (losses.joint_loss(b, c).item(), losses.joint_loss(b, c, class_weight=0.25).item()) == (
        10.0,
        8.5,
    )


@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *MASK_LOSSES])
def test_saturated_networks_have_finite_losses_and_gradients(loss: Loss) -> None:
    shape, size = ((4, 2), 4) if loss in CLASS_LOSSES else ((1, 1, 2, 4), 8)
    logits = torch.tensor([1e4, -1e4, -1e4, 1e4] * 2).view(shape).requires_grad_()
    truth = torch.tensor([0.0, 1.0, 1.0, 0.0] * 2)[:size]
    value = loss(logits, truth if size == 4 else truth.view(shape))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [*CLASS_LOSSES, *MASK_LOSSES])
def test_losses_are_computed_in_float32(loss: Loss) -> None:
    numbers = torch.Generator().manual_seed(0)
    shape = (64, 2) if loss in CLASS_LOSSES else (2, 1, 64, 64)
    logits = torch.randn(shape, generator=numbers).bfloat16()
    truth = torch.zeros(shape)[:, 0] if loss in CLASS_LOSSES else torch.zeros(shape)
    value = loss(logits, truth)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.float(), truth).item(), rel=1e-6)


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_masks_of_another_shape_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\) and masks \(2, 4, 4\) differ"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


@given(st.lists(st.tuples(st.floats(-8, 8), st.booleans()), min_size=1, max_size=16))
def test_mask_losses_lie_in_their_range(pixels: list[tuple[float, bool]]) -> None:
    logits, masks = (
        torch.tensor(each).float().view(1, 1, 1, -1) for each in zip(*pixels, strict=True)
    )
    assert -1e-6 <= losses.dice_loss(logits, masks).item() <= 1
    cross = losses.binary_cross_entropy(logits, masks).item()
    assert 0 <= losses.mask_focal(logits, masks).item() <= 0.75 * cross + 1e-6
