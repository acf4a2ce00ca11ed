"""Images are decoded once, live on the training device, and are augmented there in batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dermfuse.data.augment import Plan
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.pairs import match_same_class, pairing_method
from dermfuse.data.pixels import (
    Draws,
    PlanTable,
    effects_of,
    frame_of,
    hide_,
    recolour,
    spoil,
    warp,
)
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
    """Turns rows of a plan into augmented samples, on the device the images are on.

    Attributes:
        cache: The decoded images; its tensors are planes of ``planes``.
        planes: Images, masks and what teachers say of these, side by side, (N, 3 to 5, S, S) uint8.
        plan: The plan over them.
        table: The plan as numbers on the device.
    """

    cache: ImageCache
    planes: Tensor
    plan: Plan
    table: PlanTable

    @classmethod
    def from_plan(cls, cache: ImageCache, plan: Plan) -> Self:
        """Returns the source of a plan's samples, on the cache's device."""
        parts = [part for part in (cache.images, cache.masks, cache.taught) if part is not None]
        planes = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return cls(*_sides(cache, planes), plan, _table(cache, plan))

    def to(self, device: torch.device) -> Self:
        """Returns the source on another device."""
        planes, table = self.planes.to(device), self.table.to(device)
        frame_of(planes.shape[-1], planes.device)
        return type(self)(*_sides(self.cache, planes), self.plan, table)

    def redrawn(self, plan: Plan) -> Self:
        """Returns the source of another plan over the same images."""
        return replace(self, plan=plan, table=_table(self.cache, plan))

    def in_place_of(self, other: Self) -> Self:
        """Returns this source with its table in the memory of another's, where a graph looks."""
        other.table.source.copy_(self.table.source)
        other.table.numbers.copy_(self.table.numbers)
        return replace(self, table=replace(other.table, effects=self.table.effects))

    def narrowed(self, rows: NDArray[np.int64]) -> Self:
        """Returns the source for some rows alone: what none of them asks for is left out."""
        return replace(self, table=replace(self.table, effects=effects_of(self.plan, rows)))

    def images(self, rows: Tensor) -> Tensor:
        """Returns the images of ``rows``, (B, 3, S, S) float32 in [0, 1]."""
        with self._in_float32():
            draws = self.table[rows]
            return self._coloured(self._moved(self.planes[:, :3], rows, draws), draws)

    def masks(self, rows: Tensor) -> Tensor:
        """Returns the masks of ``rows``, (B, 1, S, S) float32 of 0 and 1."""
        return self._masks_of(self._moved_maps(rows), distillation=0)

    def images_and_masks(self, rows: Tensor, *, distillation: float) -> tuple[Tensor, Tensor]:
        """Returns the images of ``rows``, and what a mask network learns for them.

        Image and mask are moved in one sampling. What is learnt is the mask or, where teachers
        have a say, its mean with theirs, (B, 1, S, S) float32 in [0, 1].

        Args:
            rows: Of the plan.
            distillation: Weight of the teachers.
        """
        self._require_masks()
        with self._in_float32():
            draws = self.table[rows]
            moved = self._moved(self.planes, rows, draws)
            images = self._coloured(moved[:, :3], draws)
            return images, self._masks_of(moved[:, 3:], distillation=distillation)

    def _in_float32(self) -> torch.autocast:
        """Returns a context in which pixels are augmented in float32, as everywhere."""
        return torch.autocast(self.planes.device.type, enabled=False)

    def _moved(self, planes: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """Returns planes (B, C, S, S) of ``rows``, moved; their values stay."""
        found = planes[self.table.source[rows]].float()
        return warp(found, draws.place) if self.table.effects.moves else found

    def _moved_maps(self, rows: Tensor) -> Tensor:
        self._require_masks()
        with self._in_float32():
            return self._moved(self.planes[:, 3:], rows, self.table[rows])

    def _coloured(self, moved: Tensor, draws: Draws) -> Tensor:
        effects = self.table.effects
        x = spoil(recolour(moved, draws, effects), draws, effects)
        return hide_(x, draws.box) if effects.hides else x

    def _masks_of(self, maps: Tensor, *, distillation: float) -> Tensor:
        masks = (maps[:, :1] >= 0.5).float()
        if self.cache.taught is None or not distillation:
            return masks
        return masks.lerp(maps[:, 1:] / 255, distillation)

    def _require_masks(self) -> None:
        if self.cache.masks is None:
            raise ValueError("the cache holds no masks")


def _sides(cache: ImageCache, planes: Tensor) -> tuple[ImageCache, Tensor]:
    """Returns the cache whose tensors are planes of ``planes``, and these."""
    masks = None if cache.masks is None else planes[:, 3:4]
    taught = None if cache.taught is None else planes[:, 4:]
    return replace(cache, images=planes[:, :3], masks=masks, taught=taught), planes


def _table(cache: ImageCache, plan: Plan) -> PlanTable:
    table = PlanTable.from_plan(plan, cache.aspects, cache.images.shape[-1])
    return table.to(cache.images.device)


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
    """Returns ``rows`` shuffled and cut into batches of one size, so that cuDNN plans once.

    There are as few batches as ``batch_size`` allows, each as small as these batches can be. No
    row is lost; where the rows do not divide evenly, the first ones fill up the last batch.

    Example:
        >>> [len(batch) for batch in epoch_batches(np.arange(65), 32, np.random.default_rng(0))]
        [22, 22, 22]
    """
    count = max(1, -(-len(rows) // batch_size))
    return list(np.resize(rng.permutation(rows), (count, -(-len(rows) // count))))


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
