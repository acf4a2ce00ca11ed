"""The augmentation plan, a seeded table of transforms, and the pairs of the discriminant network.

The paper augments 900 images to 4,430 (classification) and 6,900 (segmentation) by rotation,
mirroring, centre crop, brightness and occlusion, before training (section III-A-1). Here that
set is a table of (source image, transform, parameters), one row per training sample;
``dermfuse.data.loaders`` applies a row whenever it is trained on, so nothing is copied to disk.

**The paper's plan tells the label.** Every image stands in it once as it is. With 3 copies of a
benign and 13 of a malignant image, an untouched row is malignant in 19 of 100 cases and a
transformed one in 59, and a network can learn "transformed: malignant". ``policy = "label_blind"``
draws every row of every epoch from one distribution for both classes, in which the identity is
one draw among others; how often an image is drawn is all that balances the classes.

Every image draws from a generator of its own, seeded by the run's seed and the image's id: an
image that is missing changes no other image's rows. ``augment.fresh`` draws the paper's transforms
anew in every epoch; the originals stay, and so does what they tell.

A training step of the discriminant network sees two streams of images, a and b. Stream a is a
shuffled batch. Stream b is the same batch permuted so that nearly all pairs are same-class pairs
(Method 1), or a second, independently shuffled batch, which holds more different-class pairs
(Method 2). They alternate 1 : 4 over the iterations.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import AugmentConfig
from dermfuse.data.isic2016 import Label

_DIHEDRAL = 8
# How often a label-blind draw moves or recolours, and how often it degrades or hides.
_OFTEN, _SELDOM = 0.5, 0.25
# The value of each column that leaves the image as it is.
_NEUTRAL: Mapping[str, float] = (
    dict.fromkeys(("mirror", "rotation", "angle", "shift", "blur", "hue", "noise", "occlusion"), 0)
    | dict.fromkeys(("crop", "stretch", "resolution", "brightness", "contrast", "saturation"), 1)
    | {"quality": 100}
)

_Column = NDArray[np.float64] | NDArray[np.int64]
_Table = dict[str, Any]  # columns of a plan by name, as they are drawn

Labels = NDArray[np.integer[Any]]
"""Class labels of a batch, 0 benign / 1 malignant."""

CYCLE = 5
"""Iterations in one round of the alternation: one of Method 1, four of Method 2."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One row per training sample, applied in the order of the columns.

    Attributes:
        source: Index of the source image, (n,) int64.
        mirror: Whether the image is flipped left to right, (n,) bool.
        rotation: Quarter turns counter-clockwise, 0 to 3, (n,) int64.
        crop: Side of the centred window as a fraction of the frame, (n,) float32; 1 is the whole,
            and above 1 the image is reflected at its border.
        angle: Degrees counter-clockwise about the centre, in the frame's true aspect, (n,) float32.
        stretch: Width of the window beside its height, 1 leaves it, (n,) float32.
        shift: By which the window moves, down and right, as fractions of the frame, (n, 2) float32.
        resolution: By which the image is reduced and enlarged again, 1 leaves it, (n,) float32.
        blur: Standard deviation of a Gaussian, as a fraction of the side, (n,) float32.
        brightness: Factor on every pixel, 1 leaves it, (n,) float32.
        contrast: Factor on the distance from the image's mean grey, (n,) float32.
        saturation: Factor on the distance from grey, (n,) float32.
        hue: Turn of the colours as a fraction of the circle, (n,) float32.
        noise: Standard deviation of Gaussian noise, images in [0, 1], (n,) float32; the noise
            itself is drawn whenever the row is trained on.
        quality: JPEG quality that the quantisation imitates, 1 to 99; 100 is none, (n,) float32.
        occlusion: Box of black pixels: top, left, height, width as fractions of the frame;
            zeros are none, (n, 4) float32. It hides pixels, not truth: the mask is left alone.
    """

    source: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    rotation: NDArray[np.int64]
    crop: NDArray[np.float32]
    angle: NDArray[np.float32]
    stretch: NDArray[np.float32]
    shift: NDArray[np.float32]
    resolution: NDArray[np.float32]
    blur: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    saturation: NDArray[np.float32]
    hue: NDArray[np.float32]
    noise: NDArray[np.float32]
    quality: NDArray[np.float32]
    occlusion: NDArray[np.float32]

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.source)

    @property
    def original(self) -> NDArray[np.bool_]:
        """Which rows are the source image itself, (n,) bool."""
        differs = np.zeros(len(self), bool)
        for name, neutral in _NEUTRAL.items():
            column = np.asarray(getattr(self, name)).reshape(len(self), -1)
            differs |= (column != neutral).any(axis=1)
        return ~differs

    def _columns(self) -> list[NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Returns the plan of some rows, by index or by mask."""
        return type(self)(*(column[rows] for column in self._columns()))

    def joined(self, other: Self) -> Self:
        """Returns the rows of this plan and, after them, those of ``other``."""
        return type(self)(*map(np.concatenate, zip(self._columns(), other._columns(), strict=True)))

    def replace_rows(self, rows: NDArray[np.int64], other: Self) -> Self:
        """Returns this plan with ``rows`` as in ``other``, a plan over the same samples."""
        columns = [column.copy() for column in self._columns()]
        for column, fresh in zip(columns, other._columns(), strict=True):
            column[rows] = fresh[rows]
        return type(self)(*columns)


