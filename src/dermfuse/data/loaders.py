"""Images are decoded once, live on the training device, and are augmented there in batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.pairs import match_same_class, pairing_method
from dermfuse.data.pixels import PlanTensors, hide_, recolour_, spoil_, turn, warp_
from dermfuse.errors import ImageError
from dermfuse.masks import read_mask
from dermfuse.preprocess import (
    letterbox,
    letterbox_mask,
    letterbox_probability,
    read_image,
    resize_letterboxed,
    resize_probability,
    squeeze,
    squeeze_mask,
)

Fit = Literal["squeeze", "letterbox"]
"""How a frame becomes the square that the network sees; ``data.fit``."""


@dataclass(frozen=True, slots=True)
class ImageCache:
    """Decoded images of one set, squeezed to the square the network sees.

    Attributes:
        images: (N, 3, S, S) uint8, RGB.
        masks: (N, 1, S, S) uint8 of 0 and 1, or None where only classes are learnt.
        aspects: Width beside height of the frames before they were squeezed, (N,) float32; 1 for
            all if left out.
        taught: What teachers say of the masks, (N, 1, S, S) uint8 of 0 to 255; None without any.
    """

    images: Tensor
    masks: Tensor | None
    aspects: Tensor = field(default_factory=lambda: torch.ones(1))
    taught: Tensor | None = None

    def to(self, device: torch.device) -> Self:
        """Returns the cache on another device; the aspects stay where the plan is."""
        masks, taught = (
            None if maps is None else maps.to(device) for maps in (self.masks, self.taught)
        )
        return type(self)(self.images.to(device), masks, self.aspects, taught)


def load_cache(
    lesions: Sequence[Lesion],
    size: int,
    *,
    masks: bool = False,
    fit: Fit = "squeeze",
    progress: Callable[[int, int], None] | None = None,
) -> ImageCache:
    """Returns the images (and masks) of ``lesions``, decoded once.

    Args:
        lesions: What to load; with ``masks`` each has a mask.
        size: Side of the square, in pixels.
        masks: Whether the masks are loaded too.
        fit: How a frame becomes a square (``data.fit``).
        progress: Called with (done, all).

    Raises:
        ImageError: For a file that cannot be read, or a mask of another size than its image.
    """

    def load(lesion: Lesion) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, float]:
        image = read_image(lesion.image_path)
        height, width = image.shape[:2]
        mask = _load_mask(lesion, (height, width)) if masks else None
        square, truth = fit_square(image, size, fit), fit_mask(mask, size, fit)
        return square.transpose(2, 0, 1), truth, width / height if fit == "squeeze" else 1.0

    images = np.empty((len(lesions), 3, size, size), np.uint8)
    truth = np.empty((len(lesions), 1, size, size), np.uint8) if masks else None
    aspects = np.ones(len(lesions), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, (image, mask, aspect) in enumerate(pool.map(load, lesions)):
            images[index], aspects[index] = image, aspect
            if truth is not None and mask is not None:
                truth[index, 0] = mask
            if progress:
                progress(index + 1, len(lesions))
    return ImageCache(
        torch.from_numpy(images),
        None if truth is None else torch.from_numpy(truth),
        torch.from_numpy(aspects),
    )


def fit_square(image: NDArray[np.uint8], size: int, fit: Fit) -> NDArray[np.uint8]:
    """Returns a frame (H, W, 3) as the network sees it, (S, S, 3)."""
    return squeeze(image, size) if fit == "squeeze" else letterbox(image, size)


def fit_mask(mask: NDArray[np.bool_] | None, size: int, fit: Fit) -> NDArray[np.uint8] | None:
    """Returns a mask (H, W) as its image is fitted, (S, S) of 0 and 1; None for none."""
    if mask is None:
        return None
    fitted = squeeze_mask(mask, size) if fit == "squeeze" else letterbox_mask(mask, size)
    return fitted.astype(np.uint8)


def fit_probability(probability: NDArray[np.float32], size: int, fit: Fit) -> NDArray[np.float32]:
    """Returns a map (H, W) as its image is fitted, (S, S)."""
    if fit == "squeeze":
        return resize_probability(probability, size, size)
    return letterbox_probability(probability, size)


def fit_back(
    probability: NDArray[np.float32], height: int, width: int, fit: Fit
) -> NDArray[np.float32]:
    """Returns a map (S, S) at the frame's own size, (H, W)."""
    if fit == "squeeze":
        return resize_probability(probability, height, width)
    return resize_letterboxed(probability, height, width)


