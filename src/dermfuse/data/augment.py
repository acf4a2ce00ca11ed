"""The augmentation plan: a seeded table of transforms, made once before training.

The paper augments 900 images to 4,430 (classification) and 6,900 (segmentation) by rotation,
mirroring, centre crop, brightness and occlusion, before training (section III-A-1). Here that
set is a table of (source image, transform, parameters); ``dermfuse.data.loaders`` applies a row
whenever it is trained on, so nothing is copied to disk.

Every image draws from a generator of its own, seeded by the run's seed and the image's id: an
image that is missing changes no other image's rows. ``augment.fresh`` draws the transforms of
every epoch anew, which is not in the paper; a row then keeps its source image and its label.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import AugmentConfig
from dermfuse.scores import Label

_DIHEDRAL = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """One row per training sample, applied in the order of the columns.

    Attributes:
        source: Index of the source image, (n,) int64.
        mirror: Whether the image is flipped left to right, (n,) bool.
        rotation: Quarter turns counter-clockwise, 0 to 3, (n,) int64.
        crop: Side of the centre crop as a fraction of the frame, 1 is the whole, (n,) float32.
        brightness: Factor on every pixel, 1 leaves it, (n,) float32.
        occlusion: Box of black pixels: top, left, height, width as fractions of the frame;
            zeros are none, (n, 4) float32. It hides pixels, not truth: the mask is left alone.
    """

    source: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    rotation: NDArray[np.int64]
    crop: NDArray[np.float32]
    brightness: NDArray[np.float32]
    occlusion: NDArray[np.float32]

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.source)

    @property
    def original(self) -> NDArray[np.bool_]:
        """Which rows are the source image itself, (n,) bool."""
        moved = self.mirror | (self.rotation > 0) | (self.crop < 1)
        return np.asarray(~(moved | (self.brightness != 1) | (self.occlusion[:, 2] > 0)))

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Returns the plan of some rows, by index or by mask."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def replace_rows(self, rows: NDArray[np.int64], other: Self) -> Self:
        """Returns this plan with ``rows`` as in ``other``, a plan over the same samples."""
        columns = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, column in columns.items():
            column[rows] = getattr(other, name)[rows]
        return type(self)(**columns)


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
        seed: Of the run.
        epoch: Which the transforms are drawn for; 0 draws the plan that is made once.

    Paper:
        900 -> 4,430. Our reading: 727 x 3 + 173 x 13 = 2,181 + 2,249 = 4,430 exactly.
    """
    copies = {Label.BENIGN: config.benign_copies, Label.MALIGNANT: config.malignant_copies}
    draws = [copies[label] - 1 for label in labels]
    return _plan(image_ids, draws, config, seed=seed, epoch=epoch)


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
    tables = [
        np.concatenate(
            [_unchanged(1), _draw(count, config, _generator(seed, image_id, "draw", epoch))]
        )
        for image_id, count in zip(image_ids, draws, strict=True)
    ]
    return _gather(tables, np.repeat(np.arange(len(image_ids)), np.asarray(draws) + 1))


def _draw(count: int, config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns ``count`` transforms of one image, (count, 8).

    The orientation runs through the other seven of the square before one comes back; crop,
    brightness and occlusion are each applied to half of the draws.
    """
    table = _unchanged(count)
    turns = [1 + rng.permutation(_DIHEDRAL - 1) for _ in range(-(-count // (_DIHEDRAL - 1)))]
    orientation = np.concatenate([*turns, np.empty(0, np.int64)])[:count]
    cropped, lit, occluded = rng.random((3, count)) < 0.5
    crop = rng.uniform(config.minimum_crop, 1, count)
    brightness = rng.uniform(1 - config.brightness, 1 + config.brightness, count)
    sides = rng.uniform(0.4, 1, (2, count)) * config.maximum_occlusion
    corner = rng.random((2, count)) * (1 - sides)
    table[:, 0], table[:, 1] = np.divmod(orientation, 4)
    table[:, 2] = np.where(cropped, crop, 1)
    table[:, 3] = np.where(lit, brightness, 1)
    table[:, 4:] = np.where(occluded, np.concatenate([corner, sides]), 0).T
    return table


def _unchanged(count: int) -> NDArray[np.float64]:
    return np.tile([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], (count, 1))


def _gather(tables: Sequence[NDArray[np.float64]], source: NDArray[np.int64]) -> Plan:
    table = np.concatenate(tables)
    return Plan(
        source=source.astype(np.int64),
        mirror=table[:, 0] > 0,
        rotation=table[:, 1].astype(np.int64),
        crop=table[:, 2].astype(np.float32),
        brightness=table[:, 3].astype(np.float32),
        occlusion=table[:, 4:].astype(np.float32),
    )


def _generator(seed: int, image_id: str, purpose: str, epoch: int = 0) -> np.random.Generator:
    of_epoch = [epoch] if epoch else []
    return np.random.default_rng([seed, zlib.crc32(f"{purpose}:{image_id}".encode()), *of_epoch])