def originals(count: int) -> Plan:
    """Returns the plan that shows every image once, as it is."""
    return _gather([_unchanged(count)], np.arange(count))


def classification_plan(
    image_ids: Sequence[str],
    labels: Sequence[Label],
    config: AugmentConfig,
    *,
    seed: int,
    epoch: int = 0,
) -> Plan:
    """Returns the balanced plan: 3 samples per benign and 13 per malignant image.

    Args:
        image_ids: The source images.
        labels: Their labels, in the same order.
        config: Copies and strengths.
        seed: The run's seed.
        epoch: Which the transforms are drawn for; 0 draws the plan that is made once.

    Paper:
        900 -> 4,430. Our reading: 727 x 3 + 173 x 13 = 2,181 + 2,249 = 4,430 exactly.
    """
    copies = {Label.BENIGN: config.benign_copies, Label.MALIGNANT: config.malignant_copies}
    draws = [copies[label] - 1 for label in labels]
    return _plan(image_ids, draws, config, seed=seed, epoch=epoch)


def hold_out(plan: Plan, held_out: NDArray[np.bool_]) -> Plan:
    """Returns a plan in which images that are validated on stand once, as they are.

    Args:
        plan: Every row of it may be a draw.
        held_out: Which source images are validated on, (images,) bool.
    """
    chosen = held_out[plan.source]
    shown = originals(len(held_out)).select(held_out)
    return plan.select(~chosen).joined(shown)


def segmentation_plan(
    image_ids: Sequence[str], config: AugmentConfig, *, seed: int, epoch: int = 0
) -> Plan:
    """Returns every original plus ``segmentation_draws`` draws spread evenly over the images.

    Where the draws do not divide evenly, the images that get one more are chosen by the seed;
    they are the same in every epoch.

    Paper:
        900 -> 6,900.
    """
    if not image_ids:
        return originals(0)
    each, rest = divmod(config.segmentation_draws, len(image_ids))
    lot = np.array([_generator(seed, image_id, "lot").random() for image_id in image_ids])
    favoured = set(np.argsort(lot, kind="stable")[:rest].tolist())
    draws = [each + (index in favoured) for index in range(len(image_ids))]
    return _plan(image_ids, draws, config, seed=seed, epoch=epoch)


