"""The paper's losses, one pure function per equation.

Every function takes logits, not probabilities, and computes in float32 whatever it is
given: under bf16 autocast the products and sums of a mask would otherwise lose digits.
Logarithms are taken by log-softmax or log-sigmoid, so a saturated network stays finite.

    classification   cross_entropy (3), focal (4), discriminant_loss (3), total_loss (5)
    both at once     joint_loss
    segmentation     binary_cross_entropy (9), dice_loss (6 to 8, 10), dice_bce (11), mask_focal
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from dermfuse.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits and truth to a scalar."""


def choose_class_loss(config: LossConfig) -> Loss:
    """Returns the class loss a configuration names, its constants bound."""
    if config.class_loss == "cross_entropy":
        return cross_entropy
    return partial(focal, alpha=config.focal_alpha, gamma=config.focal_gamma)


def choose_mask_loss(config: LossConfig) -> Loss:
    """Returns the mask loss a configuration names, its constants bound."""
    if config.mask_loss == "dice_bce":
        return dice_bce
    return partial(mask_focal, alpha=config.mask_focal_alpha, gamma=config.mask_focal_gamma)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy of one class head.

    ``L = -y ln p - (1 - y) ln(1 - p)``, p the softmax probability of malignant.

    Shape:
        logits (B, 2), labels (B,) of 0 benign / 1 malignant, or in between -> ()

    Paper:
        Equation 3.
    """
    log_benign, log_malignant = F.log_softmax(logits.float(), dim=1).unbind(dim=1)  # (B,), (B,)
    y = labels.float()
    return -(y * log_malignant + (1 - y) * log_benign).mean()


def focal(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 0.75) -> Tensor:
    """Returns the mean focal loss of one class head.

    ``FL = -alpha (1 - p)^gamma y ln p - (1 - alpha) p^gamma (1 - y) ln(1 - p)``,
    p the softmax probability of malignant.

    Args:
        logits: Logits of the class head.
        labels: 0 benign, 1 malignant, or in between.
        alpha: Weight of the malignant term, in [0, 1]; the benign one weighs ``1 - alpha``.
        gamma: How strongly easy samples are damped; 0 leaves a weighted cross-entropy.

    Shape:
        logits (B, 2), labels (B,) -> ()

    Paper:
        Equation 4.
    """
    log_benign, log_malignant = F.log_softmax(logits.float(), dim=1).unbind(dim=1)  # (B,), (B,)
    return _focal_terms(log_malignant, log_benign, labels.float(), alpha, gamma).mean()


def discriminant_loss(logits: Tensor, same_class: Tensor) -> Tensor:
    """Returns the mean cross-entropy of "do the two images belong to the same class?".

    It stays a cross-entropy where the class heads use the focal loss.

    Shape:
        logits (B, 2) of (different, same), same_class (B,) of 0/1, bool, or in between -> ()

    Paper:
        Equation 3, on the discriminant branch.
    """
    return cross_entropy(logits, same_class)


def total_loss(
    class_loss_a: Tensor,
    class_loss_b: Tensor,
    discriminant: Tensor,
    *,
    weights: tuple[float, float, float] = (1.0, 1.0, 0.5),
) -> Tensor:
    """Returns ``A class_loss_a + B class_loss_b + C discriminant``.

    Args:
        class_loss_a: Cross-entropy or focal loss of stream a.
        class_loss_b: Cross-entropy or focal loss of stream b.
        discriminant: Discriminant loss of the pairs.
        weights: The paper's (A, B, C).

    Shape:
        (), (), () -> ()

    Paper:
        Equation 5.
    """
    a, b, c = weights
    return a * class_loss_a + b * class_loss_b + c * discriminant


def joint_loss(class_loss: Tensor, mask_loss: Tensor, *, class_weight: float = 1.0) -> Tensor:
    """Returns ``class_weight class_loss + mask_loss``, the loss of the joint network.

    Args:
        class_loss: Cross-entropy or focal loss of the class head.
        mask_loss: Loss of the masks.
        class_weight: Weight of the class loss.

    Shape:
        (), () -> ()

    Paper:
        None: the paper trains a network for each task.
    """
    return class_weight * class_loss + mask_loss


def binary_cross_entropy(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Returns the cross-entropy of a mask, mean over all pixels of the batch.

    ``L_cross = -1/(w h) sum(Y ln P + (1 - Y) ln(1 - P))``.

    Shape:
        (B, 1, H, W) logits, (B, 1, H, W) of 0/1 -> ()

    Paper:
        Equation 9.
    """
    _require_same_shape(mask_logits, masks)
    return F.binary_cross_entropy_with_logits(mask_logits.float(), masks.float())


