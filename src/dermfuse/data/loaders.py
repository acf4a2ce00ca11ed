"""Images are decoded once, live on the training device, and are augmented there in batches.

``PlanTable`` holds what the rows of an augmentation plan come to: one matrix for all that moves a
pixel, one for all that changes its colour, and so on. The functions take a batch's part of it and
treat all of its images at once: ``warp`` is the one sampling; ``recolour``, ``spoil`` and ``hide_``
change values. On a GPU the shapes are the same in every batch, and nothing is copied to the device,
or read from it, on the way; on a CPU, where a look at the numbers costs nothing, rows that ask for
nothing are left out.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dermfuse.data.augment import Plan, match_same_class, pairing_method
from dermfuse.data.isic2016 import Lesion, in_threads
from dermfuse.errors import ImageError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import (
    letterbox,
    letterbox_mask,
    letterbox_probability,
    read_image,
    resize_letterboxed,
    resize_probability,
    squeeze,
    squeeze_mask,
)

_GREY = (0.299, 0.587, 0.114)
# NTSC: brightness, and two axes of colour that a turn of the hue runs in.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_BLOCK = 8
# ISO/IEC 10918-1, Table K.1.
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

Fit = Literal["squeeze", "letterbox"]
"""How a frame becomes the square that the network sees; ``data.fit``."""


class Effects(NamedTuple):
    """What any row of a plan asks for; the rest is left out."""

    moves: bool
    colours: bool
    filters: bool
    compresses: bool
    noise: bool
    hides: bool


class Draws(NamedTuple):
    """The numbers of some rows; the fields of ``PlanTable.numbers``, in its order.

    Attributes:
        place: Matrix from a place in the result to the one it is taken from, (B, 2, 3).
        colours: What becomes of a colour of 0 to 255, (B, 3, 3).
        shade: Share of the image's mean colour of 0 to 255 that is added to every value, (B, 3).
        gain: Factor on values of 0 to 255, where brightness is all that changes, (B, 1).
        side: To which an image is reduced, in pixels, (B, 1).
        deviation: Standard deviation of the Gaussian blur, in pixels, (B, 1).
        coarseness: Factor of the table that cosines are quantised by, (B, 1); 0 is none.
        noise: Standard deviation, (B, 1).
        box: Top, left, height, width as fractions of the frame, (B, 4).
    """

    place: Tensor
    colours: Tensor
    shade: Tensor
    gain: Tensor
    side: Tensor
    deviation: Tensor
    coarseness: Tensor
    noise: Tensor
    box: Tensor


_SHAPES = Draws((2, 3), (3, 3), (3,), (1,), (1,), (1,), (1,), (1,), (4,))  # type: ignore[arg-type]
_WIDTHS = [math.prod(shape) for shape in _SHAPES]


@dataclass(frozen=True, slots=True)
class PlanTable:
    """A plan as numbers that pixels are changed by.

    Attributes:
        source: Index of the source image, (n,) int64.
        numbers: The columns of ``Draws``, side by side, (n, 29) float32.
        effects: What any of the rows that are used asks for.
    """

    source: Tensor
    numbers: Tensor
    effects: Effects

    @classmethod
    def from_plan(cls, plan: Plan, aspects: Tensor, size: int) -> Self:
        """Returns the table of ``plan``, on the CPU.

        Args:
            plan: The rows.
            aspects: Width beside height of the frames as they were read: of every source image,
                (images,), or one for all, (1,).
            size: Side of the squares, in pixels.
        """
        source = torch.from_numpy(plan.source)
        aspect = aspects.expand(len(source)) if len(aspects) == 1 else aspects[source]
        factors = ("brightness", "contrast", "saturation", "hue", "resolution", "blur", "quality")
        one = {name: torch.from_numpy(getattr(plan, name)) for name in (*factors, "noise")}
        columns = Draws(
            place=_places(plan, aspect),
            colours=_colour_matrix(one) / 255,
            shade=(one["brightness"] * (1 - one["contrast"]))[:, None] * torch.tensor(_GREY) / 255,
            gain=one["brightness"] / 255,
            side=(size / one["resolution"]).round(),
            deviation=one["blur"] * size,
            coarseness=_coarseness(one["quality"]),
            noise=one["noise"],
            box=torch.from_numpy(plan.occlusion),
        )
        numbers = torch.cat([column.reshape(len(source), -1) for column in columns], dim=1)
        return cls(source, numbers.float(), _effects(plan))

    def __getitem__(self, rows: Tensor) -> Draws:
        """Returns the numbers of ``rows``."""
        place, colours, *rest = torch.split(self.numbers[rows], _WIDTHS, dim=1)
        return Draws(place.view(-1, 2, 3), colours.view(-1, 3, 3), *rest)

    def to(self, device: torch.device) -> Self:
        """Returns the table on another device."""
        return type(self)(self.source.to(device), self.numbers.to(device), self.effects)


class Frame(NamedTuple):
    """Constants of squares of one size.

    Attributes:
        at: 0 to S - 1, (S,).
        places: Middles of the pixels: right, down, and 1, (3, S S).
        steps: 0 to S - 1, and infinity, (S + 1,).
        distances: How many steps a pixel, and its reflections about the first and the last, are
            from the middle of a Gaussian, (3, S, S) int64.
        cosines: The orthonormal cosine transform of blocks of eight values, (S, S).
        table: The steps of quantisation, (S, S).
        to_yiq: (3, 3).
        from_yiq: (3, 3).
    """

    at: Tensor
    places: Tensor
    steps: Tensor
    distances: Tensor
    cosines: Tensor
    table: Tensor
    to_yiq: Tensor
    from_yiq: Tensor


@lru_cache(maxsize=8)
def frame_of(size: int, device: torch.device) -> Frame:
    """Returns the constants of a size on a device; made once, and not while a step is taken."""
    at = torch.arange(size).float()
    middle = (2 * at + 1) / size - 1
    down, right = torch.meshgrid(middle, middle, indexing="ij")
    places = torch.stack([right, down, torch.ones_like(down)]).flatten(1)
    whole = torch.arange(size)
    straight, about = whole - whole[:, None], whole + whole[:, None]
    before, after = about.clone(), 2 * (size - 1) - about
    before[:, 0] = after[:, -1] = size  # the first and the last have no reflection
    distances = torch.stack([straight.abs(), before, after]).clamp(max=size)
    blocks, to_yiq = size // _BLOCK, torch.tensor(_TO_YIQ)
    constants = (
        at,
        places,
        torch.cat([at, at.new_tensor([torch.inf])]),
        distances,
        torch.kron(torch.eye(blocks), _cosines()),
        torch.tensor(_LUMINANCE_TABLE).float().repeat(blocks, blocks),
        to_yiq,
        torch.linalg.inv(to_yiq),
    )
    return Frame(*(constant.to(device) for constant in constants))


def warp(x: Tensor, place: Tensor) -> Tensor:
    """Returns ``x`` mirrored, turned, cropped, stretched and shifted, in one bilinear sampling.

    Whatever lies outside the frame is its reflection. The angle is one of the dermatoscope: it
    turns the scene in the frame's true aspect, and the frame is squeezed after that.

    Args:
        x: Squeezed frames.
        place: From places in the result to those in ``x``, ``Draws.place``.

    Shape:
        (B, C, S, S) float, (B, 2, 3) -> (B, C, S, S)
    """
    size = x.shape[-1]
    grid = place @ frame_of(size, x.device).places  # (B, 2, S S)
    return F.grid_sample(
        x,
        grid.view(-1, 2, size, size).permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )


def recolour(x: Tensor, draws: Draws, effects: Effects) -> Tensor:
    """Returns ``x`` in [0, 1], its brightness, contrast, saturation and hue changed.

    They are one affine map of a pixel's colour for each row.

    Shape:
        (B, 3, S, S) float of 0 to 255 -> (B, 3, S, S) float in [0, 1]
    """
    if not effects.colours:
        return x.mul(draws.gain.view(-1, 1, 1, 1)).clamp_(0, 1)
    added = (x.mean(dim=(2, 3)) * draws.shade).sum(dim=1).view(-1, 1, 1)
    return torch.baddbmm(added, draws.colours, x.flatten(2)).clamp_(0, 1).view(x.shape)


def spoil(x: Tensor, draws: Draws, effects: Effects) -> Tensor:
    """Returns ``x`` with less resolution, blurred, compressed as JPEG does, and with noise.

    The noise is drawn from PyTorch's default generator of the device.

    Shape:
        (B, 3, S, S) float in [0, 1], S a multiple of 8 -> (B, 3, S, S)
    """
    if effects.filters:
        asked = (draws.side < x.shape[-1]) | (draws.deviation > 0)
        x = _where(asked, _filtered, x, draws.side, draws.deviation)
    if effects.compresses:
        x = _where(draws.coarseness > 0, _compressed, x, draws.coarseness)
    if effects.noise:
        x = _where(draws.noise > 0, _noisy, x, draws.noise)
    return x


def hide_(x: Tensor, box: Tensor) -> Tensor:
    """Blacks out, in place, a box of each image.

    Shape:
        (B, 3, S, S) float, (B, 4) -> the same tensor
    """
    return x.masked_fill_(inside_boxes(box, like=x), 0)


def inside_boxes(boxes: Tensor, *, like: Tensor) -> Tensor:
    """Returns which pixels of squares lie in the box of each, (B, 1, S, S) bool.

    Args:
        boxes: Top, left, height, width as fractions of the frame, (B, 4).
        like: The squares (B, C, S, S): their size and device.
    """
    at = frame_of(like.shape[-1], like.device).at
    corner, sides = (boxes * len(at)).round_().view(-1, 2, 2, 1).unbind(dim=1)  # (B, 2, 1)
    inside = (at >= corner) & (at < corner + sides)  # (B, 2, S): of rows, of columns
    return (inside[:, 0, :, None] & inside[:, 1, None, :]).unsqueeze(1)


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
    for index, found in enumerate(in_threads(load, lesions, progress=progress)):
        images[index], mask, aspects[index] = found
        if truth is not None and mask is not None:
            truth[index, 0] = mask
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
    if fit == "letterbox":
        return letterbox_probability(probability, size)
    return resize_probability(probability, size, size)


def fit_back(
    probability: NDArray[np.float32], height: int, width: int, fit: Fit
) -> NDArray[np.float32]:
    """Returns a map (S, S) at the frame's own size, (H, W)."""
    resize = resize_letterboxed if fit == "letterbox" else resize_probability
    return resize(probability, height, width)


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Turns rows of a plan into augmented samples, on the device the images are on.

    Attributes:
        planes: Images, masks and what teachers say of these, side by side, (N, 3 to 5, S, S) uint8.
        aspects: As ``ImageCache.aspects``, on the CPU.
        plan: The plan over them.
        table: The plan as numbers on the device.
    """

    planes: Tensor
    aspects: Tensor
    plan: Plan
    table: PlanTable

    @classmethod
    def from_plan(cls, cache: ImageCache, plan: Plan) -> Self:
        """Returns the source of a plan's samples, on the cache's device."""
        parts = [part for part in (cache.images, cache.masks, cache.taught) if part is not None]
        planes = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return cls._drawn(planes, cache.aspects, plan)

    @classmethod
    def _drawn(cls, planes: Tensor, aspects: Tensor, plan: Plan) -> Self:
        table = PlanTable.from_plan(plan, aspects, planes.shape[-1])
        return cls(planes, aspects, plan, table.to(planes.device))

    @property
    def has_masks(self) -> bool:
        """Whether masks were loaded with the images."""
        return self.planes.shape[1] > 3

    def to(self, device: torch.device) -> Self:
        """Returns the source on another device."""
        planes = self.planes.to(device)
        frame_of(planes.shape[-1], planes.device)
        return replace(self, planes=planes, table=self.table.to(device))

    def redrawn(self, plan: Plan) -> Self:
        """Returns the source of another plan over the same images."""
        return self._drawn(self.planes, self.aspects, plan)

    def in_place_of(self, other: Self) -> Self:
        """Returns this source with its table in the memory of another's, where a graph looks."""
        other.table.source.copy_(self.table.source)
        other.table.numbers.copy_(self.table.numbers)
        return replace(self, table=replace(other.table, effects=self.table.effects))

    def narrowed(self, rows: NDArray[np.int64]) -> Self:
        """Returns the source for some rows alone: what none of them asks for is left out."""
        effects = _effects(self.plan.select(rows))
        return replace(self, table=replace(self.table, effects=effects))

    def images(self, rows: Tensor) -> Tensor:
        """Returns the images of ``rows``, (B, 3, S, S) float32 in [0, 1]."""
        return self._coloured(*self._moved(self.planes[:, :3], rows))

    def masks(self, rows: Tensor) -> Tensor:
        """Returns the masks of ``rows``, (B, 1, S, S) float32 of 0 and 1."""
        self._require_masks()
        return _truth(self._moved(self.planes[:, 3:], rows)[0], distillation=0)

    def images_and_masks(self, rows: Tensor, *, distillation: float) -> tuple[Tensor, Tensor]:
        """Returns the images of ``rows``, and what a mask network learns for them.

        Image and mask are moved in one sampling. What is learnt is the mask or, where teachers
        have a say, its mean with theirs, (B, 1, S, S) float32 in [0, 1].

        Args:
            rows: The plan's rows of the batch.
            distillation: Weight of the teachers.
        """
        self._require_masks()
        moved, draws = self._moved(self.planes, rows)
        return self._coloured(moved[:, :3], draws), _truth(moved[:, 3:], distillation=distillation)

    def _moved(self, planes: Tensor, rows: Tensor) -> tuple[Tensor, Draws]:
        """Returns planes of ``rows``, moved and otherwise as they are, and the rows' numbers."""
        with self._in_float32():
            draws, found = self.table[rows], planes[self.table.source[rows]].float()
            return warp(found, draws.place) if self.table.effects.moves else found, draws

    def _coloured(self, moved: Tensor, draws: Draws) -> Tensor:
        effects = self.table.effects
        with self._in_float32():
            x = spoil(recolour(moved, draws, effects), draws, effects)
            return hide_(x, draws.box) if effects.hides else x

    def _in_float32(self) -> torch.autocast:
        """Returns a context in which pixels are augmented in float32, as everywhere."""
        return torch.autocast(self.planes.device.type, enabled=False)

    def _require_masks(self) -> None:
        if not self.has_masks:
            raise ValueError("the cache holds no masks")


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
        seed: The run's seed.
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