def match_same_class(labels: Labels) -> NDArray[np.int64]:
    """Returns the permutation that turns stream a into stream b by Method 1.

    The labels are walked from first to last; indices of equal label are matched two by
    two and swap places. What is left of the two classes is matched across them; an index
    left alone keeps its place.

    Args:
        labels: Those of the shuffled batch, (N,), 0 benign or 1 malignant.

    Returns:
        ``partner`` (N,), an involution: image i is paired with image ``partner[i]``, and
        ``partner[partner[i]] == i``. At most one matched pair has unequal labels.

    Raises:
        ValueError: If labels are not a vector of 0 and 1.

    Paper:
        Section III-B-2, Method 1. The paper leaves open what becomes of an odd count.

    Example:
        >>> match_same_class(np.array([0, 1, 0, 0, 1, 1])).tolist()
        [2, 4, 0, 5, 1, 3]
    """
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ValueError("labels are not a vector of 0 (benign) and 1 (malignant)")
    partner = np.arange(len(labels), dtype=np.int64)
    left: list[int] = []
    for label in (0, 1):
        indices = np.flatnonzero(labels == label)
        pairs = indices[: len(indices) // 2 * 2].reshape(-1, 2)  # (pairs, 2)
        partner[pairs] = pairs[:, ::-1]
        left += indices[pairs.size :].tolist()
    partner[left] = left[::-1]
    return partner


def pairing_method(iteration: int) -> Literal[1, 2]:
    """Returns which method makes the pairs of an iteration: 1, 2, 2, 2, 2, 1, 2, ...

    Args:
        iteration: The training's iteration, counted from 0 and not restarted by an epoch.

    Paper:
        Section III-B-2: "used at a frequency of 1: 4".
    """
    return 1 if iteration % CYCLE == 0 else 2


def _plan(
    image_ids: Sequence[str],
    draws: Sequence[int],
    config: AugmentConfig,
    *,
    seed: int,
    epoch: int,
) -> Plan:
    if not config.enabled or not image_ids:
        return originals(len(image_ids))
    rows_of = _blind_rows if config.policy == "label_blind" else _paper_rows
    tables = [
        rows_of(count + 1, config, _generator(seed, image_id, "draw", epoch))
        for image_id, count in zip(image_ids, draws, strict=True)
    ]
    return _gather(tables, np.repeat(np.arange(len(image_ids)), np.asarray(draws) + 1))


def _paper_rows(count: int, config: AugmentConfig, rng: np.random.Generator) -> _Table:
    """Returns an image as it is and ``count - 1`` transforms of it."""
    drawn = _draw(count - 1, config, rng)
    return {name: np.concatenate([first, drawn[name]]) for name, first in _unchanged(1).items()}


def _draw(count: int, config: AugmentConfig, rng: np.random.Generator) -> _Table:
    """Returns ``count`` of the paper's transforms of one image.

    The orientation runs through the other seven of the square before one comes back; crop,
    brightness and occlusion are each applied to half of the draws.
    """
    turns = [1 + rng.permutation(_DIHEDRAL - 1) for _ in range(-(-count // (_DIHEDRAL - 1)))]
    orientation = np.concatenate([*turns, np.empty(0, np.int64)])[:count]
    cropped, lit, occluded = rng.random((3, count)) < _OFTEN
    crop = rng.uniform(config.minimum_crop, 1, count)
    brightness = rng.uniform(1 - config.brightness, 1 + config.brightness, count)
    table = _unchanged(count)
    table["mirror"], table["rotation"] = np.divmod(orientation, 4)
    table["crop"] = np.where(cropped, crop, 1)
    table["brightness"] = np.where(lit, brightness, 1)
    table["occlusion"] = np.where(occluded[:, None], _boxes(count, config, rng), 0)
    return table


def _blind_rows(count: int, config: AugmentConfig, rng: np.random.Generator) -> _Table:
    """Returns ``count`` independent draws of one distribution, whatever the image is.

    Each transform is applied or not by a lot of its own: those that move or recolour to half of
    the draws, those that degrade or hide to a quarter. All eight orientations are equally likely.
    """

    def often(values: NDArray[np.float64], neutral: float, share: float = _OFTEN) -> _Column:
        applied = rng.random(count) < share
        return np.where(applied.reshape(-1, *[1] * (values.ndim - 1)), values, neutral)

    def around(one: float) -> NDArray[np.float64]:
        """Draws factors from 1 / (1 + one) to 1 + one, as often below 1 as above."""
        return np.asarray(np.exp(rng.uniform(-1, 1, count) * np.log1p(one)))

    def up_to(most: float) -> NDArray[np.float64]:
        return rng.uniform(0, most, count)

    window = np.exp(rng.uniform(np.log(config.minimum_crop), np.log(config.maximum_crop), count))
    table = _unchanged(count)
    table["mirror"], table["rotation"] = np.divmod(rng.integers(_DIHEDRAL, size=count), 4)
    table["crop"] = often(window, 1)
    table["angle"] = often(rng.uniform(-config.angle, config.angle, count), 0)
    table["stretch"] = often(around(config.stretch), 1)
    table["shift"] = often(rng.uniform(-config.shift, config.shift, (count, 2)), 0)
    table["resolution"] = often(rng.uniform(1, config.resolution, count), 1, _SELDOM)
    table["blur"] = often(up_to(config.blur), 0, _SELDOM)
    table["brightness"] = often(around(config.brightness), 1)
    table["contrast"] = often(around(config.contrast), 1)
    table["saturation"] = often(around(config.saturation), 1)
    table["hue"] = often(rng.uniform(-config.hue, config.hue, count), 0)
    table["noise"] = often(up_to(config.noise), 0, _SELDOM)
    table["quality"] = often(rng.uniform(config.minimum_quality, 100, count), 100, _SELDOM)
    rng.integers(2**31, size=count)  # was a column: what is drawn by a seed stays as it was
    table["occlusion"] = often(_boxes(count, config, rng), 0, _SELDOM)
    return table


def _boxes(count: int, config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns occluding boxes, (count, 4): top, left, height, width."""
    sides = rng.uniform(0.4, 1, (2, count)) * config.maximum_occlusion
    corner = rng.random((2, count)) * (1 - sides)
    return np.concatenate([corner, sides]).T


def _unchanged(count: int) -> _Table:
    widths = {"shift": (2,), "occlusion": (4,)}
    return {
        name: np.full((count, *widths.get(name, ())), float(neutral))
        for name, neutral in _NEUTRAL.items()
    }


def _gather(tables: Sequence[_Table], source: NDArray[np.int64]) -> Plan:
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    types: dict[str, type] = {"mirror": np.bool_, "rotation": np.int64}
    typed: dict[str, Any] = {
        name: column.astype(types.get(name, np.float32)) for name, column in columns.items()
    }
    return Plan(source=source.astype(np.int64), **typed)


def _generator(seed: int, image_id: str, purpose: str, epoch: int = 0) -> np.random.Generator:
    of_epoch = [epoch] if epoch else []
    return np.random.default_rng([seed, zlib.crc32(f"{purpose}:{image_id}".encode()), *of_epoch])