def dice_loss(mask_logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Returns the Dice loss, computed per image, then averaged over the batch.

    ``L_dice = 1 - (2 sum(P Y) + e) / (sum(Y) + sum(P) + e)``.

    Args:
        mask_logits: Logits of the U-Net; P is their sigmoid.
        masks: Y, 1 on the lesion.
        smooth: e, in pixels; keeps an empty mask defined.

    Shape:
        (B, 1, H, W) logits, (B, 1, H, W) of 0/1 -> ()

    Paper:
        Equations 6 to 8 and 10.
    """
    _require_same_shape(mask_logits, masks)
    probability = mask_logits.float().sigmoid().flatten(1)  # (B, HW)
    truth = masks.float().flatten(1)  # (B, HW)
    overlap = (probability * truth).sum(dim=1)  # (B,)
    total = truth.sum(dim=1) + probability.sum(dim=1)  # (B,)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def dice_bce(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """Returns ``dice_loss + binary_cross_entropy``, the paper's choice for every U-Net.

    Shape:
        (B, 1, H, W) logits, (B, 1, H, W) of 0/1 -> ()

    Paper:
        Equation 11.
    """
    return dice_loss(mask_logits, masks) + binary_cross_entropy(mask_logits, masks)


def mask_focal(
    mask_logits: Tensor, masks: Tensor, *, alpha: float = 0.75, gamma: float = 1.25
) -> Tensor:
    """Returns the focal loss of a mask, mean over all pixels of the batch.

    ``FL = -alpha (1 - P)^gamma Y ln P - (1 - alpha) P^gamma (1 - Y) ln(1 - P)``.

    Args:
        mask_logits: Logits of the U-Net; P is their sigmoid.
        masks: Y, 1 on the lesion.
        alpha: Weight of lesion pixels, in [0, 1]; the others weigh ``1 - alpha``.
        gamma: How strongly easy pixels are damped.

    Shape:
        (B, 1, H, W) logits, (B, 1, H, W) of 0/1 -> ()

    Paper:
        Equation 4 per pixel, with the values of Table X.
    """
    _require_same_shape(mask_logits, masks)
    logits = mask_logits.float()
    log_lesion, log_skin = F.logsigmoid(logits), F.logsigmoid(-logits)
    return _focal_terms(log_lesion, log_skin, masks.float(), alpha, gamma).mean()


def _focal_terms(log_p: Tensor, log_q: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    """Returns equation 4 element by element, from ``ln p`` and ``ln(1 - p)``.

    ``(1 - p)^gamma`` is written ``exp(gamma ln(1 - p))``: the power itself has an infinite
    gradient at p = 1 for the paper's gamma below 1.
    """
    on_one = -alpha * (gamma * log_q).exp() * log_p
    on_zero = -(1 - alpha) * (gamma * log_p).exp() * log_q
    return y * on_one + (1 - y) * on_zero


def _require_same_shape(mask_logits: Tensor, masks: Tensor) -> None:
    """Raises ValueError where broadcasting would silently compare the wrong pixels."""
    if mask_logits.shape != masks.shape:
        raise ValueError(
            f"mask_logits {tuple(mask_logits.shape)} and masks {tuple(masks.shape)} differ in "
            "shape. Expected: (B, 1, H, W) both."
        )