def _load_mask(lesion: Lesion, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if lesion.mask_path is None:
        raise ImageError(f"{lesion.image_id} has no mask", expected="a mask for every image")
    mask = read_mask(lesion.mask_path)
    if mask.shape != shape:
        raise ImageError(
            f"{lesion.mask_path} is {mask.shape[1]} x {mask.shape[0]} px",
            expected=f"its image's size, {shape[1]} x {shape[0]} px",
            action="Repair or remove the mask",
        )
    return mask


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Turns rows of a plan into augmented samples.

    Attributes:
        cache: The decoded images.
        plan: The plan over them, on the CPU: a few numbers per sample.
    """

    cache: ImageCache
    plan: PlanTensors

    def images(self, rows: Tensor) -> Tensor:
        """Returns the images of ``rows``, (B, 3, S, S) float32 in [0, 1]."""
        plan = self.plan[rows]
        turned = turn(self.cache.images[plan.source.to(self.cache.images.device)], plan)
        # Pixels are augmented in float32 whatever the network computes in.
        with torch.autocast(turned.device.type, enabled=False):
            moved = warp_(turned.float().div_(255), plan, self._aspects(plan))
            return hide_(spoil_(recolour_(moved, plan), plan), plan)

    def masks(self, rows: Tensor) -> Tensor:
        """Returns the masks of ``rows``, (B, 1, S, S) float32 of 0 and 1."""
        return (self._moved(self.cache.masks, rows) >= 0.5).float()

    def mask_targets(self, rows: Tensor, *, distillation: float) -> Tensor:
        """Returns what a mask network learns for ``rows``, (B, 1, S, S) float32 in [0, 1].

        It is the mask or, where teachers have a say, its mean with theirs.

        Args:
            rows: Of the plan.
            distillation: Weight of the teachers.
        """
        masks = self.masks(rows)
        if self.cache.taught is None:
            return masks
        return masks.lerp(self._moved(self.cache.taught, rows) / 255, distillation)

    def _moved(self, maps: Tensor | None, rows: Tensor) -> Tensor:
        """Returns maps (B, 1, S, S) moved as the images of ``rows`` are."""
        if maps is None:
            raise ValueError("the cache holds no masks")
        plan = self.plan[rows]
        turned = turn(maps[plan.source.to(maps.device)], plan)
        with torch.autocast(maps.device.type, enabled=False):
            return warp_(turned.float(), plan, self._aspects(plan))

    def _aspects(self, plan: PlanTensors) -> Tensor:
        aspects = self.cache.aspects
        return aspects.expand(len(plan.source)) if len(aspects) == 1 else aspects[plan.source]


@dataclass(frozen=True, slots=True)
class PairRows:
    """The plan rows of one batch of pairs.

    Attributes:
        a: Rows of stream a, (B,) int64.
        b: Rows of stream b, (B,) int64.
        partner: For Method 1, the permutation with ``b = a[partner]``: stream b holds stream a's
            samples, so each image passes through the backbone once. None for Method 2.
    """

    a: Tensor
    b: Tensor
    partner: Tensor | None


def epoch_batches(
    rows: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Returns ``rows`` shuffled and cut into batches of nearly equal size.

    No row is lost and no batch is much smaller than another, which BatchNorm would not bear.
    """
    return np.array_split(rng.permutation(rows), max(1, -(-len(rows) // batch_size)))


def single_schedule(
    rows: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
) -> list[Tensor]:
    """Returns the batches of one epoch; they depend on seed and epoch alone."""
    rng = np.random.default_rng([seed, epoch, 1])
    return [torch.from_numpy(batch) for batch in epoch_batches(rows, batch_size, rng)]


def pair_schedule(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
) -> Iterator[PairRows]:
    """Yields the pairs of one epoch, Methods 1 and 2 alternated 1 : 4 over the iterations.

    Args:
        rows: The plan rows to train on.
        labels: Labels of all rows of the plan.
        batch_size: Pairs per batch.
        seed: Of the run.
        epoch: From 0.

    Paper:
        Section III-A-1, Methods 1 and 2.
    """
    rng = np.random.default_rng([seed, epoch, 2])
    batches_a = epoch_batches(rows, batch_size, rng)
    batches_b = epoch_batches(rows, batch_size, rng)
    first = epoch * len(batches_a)
    for iteration, (a, b) in enumerate(zip(batches_a, batches_b, strict=True), start=first):
        if pairing_method(iteration) == 1:
            partner = match_same_class(labels[a])
            rows_a, rows_b = torch.from_numpy(a), torch.from_numpy(a[partner])
            yield PairRows(rows_a, rows_b, torch.from_numpy(partner))
        else:
            yield PairRows(torch.from_numpy(a), torch.from_numpy(b), None)
