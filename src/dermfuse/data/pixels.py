"""What a row of an augmentation plan does to pixels, in batches, on the device they are on.

``turn`` moves whole pixels; ``warp_`` is the one resampling; ``recolour_``, ``spoil_`` and
``hide_`` change values. Each leaves the rows alone that its columns leave alone.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dermfuse.data.augment import Plan

_GREY = (0.299, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""NTSC: brightness, and two axes of colour that a turn of the hue runs in."""
_BLOCK = 8
_LUMINANCE_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""ISO/IEC 10918-1, Table K.1."""


@dataclass(frozen=True, slots=True)
class PlanTensors:
    """A plan's columns as tensors; see ``dermfuse.data.augment.Plan``."""

    source: Tensor
    mirror: Tensor
    rotation: Tensor
    crop: Tensor
    angle: Tensor
    stretch: Tensor
    shift: Tensor
    resolution: Tensor
    blur: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    noise: Tensor
    quality: Tensor
    lot: Tensor
    occlusion: Tensor

    @classmethod
    def from_plan(cls, plan: Plan) -> Self:
        """Returns the tensors of ``plan``."""
        return cls(*(torch.from_numpy(getattr(plan, field.name).copy()) for field in fields(cls)))

    def __getitem__(self, rows: Tensor) -> Self:
        """Returns the columns at ``rows``."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def turn(x: Tensor, plan: PlanTensors) -> Tensor:
    """Returns ``x`` mirrored, then rotated, as ``plan`` says; whole pixels move, of any type.

    Shape:
        (B, C, S, S) -> (B, C, S, S)
    """
    turned = x.clone()
    for mirror in (False, True):
        for turns in range(4):
            chosen = ((plan.mirror == mirror) & (plan.rotation == turns)).nonzero()[:, 0]
            if len(chosen) and (mirror or turns):
                chosen = chosen.to(x.device)
                part = x[chosen].flip(-1) if mirror else x[chosen]
                turned[chosen] = part.rot90(turns, (-2, -1))
    return turned


def warp_(x: Tensor, plan: PlanTensors, aspects: Tensor) -> Tensor:
    """Crops, turns by any angle, stretches and shifts, in place, in one bilinear sampling.

    Whatever lies outside the frame is its reflection. The angle is one of the dermatoscope: it
    turns the scene in the frame's true aspect, and the frame is squeezed after that.

    Args:
        x: Squeezed frames, after ``turn``.
        plan: ``crop``, ``angle``, ``stretch`` and ``shift``.
        aspects: Width beside height of the frames as they were read, (B,).

    Shape:
        (B, C, S, S) float -> the same tensor
    """
    moved = (plan.crop != 1) | (plan.angle != 0) | (plan.stretch != 1)
    rows = (moved | (plan.shift != 0).any(dim=1)).nonzero()[:, 0]
    if not len(rows):
        return x
    theta = _window(plan, aspects)[rows].to(x)
    rows = rows.to(x.device)
    grid = F.affine_grid(theta, [len(rows), *x.shape[1:]], align_corners=False)
    x[rows] = F.grid_sample(
        x[rows], grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return x


def _window(plan: PlanTensors, aspects: Tensor) -> Tensor:
    """Returns the matrices (B, 2, 3) from a place in the result to the one it is taken from.

    Places are -1 to 1 along the squeezed frame. A quarter turn has laid the frame on its side.
    """
    aspect = torch.where(plan.rotation % 2 == 1, 1 / aspects, aspects)
    angle = plan.angle * (math.pi / 180)
    cosine, sine = angle.cos() * plan.crop, angle.sin() * plan.crop
    wide, high = plan.stretch.sqrt(), plan.stretch.rsqrt()
    down, right = (2 * plan.shift).unbind(dim=1)
    return torch.stack(
        [
            torch.stack([cosine * wide, -sine * high / aspect, right], dim=1),
            torch.stack([sine * wide * aspect, cosine * high, down], dim=1),
        ],
        dim=1,
    )


def recolour_(x: Tensor, plan: PlanTensors) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in place; values stay in [0, 1].

    They are one affine map of a pixel's colour for each row.

    Shape:
        (B, 3, S, S) float in [0, 1] -> the same tensor
    """
    beyond = (plan.contrast != 1) | (plan.saturation != 1) | (plan.hue != 0)
    plain = (~beyond).nonzero()[:, 0].to(x.device)
    if len(plain) == len(x):
        return x.mul_(plan.brightness.to(x.device).view(-1, 1, 1, 1)).clamp_(0, 1)
    grey = x.new_tensor(_GREY)
    factor = (plan.brightness * plan.contrast).to(x)
    mean = (x.mean(dim=(2, 3)) @ grey) * plan.brightness.to(x)  # (B,)
    offset = mean * (1 - plan.contrast.to(x))
    colours = _colour_matrix(plan).to(x) * factor.view(-1, 1, 1)  # (B, 3, 3)
    mixed = torch.einsum("bij,bjhw->bihw", colours, x).add_(offset.view(-1, 1, 1, 1))
    return x.copy_(mixed).clamp_(0, 1)