def _effects(plan: Plan) -> Effects:
    def differs(**neutral: float) -> bool:
        return any(bool((getattr(plan, name) != value).any()) for name, value in neutral.items())

    return Effects(
        moves=differs(mirror=0, rotation=0, crop=1, angle=0, stretch=1, shift=0),
        colours=differs(contrast=1, saturation=1, hue=0),
        filters=differs(resolution=1, blur=0),
        compresses=bool((plan.quality < 100).any()),
        noise=differs(noise=0),
        hides=bool((plan.occlusion[:, 2:] > 0).any()),
    )


def _places(plan: Plan, aspects: Tensor) -> Tensor:
    """Returns the matrices (n, 2, 3) from a place in the result to the one it is taken from.

    Places are -1 to 1 along the squeezed frame. The result is a window of the frame that was
    mirrored, then turned; a quarter turn has laid the frame on its side.
    """
    quarters = torch.from_numpy(plan.rotation)
    crop, stretch, shift, degrees = (
        torch.from_numpy(getattr(plan, name)) for name in ("crop", "stretch", "shift", "angle")
    )
    aspect = torch.where(quarters % 2 == 1, 1 / aspects, aspects)
    angle = degrees * (math.pi / 180)
    cosine, sine = angle.cos() * crop, angle.sin() * crop
    wide, high = stretch.sqrt(), stretch.rsqrt()
    down, right = (2 * shift).unbind(dim=1)
    window = _rows_of_matrices(
        (cosine * wide, -sine * high / aspect, right), (sine * wide * aspect, cosine * high, down)
    )
    across, up = torch.tensor([1.0, 0, -1, 0])[quarters], torch.tensor([0.0, 1, 0, -1])[quarters]
    side = 1 - 2 * torch.from_numpy(plan.mirror).float()
    return _rows_of_matrices((side * across, -side * up), (up, across)) @ window


