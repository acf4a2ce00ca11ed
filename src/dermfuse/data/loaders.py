"""Images are decoded once, live on the training device, and are augmented there in batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dermfuse.data.augment import Plan
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.pairs import match_same_class, pairing_method
from dermfuse.errors import ImageError
from dermfuse.preprocess import read_image, read_mask, squeeze, squeeze_mask


@dataclass(frozen=True, slots=True)
class ImageCache:
    """Decoded images of one set, squeezed to the square the network sees.

    Attributes:
        images: (N, 3, S, S) uint8, RGB.
        masks: (N, 1, S, S) uint8 of 0 and 1, or None where only classes are learnt.
    """

    images: Tensor
    masks: Tensor | None

    def to(self, device: torch.device) -> Self:
        """Returns the cache on another device."""
        masks = None if self.masks is None else self.masks.to(device)
        return type(self)(self.images.to(device), masks)


def load_cache(
    lesions: Sequence[Lesion],
    size: int,
    *,
    masks: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImageCache:
    """Returns the images (and masks) of ``lesions``, decoded once.

    Args:
        lesions: What to load; with ``masks`` each has a mask.
        size: Side of the square, in pixels.
        masks: Whether the masks are loaded too.
        progress: Called with (done, all).

    Raises:
        ImageError: For a file that cannot be read, or a mask of another size than its image.
    """

    def load(lesion: Lesion) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        image = read_image(lesion.image_path)
        mask = _load_mask(lesion, image.shape[:2], size) if masks else None
        return squeeze(image, size).transpose(2, 0, 1), mask

    images = np.empty((len(lesions), 3, size, size), np.uint8)
    truth = np.empty((len(lesions), 1, size, size), np.uint8) if masks else None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, (image, mask) in enumerate(pool.map(load, lesions)):
            images[index] = image
            if truth is not None and mask is not None:
                truth[index, 0] = mask
            if progress:
                progress(index + 1, len(lesions))
    return ImageCache(torch.from_numpy(images), None if truth is None else torch.from_numpy(truth))


def _load_mask(lesion: Lesion, shape: tuple[int, ...], size: int) -> NDArray[np.uint8]:
    if lesion.mask_path is None:
        raise ImageError(f"{lesion.image_id} has no mask", expected="a mask for every image")
    mask = read_mask(lesion.mask_path)
    if mask.shape != shape:
        raise ImageError(
            f"{lesion.mask_path} is {mask.shape[1]} x {mask.shape[0]} px",
            expected=f"its image's size, {shape[1]} x {shape[0]} px",
            action="Repair or remove the mask",
        )
    return squeeze_mask(mask, size).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class PlanTensors:
    """A plan's columns as tensors; see ``dermfuse.data.augment.Plan``."""

    source: Tensor
    mirror: Tensor
    rotation: Tensor
    crop: Tensor
    brightness: Tensor
    occlusion: Tensor

    @classmethod
    def from_plan(cls, plan: Plan) -> Self:
        """Returns the tensors of ``plan``."""
        return cls(*(torch.from_numpy(getattr(plan, field.name).copy()) for field in fields(cls)))

    def __getitem__(self, rows: Tensor) -> Self:
        """Returns the columns at ``rows``."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


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
        return shade_(crop_(turned.float().div_(255), plan), plan)

    def masks(self, rows: Tensor) -> Tensor:
        """Returns the masks of ``rows``, (B, 1, S, S) float32 of 0 and 1."""
        if self.cache.masks is None:
            raise ValueError("the cache holds no masks")
        plan = self.plan[rows]
        turned = turn(self.cache.masks[plan.source.to(self.cache.masks.device)], plan)
        return (crop_(turned.float(), plan) >= 0.5).float()


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


def crop_(x: Tensor, plan: PlanTensors) -> Tensor:
    """Enlarges, in place, the middle of the samples that ``plan`` crops (bilinear).

    Shape:
        (B, C, S, S) float -> the same tensor
    """
    cropped = (plan.crop < 1).nonzero()[:, 0]
    if len(cropped):
        scale = plan.crop[cropped].to(x.device)
        cropped = cropped.to(x.device)
        theta = x.new_zeros(len(cropped), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = scale
        grid = F.affine_grid(theta, [len(cropped), *x.shape[1:]], align_corners=False)
        x[cropped] = F.grid_sample(
            x[cropped], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return x


def shade_(x: Tensor, plan: PlanTensors) -> Tensor:
    """Changes, in place, the brightness, then blacks out the boxes of ``plan``.

    Shape:
        (B, C, S, S) float in [0, 1] -> the same tensor
    """
    size = x.shape[-1]
    x = x.mul_(plan.brightness.to(x.device).view(-1, 1, 1, 1)).clamp_(0, 1)
    box = (plan.occlusion * size).round().to(x.device)  # top, left, height, width
    at = torch.arange(size, device=x.device)
    rows = (at >= box[:, :1]) & (at < box[:, :1] + box[:, 2:3])  # (B, S)
    columns = (at >= box[:, 1:2]) & (at < box[:, 1:2] + box[:, 3:])
    return x.masked_fill_((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)


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