def _colour_matrix(plan: PlanTensors) -> Tensor:
    """Returns what saturation and hue do to a colour, (B, 3, 3); grey stays as it is."""
    to_yiq = torch.tensor(_TO_YIQ)
    turn_of_hue = 2 * math.pi * plan.hue
    cosine = turn_of_hue.cos() * plan.saturation
    sine = turn_of_hue.sin() * plan.saturation
    one, zero = torch.ones_like(cosine), torch.zeros_like(cosine)
    turned = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1)
    from_yiq: Tensor = torch.linalg.inv(to_yiq)
    return from_yiq @ turned.view(-1, 3, 3) @ to_yiq


def spoil_(x: Tensor, plan: PlanTensors) -> Tensor:
    """Takes resolution, blurs, compresses as JPEG does and adds noise, in place.

    Shape:
        (B, 3, S, S) float in [0, 1] -> the same tensor
    """
    size = x.shape[-1]
    for row in (plan.resolution > 1).nonzero()[:, 0].tolist():
        x[row] = _reduced(x[row : row + 1], round(size / float(plan.resolution[row])))[0]
    for row in (plan.blur > 0).nonzero()[:, 0].tolist():
        x[row] = _blurred(x[row : row + 1], float(plan.blur[row]) * size)[0]
    rows = (plan.quality < 100).nonzero()[:, 0]
    if len(rows):
        quality = plan.quality[rows].to(x)
        rows = rows.to(x.device)
        x[rows] = _compressed(x[rows], quality)
    for row in (plan.noise > 0).nonzero()[:, 0].tolist():
        generator = torch.Generator(x.device).manual_seed(int(plan.lot[row]))
        noise = torch.randn(x.shape[1:], generator=generator, device=x.device)
        x[row].add_(noise, alpha=float(plan.noise[row])).clamp_(0, 1)
    return x


def _reduced(x: Tensor, side: int) -> Tensor:
    size = x.shape[-2:]
    small = F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(small, size, mode="bilinear", align_corners=False)


def _blurred(x: Tensor, deviation: float) -> Tensor:
    """Returns ``x`` (1, C, H, W) under a Gaussian of so many pixels."""
    reach = min(math.ceil(3 * deviation), x.shape[-1] - 1)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = (-(at**2) / (2 * deviation**2)).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    padded = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    across = F.conv2d(padded, kernel, groups=x.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=x.shape[1])


def _compressed(x: Tensor, quality: Tensor) -> Tensor:
    """Returns ``x`` (B, 3, S, S), S a multiple of 8, as blocks of rounded cosines.

    Every channel of YIQ is quantised by the luminance table, scaled as libjpeg scales it: a
    loss like that of JPEG, not a codec.
    """
    to_yiq = x.new_tensor(_TO_YIQ)
    yiq = torch.einsum("ij,bjhw->bihw", to_yiq, x)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)  # (B,)
    steps = x.new_tensor(_LUMINANCE_TABLE) * scale.view(-1, 1, 1, 1, 1, 1) / 255
    steps = steps.clamp(min=1 / 255)
    side = x.shape[-1] // _BLOCK
    blocks = yiq.view(*x.shape[:2], side, _BLOCK, side, _BLOCK).transpose(3, 4)
    cosines = _cosines().to(x)
    spectrum = cosines @ blocks @ cosines.T  # (B, 3, S/8, S/8, 8, 8)
    rounded = (spectrum / steps).round() * steps
    back = (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(x.shape)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_yiq), back).clamp(0, 1)


def _cosines() -> Tensor:
    """Returns the orthonormal cosine transform of eight values, (8, 8)."""
    at = torch.arange(_BLOCK).float()
    waves = torch.cos(math.pi / _BLOCK * (at + 0.5) * at[:, None])
    waves[0] /= math.sqrt(2)
    return torch.mul(waves, math.sqrt(2 / _BLOCK))


def hide_(x: Tensor, plan: PlanTensors) -> Tensor:
    """Blacks out, in place, the boxes of ``plan``.

    Shape:
        (B, 3, S, S) float -> the same tensor
    """
    return x.masked_fill_(inside_boxes(plan.occlusion, like=x), 0)


def inside_boxes(boxes: Tensor, *, like: Tensor) -> Tensor:
    """Returns which pixels of squares lie in the box of each, (B, 1, S, S) bool.

    Args:
        boxes: Top, left, height, width as fractions of the frame, (B, 4).
        like: The squares (B, C, S, S): their size and device.
    """
    size = like.shape[-1]
    box = (boxes * size).round().to(like.device)  # top, left, height, width
    at = torch.arange(size, device=like.device)
    rows = (at >= box[:, :1]) & (at < box[:, :1] + box[:, 2:3])  # (B, S)
    columns = (at >= box[:, 1:2]) & (at < box[:, 1:2] + box[:, 3:])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