def _rows_of_matrices(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _colour_matrix(plan: dict[str, Tensor]) -> Tensor:
    """Returns what brightness, contrast, saturation and hue do to a colour, (n, 3, 3)."""
    to_yiq = torch.tensor(_TO_YIQ)
    turn_of_hue = 2 * math.pi * plan["hue"]
    cosine = turn_of_hue.cos() * plan["saturation"]
    sine = turn_of_hue.sin() * plan["saturation"]
    one, zero = torch.ones_like(cosine), torch.zeros_like(cosine)
    turned = _rows_of_matrices((one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine))
    factor = (plan["brightness"] * plan["contrast"]).view(-1, 1, 1)
    from_yiq: Tensor = torch.linalg.inv(to_yiq)
    return factor * (from_yiq @ turned @ to_yiq)


def _coarseness(quality: Tensor) -> Tensor:
    """Returns the scale of the table of quantisation as libjpeg scales it; 0 for none."""
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    return torch.where(quality < 100, scale / 255, 0)


def _where(asked: Tensor, change: Callable[..., Tensor], x: Tensor, *numbers: Tensor) -> Tensor:
    """Returns ``x`` changed where it is asked for, (B, 1) bool."""
    if not _may_look(x):
        return torch.where(asked.view(-1, 1, 1, 1), change(x, *numbers), x)
    rows = asked[:, 0].nonzero()[:, 0]
    if len(rows):
        x[rows] = change(x[rows], *(each[rows] for each in numbers))
    return x


def _may_look(x: Tensor) -> bool:
    """Returns whether a look at a number is free: it stops no device but the CPU itself."""
    return x.device.type == "cpu"


def _filtered(x: Tensor, side: Tensor, deviation: Tensor) -> Tensor:
    """Returns ``x`` reduced to ``side`` pixels, enlarged again, and under a Gaussian.

    Each is a matrix on the columns and the same one on the rows. Two triangles take resolution:
    one as wide as a pixel of the small image, which averages, and one as wide as a pixel of the
    large one, which interpolates. The Gaussian ends after three deviations, and the image continues
    behind its border as its reflection.
    """
    frame, size = frame_of(x.shape[-1], x.device), x.shape[-1]
    here, there = frame.at[:, None] + 0.5, frame.at + 0.5
    side = side.unsqueeze(2)  # (B, 1, 1)
    scale = size / side
    reduce = (1 - (here * scale - there).abs_() / scale).clamp_(min=0)  # (B, small, S)
    reduce = reduce / reduce.sum(dim=2, keepdim=True).clamp_(min=1e-6)
    found = torch.minimum((here / scale - 0.5).clamp_(min=0), side - 1)
    enlarge = (1 - (found - frame.at).abs_()).clamp_(min=0)  # (B, S, small)
    bell = (-0.5 * (frame.steps / deviation.clamp(min=1e-6)).square_()).exp_()  # (B, S + 1)
    bell = bell * (frame.steps <= (3 * deviation).ceil())
    blur = bell[:, frame.distances].sum(dim=1)  # (B, S, S)
    blur = blur / blur.sum(dim=2, keepdim=True)
    return _on_both_sides((blur @ enlarge @ reduce).unsqueeze(1), x)


def _compressed(x: Tensor, coarseness: Tensor) -> Tensor:
    """Returns ``x`` as blocks of rounded cosines.

    Every channel of YIQ is quantised by the luminance table, scaled as libjpeg scales it: a
    loss like that of JPEG, not a codec.
    """
    frame = frame_of(x.shape[-1], x.device)
    spectrum = _on_both_sides(frame.cosines, _mixed(frame.to_yiq, x))
    steps = (frame.table * coarseness.view(-1, 1, 1, 1)).clamp_(min=1 / 255)  # (B, 1, S, S)
    rounded = (spectrum / steps).round_() * steps
    return _mixed(frame.from_yiq, _on_both_sides(frame.cosines.T, rounded)).clamp_(0, 1)


def _noisy(x: Tensor, level: Tensor) -> Tensor:
    noise = torch.randn(x.shape, device=x.device)
    return torch.addcmul(x, noise, level.view(-1, 1, 1, 1)).clamp_(0, 1)


def _on_both_sides(across: Tensor, x: Tensor) -> Tensor:
    """Returns ``A x A'`` of every channel."""
    return across @ x @ across.mT


def _mixed(colours: Tensor, x: Tensor) -> Tensor:
    return (colours @ x.flatten(2)).view(x.shape)


def _cosines() -> Tensor:
    """Returns the orthonormal cosine transform of eight values, (8, 8)."""
    at = torch.arange(_BLOCK).float()
    waves = torch.cos(math.pi / _BLOCK * (at + 0.5) * at[:, None])
    waves[0] /= math.sqrt(2)
    return torch.mul(waves, math.sqrt(2 / _BLOCK))


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


def _truth(maps: Tensor, *, distillation: float) -> Tensor:
    """Returns masks of 0 and 1, with a share of what teachers say, if they do."""
    masks = (maps[:, :1] >= 0.5).float()
    return (
        masks.lerp(maps[:, 1:] / 255, distillation) if distillation and maps.shape[1] > 1 else masks
    )
