"""Disturbances of a dermoscopy image, mild to strong, each drawn from a seed.

The lesion stays what it is, so score and mask should stay too; what they move is error. Seven are
the other orientations of the whole file: a dermatoscope has no up and no down. One is a control:
where the lesion is removed, the score should fall and the mask should be empty.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermfuse.data.synthetic.fields import make_frame
from dermfuse.data.synthetic.interference import Interference, paint_interference
from dermfuse.looks import SYMMETRIES

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
Mask = NDArray[np.bool_]
"""Lesion, (H, W)."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One way to disturb an image.

    Args:
        name: Of it, with its strength.
        kind: What it is of; the strengths of a kind share it.
        apply: From the image, its lesion and a generator to the disturbed image.
        restore: From a mask of the disturbed image to the same mask of the image itself.
        removes_lesion: Whether it is the control without a lesion.
    """

    name: str
    kind: str
    apply: Callable[[Pixels, Mask, np.random.Generator], Pixels]
    restore: Callable[[Mask], Mask] = lambda mask: mask
    removes_lesion: bool = False


ORIENTATION = "orientation"
"""The kind of the seven that turn or mirror an image; the image as it is would be the eighth."""


def disturbances() -> Mapping[str, Disturbance]:
    """Returns all of them by name, kind by kind, mild before strong."""
    listed = [
        *(_drawn(kind.value.replace("_", " "), kind) for kind in _DRAWN),
        *(_blurred(share) for share in (0.004, 0.008, 0.016)),
        *(_compressed(quality) for quality in (50, 20, 8)),
        *(_brightened(factor) for factor in (0.6, 0.8, 1.2, 1.4)),
        *(_tinted(name, gains) for name, gains in _TINTS.items()),
        *(_oriented(mirror=mirror, turns=turns) for mirror, turns in SYMMETRIES[1:]),
        Disturbance("lesion removed", "control", remove_lesion, removes_lesion=True),
    ]
    return MappingProxyType({one.name: one for one in listed})


def remove_lesion(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """Returns the image with skin in place of the lesion, grown by a margin.

    The hole is filled from its rim inwards, coarse to fine: each level of an image pyramid takes
    what is missing from the level below. The grain of the skin around is laid over it.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W); without one the image stays as it is, and where the lesion fills
            the frame nothing is left to fill from.
        rng: Of the grain.
    """
    hole = _grown(mask, margin=max(2, round(0.03 * min(mask.shape))))
    if not hole.any() or hole.all():
        return image.copy()
    pixels = image.astype(np.float32)
    filled = _fill(pixels, ~hole)
    skin = pixels[~hole]
    grain = skin.std(axis=0).mean() * 0.25
    noise = rng.normal(0, grain, mask.shape).astype(np.float32)[:, :, None]
    soft = _softened(hole)[:, :, None]
    return _to_pixels(pixels * (1 - soft) + (filled + noise) * soft)


_DRAWN = (
    Interference.HAIR,
    Interference.INK,
    Interference.RULER,
    Interference.GEL_BUBBLES,
    Interference.DARK_CORNERS,
)
_TINTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"reddish": (1.12, 0.97, 0.92), "bluish": (0.92, 0.98, 1.12), "yellowish": (1.06, 1.02, 0.84)}
)


def _drawn(name: str, interference: Interference) -> Disturbance:
    def apply(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        height, width = mask.shape
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        planes /= np.float32(255)
        paint_interference(rng, make_frame((width, height)), planes, mask, interference)
        return _to_pixels(planes.transpose(1, 2, 0) * np.float32(255))

    return Disturbance(name, name, apply)


def _blurred(share: float) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        radius = share * min(image.shape[:2])
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))

    return Disturbance(f"blur, {100 * share:.1f} % of the short side", "blur", apply)


def _compressed(quality: int) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
        return np.array(Image.open(buffer).convert("RGB"))

    return Disturbance(f"JPEG, quality {quality}", "JPEG", apply)


def _brightened(factor: float) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return _to_pixels(image.astype(np.float32) * np.float32(factor))

    return Disturbance(f"brightness x {factor:g}", "brightness", apply)


def _tinted(name: str, gains: tuple[float, float, float]) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return _to_pixels(image.astype(np.float32) * np.array(gains, dtype=np.float32))

    return Disturbance(f"colour cast, {name}", "colour cast", apply)


def _oriented(*, mirror: bool, turns: int) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirror else image, turns))

    def restore(mask: Mask) -> Mask:
        back = np.rot90(mask, -turns)
        return back[:, ::-1] if mirror else back

    steps = ["mirroring"] * mirror + [f"rotation by {90 * turns} degrees"] * (turns > 0)
    return Disturbance(" and ".join(steps), ORIENTATION, apply, restore)


def _to_pixels(values: NDArray[np.float32]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(rounded)


def _grown(mask: Mask, *, margin: int) -> Mask:
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.filter(ImageFilter.MaxFilter(2 * margin + 1))) > 127


def _softened(hole: Mask) -> NDArray[np.float32]:
    """Returns the hole with a soft rim, in [0, 1]: no edge may be left to outline."""
    radius = max(1.0, 0.01 * min(hole.shape))
    grey = Image.fromarray(hole.view(np.uint8) * np.uint8(255))
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
    return np.asarray(np.maximum(soft, hole), dtype=np.float32)


def _fill(pixels: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """Returns pixels with the unknown ones filled, smoothly, from the known around them."""
    height, width = known.shape
    if known.all() or min(height, width) <= 1:
        return pixels
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = _shrunk(known.astype(np.float32), half)
    colour = np.stack([_shrunk(pixels[..., c] * known, half) for c in range(3)], axis=-1)
    there = weight > 1e-3
    colour = np.where(there[..., None], colour / np.maximum(weight, 1e-3)[..., None], 0)
    coarse = _fill(colour.astype(np.float32), there)
    fine = np.stack([_stretched(coarse[..., c], (width, height)) for c in range(3)], axis=-1)
    return np.where(known[..., None], pixels, fine)


def _shrunk(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))


def _stretched(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    contiguous = np.ascontiguousarray(plane)
    return np.asarray(Image.fromarray(contiguous).resize(size, Image.Resampling.BILINEAR))
