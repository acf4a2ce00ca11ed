"""Synthetic dermoscopy: drawn lesions with masks, labels and the interferences of Fig. 1.

The images are drawn by NumPy and Pillow from a seed; none is derived from a photograph. They
serve to try every command without data. What a network learns from them says nothing about
skin.

A lesion is a shape (asymmetry, border) filled with pigment (colours, dermoscopic structures),
after the ABCD rule that dermatologists teach. Each of these signs has a strength from 0, wholly
benign, to 1, wholly malignant. The classes overlap in their signs, by ``difficulty``, so that a
benign lesion may look odd and a melanoma harmless, as they do.

Each interference is drawn with the same chance on both classes: in ISIC 2016 the coloured
discs lie on benign lesions only, a shortcut that this set does not offer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from dermfuse.data.isic2016 import Label
from dermfuse.errors import ConfigError
from dermfuse.records.folders import whole_folder

Field = NDArray[np.float32]  # (H, W); float32 throughout, for speed
Picture = NDArray[np.float32]  # (3, H, W), red, green and blue in about [0, 1]: planes, for speed
Mask = NDArray[np.bool_]

SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 4096
FIRST_TRAIN_ID = 9_900_000
"""Synthetic training images are ISIC_9900000 and up: the archive has no such ids."""
FIRST_TEST_ID = 9_950_000
"""Synthetic test images are ISIC_9950000 and up."""

_TONE_SHARES = (0.26, 0.32, 0.22, 0.11, 0.06, 0.03)

# Optical densities of red, green and blue: brown pigment near the surface; pigment in the dermis,
# which scattering turns blue-grey; blood in fine vessels.
_MELANIN, _DEEP_MELANIN, _BLOOD = np.array(
    [(0.24, 0.62, 0.98), (0.95, 0.78, 0.50), (0.10, 0.62, 0.42)], dtype=np.float32
)
# Of each colour beside brown: its chance in a melanoma, the share of pigment that it takes away,
# and the density that it adds.
_PATCHES = (
    (1.0, 0.0, 0.9 * _MELANIN + 0.45 * _DEEP_MELANIN),  # black
    (0.9, 0.35, 0.8 * _DEEP_MELANIN),  # blue-grey
    (0.7, 0.45, 0.6 * _BLOOD),  # red
    (0.7, 0.8, 0 * _BLOOD),  # white
)
_FINE = 3  # lines are drawn this much larger, then averaged: Pillow draws no soft lines
_MOST_IMAGES = FIRST_TEST_ID - FIRST_TRAIN_ID
_JPEG_QUALITY = 92
_README = """\
These images are SYNTHETIC: drawn by dermfuse from a seed, not photographs of anyone's skin.
They have the file names and folders of ISIC 2016 so that every command runs on them; their ids
(ISIC_99xxxxx) do not exist in the ISIC archive. A network trained on them knows nothing about
skin cancer.

seed {seed}, {width} x {height} px, difficulty {difficulty}
training images: {train_count}, of which malignant: {train_malignant}
test images: {test_count}, of which malignant: {test_malignant}
"""


class Interference(StrEnum):
    """What disturbs a dermoscopy image."""

    HAIR = "hair"
    INK = "ink"
    RULER = "ruler"
    GEL_BUBBLES = "gel_bubbles"
    COLOURED_DISC = "coloured_disc"
    DARK_CORNERS = "dark_corners"


def _colours(*names: str) -> NDArray[np.float32]:
    return np.array([ImageColor.getrgb(name) for name in names], np.float32) / np.float32(255)


# Fitzpatrick types I to VI under the dermatoscope's light; light ones prevail, as in ISIC 2016.
_TONES = _colours("#edd4cc", "#debdb0", "#ccab94", "#b3876b", "#8a614a", "#614233")

_DISC_COLOURS = _colours("#ed8c29", "#2980c7", "#52bdb3", "#ccd61f")


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticLesion:
    """One drawn image.

    Args:
        image: (H, W, 3) RGB.
        mask: (H, W), True on the lesion: where it has at least half of its pigment.
        label: What was drawn.
        interferences: What was drawn over it.
    """

    image: NDArray[np.uint8]
    mask: Mask
    label: Label
    interferences: frozenset[Interference]


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What ``synthesize_isic2016`` wrote.

    Args:
        folder: The dataset folder.
        train_count: Training images.
        train_malignant: Malignant ones among them.
        test_count: Test images.
        test_malignant: Malignant ones among them.
        seed: What they were drawn from.
        width: Width of every image, in pixels.
        height: Height of every image, in pixels.
        difficulty: How far the classes overlap, from 0 to 1.
    """

    folder: Path
    train_count: int
    train_malignant: int
    test_count: int
    test_malignant: int
    seed: int
    width: int
    height: int
    difficulty: float


def synthesize_isic2016(  # noqa: PLR0913 — each is a choice of the command or the demo
    folder: str | Path,
    *,
    train_count: int,
    test_count: int,
    seed: int = 0,
    size_px: tuple[int, int] = (320, 240),
    malignant_fraction: float = 0.2,
    difficulty: float = 0.4,
    progress: Callable[[int, int], None] | None = None,
) -> SynthesisReport:
    """Draws a data set in the official layout of ISIC 2016; the folder appears when it is whole.

    Image number i of a part depends on the seed, the size, the fraction and the difficulty
    alone, not on how many there are.

    Args:
        folder: A new or an empty folder.
        train_count: Training images.
        test_count: Test images.
        seed: What they are drawn from.
        size_px: Width and height of every image.
        malignant_fraction: Share of malignant images, met to within one image.
        difficulty: 0 keeps the classes apart, 1 all but mixes them.
        progress: Called with the number of images done and of all, after each.

    Raises:
        ConfigError: If a count, the size or a fraction is out of range.
        RunError: If the folder exists and is not empty.
        StorageError: If it cannot be written.
    """
    _check_between("train_count", train_count, 1, _MOST_IMAGES)
    _check_between("test_count", test_count, 0, _MOST_IMAGES)
    _check_between("seed", seed, 0, 2**63 - 1)
    _check_between("malignant_fraction", malignant_fraction, 0.0, 1.0)
    _check_between("difficulty", difficulty, 0.0, 1.0)
    _check_size(size_px)
    train, test = (_labels(count, malignant_fraction) for count in (train_count, test_count))
    malignant = sum(train), sum(test)
    report = SynthesisReport(
        Path(folder),
        train_count,
        malignant[0],
        test_count,
        malignant[1],
        seed,
        *size_px,
        difficulty,
    )
    done = 0
    with whole_folder(report.folder, what="synthetic data") as staging:
        for title, first_id, labels in (
            ("Training", FIRST_TRAIN_ID, train),
            ("Test", FIRST_TEST_ID, test),
        ):
            for _ in _write_part(staging, title, first_id, labels, report):
                done += 1
                if progress is not None:
                    progress(done, train_count + test_count)
        (staging / "README.txt").write_text(_README.format(**asdict(report)), encoding="utf-8")
    return report


def draw_lesion(
    rng: np.random.Generator,
    *,
    label: Label,
    size_px: tuple[int, int] = (320, 240),
    interferences: frozenset[Interference] | None = None,
    difficulty: float = 0.4,
) -> SyntheticLesion:
    """Returns one drawn lesion on skin.

    Args:
        rng: Where chance comes from; equal states draw equal images.
        label: Its class.
        size_px: Width and height.
        interferences: What to draw over it; None leaves it to chance.
        difficulty: 0 keeps the classes apart, 1 all but mixes them.

    Raises:
        ConfigError: If the size or the difficulty is out of range.

    Example:
        >>> drawn = draw_lesion(np.random.default_rng(1), label=Label.BENIGN)
        >>> drawn.image.shape, drawn.mask.shape
        ((240, 320, 3), (240, 320))
    """
    _check_size(size_px)
    _check_between("difficulty", difficulty, 0.0, 1.0)
    kinds = interferences
    if kinds is None:
        chances = ((kind, chance) for kind, (chance, _) in _INTERFERENCES.items())
        kinds = frozenset(kind for kind, chance in chances if rng.random() < chance)
    frame = make_frame(size_px)
    signs = _draw_signs(rng, label, difficulty)
    largest = 0.22 if Interference.COLOURED_DISC in kinds else 0.55  # room for the sticker
    outline = _draw_outline(rng, frame, signs, largest=largest)
    image = _draw_skin(rng, frame)
    _paint_pigment(rng, frame, image, outline, signs)
    mask = outline.rho <= 1
    for kind in _INTERFERENCES:
        if kind in kinds:
            paint_interference(rng, frame, image, mask, kind)
    _shine(rng, frame, image)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # (H, W, 3)
    return SyntheticLesion(pixels, mask, label, kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The image plane, in pixels and in units of its shorter side.

    Args:
        x: Column of each pixel from the centre, in shorter sides.
        y: Row of each pixel from the centre, in shorter sides.
        unit_px: The shorter side in pixels.
    """

    x: Field
    y: Field
    unit_px: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.x.shape[0], self.x.shape[1]

    @property
    def half(self) -> tuple[float, float]:
        """Half the width and half the height, in shorter sides."""
        height, width = self.shape
        return width / self.unit_px / 2, height / self.unit_px / 2


def make_frame(size_px: tuple[int, int]) -> Frame:
    """Returns the plane of an image ``size_px`` wide and high."""
    unit = min(size_px)
    x, y = ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / unit for side in size_px)
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return Frame(grid_x, grid_y, unit)


def paint_interference(
    rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask, kind: Interference
) -> None:
    """Draws one interference on ``image``, in place; ``mask`` is the lesion to keep clear of."""
    _, paint = _INTERFERENCES[kind]
    paint(rng, frame, image, mask)


_Painter = Callable[[np.random.Generator, Frame, Picture, Mask], None]


def _hair(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    is_stubble = rng.random() < 0.2
    fewest, most, shortest, longest = (12, 45, 0.03, 0.10) if is_stubble else (3, 32, 0.35, 1.3)
    width, bearing = rng.uniform(0.004, 0.009), rng.uniform(0, 2 * np.pi)
    lines = []
    for _unused in range(int(rng.integers(fewest, most))):
        start = rng.uniform(-1.2, 1.2, 2) * frame.half
        length, bend = rng.uniform(shortest, longest), rng.normal(0, 0.1 if is_stubble else 0.5)
        points = _curve(start, bearing + rng.normal(0, 0.5), length, bend)
        lines.append((points, width * rng.uniform(0.6, 1.4)))
    hair = _field(_stroke(frame, lines))
    colour = np.array((0.80, 0.68, 0.50) if rng.random() < 0.15 else (0.16, 0.10, 0.08))
    image *= 1 - np.float32(0.12) * np.roll(hair, (1, 1), axis=(0, 1))  # its shadow
    colour = (colour * rng.uniform(0.6, 1.3)).astype(np.float32)
    _blend(image, colour, hair * np.float32(rng.uniform(0.7, 0.95)))


def _ink(rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask) -> None:
    density = rng.choice([(0.75, 1.05, 0.22), (1.15, 0.75, 0.20), (0.95, 0.85, 0.55)])
    lines = []
    for _unused in range(int(rng.integers(1, 4))):
        side = rng.uniform(0, 2 * np.pi)
        start = np.array(frame.half) * (math.cos(side), math.sin(side)) * rng.uniform(0.75, 1.1)
        points = _curve(start, side + rng.uniform(1.2, 2.2), rng.uniform(0.15, 0.6), rng.normal())
        lines.append((points, rng.uniform(0.03, 0.08)))
    blur = ImageFilter.GaussianBlur(0.012 * frame.unit_px)
    stroke = _field(_stroke(frame, lines).filter(blur))
    # Ink beads on greasy skin: the stroke frays and breaks up into specks.
    beads = stroke + np.float32(rng.uniform(0.15, 0.4)) * _noise(rng, frame, 0.02, octaves=2)
    amount = _smooth_step(beads, rng.uniform(0.3, 0.6), 1.1) * _smooth_step(stroke, 0.02, 0.3)
    amount = (amount + 0.15 * stroke) * np.where(mask, np.float32(0.35), np.float32(1))
    _absorb(image, amount * np.float32(rng.uniform(0.7, 1.3)), density.astype(np.float32))


def _ruler(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    is_upright = rng.random() < 0.5
    edge, along = frame.half if is_upright else frame.half[::-1]
    inward = rng.choice([-1, 1])
    base, tilt = -inward * (edge - rng.uniform(0, 0.12)), rng.normal(0, 0.10)
    tick, width = inward * rng.uniform(0.02, 0.05), rng.uniform(0.003, 0.006)
    lines = []
    for index, place in enumerate(np.arange(-along, along, rng.uniform(0.03, 0.085))):
        reach = tick * (1.9 if index % 5 == 0 else 1.0)
        start = base + tilt * place
        ends = np.array([(start, place), (start + reach, place - tilt * reach)])
        lines.append((ends if is_upright else ends[:, ::-1], width))
    marks = _field(_stroke(frame, lines))
    _blend(image, np.full(3, 0.10, np.float32), marks * np.float32(rng.uniform(0.6, 0.9)))


def _gel_bubbles(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    """Draws thin rings, bright towards the light."""
    canvas = _stroke(frame, [])
    pen, unit = ImageDraw.Draw(canvas), frame.unit_px * _FINE
    light, spread = rng.uniform(0, 360), rng.uniform(0.15, 0.6)
    heart = rng.uniform(-0.8, 0.8, 2) * frame.half
    for _unused in range(int(rng.integers(4, 26))):
        radius = min(0.10, 0.014 * math.exp(rng.exponential(0.55))) * unit
        x, y = (np.array(canvas.size) / 2 + (heart + rng.normal(0, spread, 2)) * unit).tolist()
        box, width = (x - radius, y - radius, x + radius, y + radius), max(2, round(radius / 8))
        pen.ellipse(box, fill=30, outline=90, width=width)
        pen.arc(box, light - 75, light + 75, fill=255, width=width)
    image += np.float32(rng.uniform(0.15, 0.38)) * _field(canvas)


def _coloured_disc(rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask) -> None:
    """Draws a sticker at the rim, beside the lesion as in ISIC 2016, never over it."""
    sides = rng.uniform(0, 2 * np.pi) + np.arange(12) * np.pi / 6
    rim = np.clip(1.4 * np.stack((np.cos(sides), np.sin(sides)), axis=1), -1, 1) * frame.half
    distances = [np.hypot(frame.x - x, frame.y - y) for x, y in rim.astype(np.float32)]
    room = [float(distance[mask].min(initial=9.0)) - 0.04 for distance in distances]
    radius = rng.uniform(0.20, 0.36)
    best = next((i for i, free in enumerate(room) if free > 0.8 * radius), int(np.argmax(room)))
    distance, radius = distances[best], max(0.03, min(radius, room[best]))
    image *= 1 - np.float32(0.15) * _smooth_step(-distance, -radius - 0.03, -radius)
    outer, inner = rng.choice(_DISC_COLOURS, 2, replace=False)
    for colour, reach in ((outer, radius), (inner, 0.5 * radius * (rng.random() < 0.4))):
        if reach:
            soft = 1.5 / frame.unit_px
            _blend(image, colour, _smooth_step(-distance, -reach - soft, -reach))


def _dark_corners(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    radius = math.hypot(*frame.half) * rng.uniform(0.74, 0.98)
    x, y = rng.normal(0, 0.03, 2).astype(np.float32)
    softness = rng.uniform(0.01, 0.14)
    image *= _smooth_step(
        -np.hypot(frame.x - x, frame.y - y), -radius - softness, -radius + softness
    )


# What is drawn when nothing is asked for, and how often, about as in ISIC 2016; in the order in
# which it lies on the skin, the lowest first.
_INTERFERENCES: Mapping[Interference, tuple[float, _Painter]] = {
    Interference.INK: (0.07, _ink),
    Interference.HAIR: (0.36, _hair),
    Interference.COLOURED_DISC: (0.10, _coloured_disc),
    Interference.GEL_BUBBLES: (0.18, _gel_bubbles),
    Interference.RULER: (0.22, _ruler),
    Interference.DARK_CORNERS: (0.26, _dark_corners),
}


def _labels(count: int, malignant_fraction: float) -> list[Label]:
    """Returns labels with the malignant ones spread evenly, whatever the count."""
    before = [math.floor(index * malignant_fraction + 0.5) for index in range(count + 1)]
    return [Label(after - here) for here, after in pairwise(before)]


def _write_part(
    folder: Path, title: str, first_id: int, labels: Sequence[Label], report: SynthesisReport
) -> Iterator[None]:
    """Draws and writes one part, yielding after each image."""
    if not labels:
        return
    images = folder / f"ISBI2016_ISIC_Part3_{title}_Data"
    masks = folder / f"ISBI2016_ISIC_Part1_{title}_GroundTruth"
    images.mkdir()
    masks.mkdir()
    words = ("0.0", "1.0") if title == "Test" else ("benign", "malignant")  # as the tables have it
    lines = []
    for index, label in enumerate(labels):
        image_id = f"ISIC_{first_id + index:07d}"
        drawn = draw_lesion(
            np.random.default_rng((report.seed, first_id, index)),
            label=label,
            size_px=(report.width, report.height),
            difficulty=report.difficulty,
        )
        _write_image(images / f"{image_id}.jpg", drawn)
        mask = Image.fromarray(drawn.mask.astype(np.uint8) * np.uint8(255))
        mask.save(masks / f"{image_id}_Segmentation.png")
        lines.append(f"{image_id},{words[label]}\n")
        yield
    table = folder / f"ISBI2016_ISIC_Part3_{title}_GroundTruth.csv"
    table.write_text("".join(lines), encoding="utf-8")


def _write_image(path: Path, drawn: SyntheticLesion) -> None:
    names = ", ".join(sorted(drawn.interferences)) or "none"
    comment = f"synthetic, drawn by dermfuse; interferences: {names}"
    Image.fromarray(drawn.image).save(path, quality=_JPEG_QUALITY, comment=comment)


def _check_size(size_px: tuple[int, int]) -> None:
    if not all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in size_px):
        raise ConfigError(
            f"the image size is {size_px[0]} x {size_px[1]} px",
            expected=f"sides from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px",
        )


def _check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value out of range, NaN among them."""
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}", expected=f"a value from {low} to {high}")


def _noise(rng: np.random.Generator, frame: Frame, scale: float, octaves: int = 1) -> Field:
    """Returns smooth noise of about zero mean and unit deviation.

    Args:
        rng: Where chance comes from.
        frame: The plane.
        scale: Size of the largest blotches, in shorter sides.
        octaves: Finer and finer layers, each half as large and 0.6 times as strong.
    """
    (height, width), total = frame.shape, np.zeros(frame.shape, dtype=np.float32)
    for octave in range(octaves):
        cell_px = max(1.0, scale * frame.unit_px / 2**octave)
        rows, columns = height / cell_px, width / cell_px
        coarse = rng.standard_normal((int(rows) + 5, int(columns) + 5), dtype=np.float32)
        left, top = 1 + rng.random(2)  # the lattice shall not always start at the corner
        box = (left, top, left + columns, top + rows)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC, box=box)
        total += np.float32(0.6**octave) * np.asarray(layer, dtype=np.float32)
    power = sum(0.36**octave for octave in range(octaves))
    return total * np.float32(1.3 / math.sqrt(power))  # interpolation loses about a quarter


def _smooth_step(value: Field, low: float | Field, high: float | Field) -> Field:
    """Returns 0 below ``low``, 1 above ``high`` and a smooth cubic between them."""
    t = np.clip((value - low) / (high - low), 0, 1)
    result: Field = t * t * (3 - 2 * t)
    return result


def _absorb(image: Picture, amount: Field, density: NDArray[np.float32]) -> None:
    """Darkens ``image`` in place as a dye does: by Beer and Lambert's law, per channel."""
    image *= np.exp(-density[:, None, None] * amount)


def _blend(image: Picture, colour: NDArray[np.float32], opacity: Field) -> None:
    """Lays a colour over ``image``, in place."""
    image += opacity * (colour[:, None, None] - image)


class _Signs(NamedTuple):
    """How malignant each sign looks, from 0 to 1.

    Attributes:
        asymmetry: How unlike the halves of outline and pigment are.
        border: Notches, and a sharp end here and there.
        colours: Black, blue-grey, red and white beside the browns.
        structures: Irregular network, dots and mottling.
    """

    asymmetry: float
    border: float
    colours: float
    structures: float


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """Where a lesion lies.

    Args:
        rho: Distance from the centre in radii of the outline, 1 on the border.
        theta: Direction from the centre, in radians.
        opacity: Share of the pigment there, 0.5 on the border.
        centre: Where the lesion lies, in shorter sides.
        radius: Mean radius, in shorter sides.
    """

    rho: Field
    theta: Field
    opacity: Field
    centre: tuple[float, float]
    radius: float


def _draw_signs(rng: np.random.Generator, label: Label, difficulty: float) -> _Signs:
    """Returns how malignant a lesion of this class looks."""
    distance = 6.0 - 5.0 * difficulty  # between the classes, in deviations
    latent = rng.standard_normal() + (distance / 2 if label == Label.MALIGNANT else -distance / 2)
    logits = 1.15 * latent + 0.6 * rng.standard_normal(4)
    return _Signs(*(1 / (1 + np.exp(-logits))).tolist())


def _draw_outline(
    rng: np.random.Generator, frame: Frame, signs: _Signs, *, largest: float
) -> _Outline:
    """Returns the shape of a lesion: one piece without holes, but for crumbs at its border."""
    growth = 0.5 * (signs.asymmetry + signs.border)
    radius = float(np.clip(np.exp(rng.normal(math.log(0.25 + 0.07 * growth), 0.36)), 0.07, largest))
    room = [max(0.02, side - 1.1 * radius) for side in frame.half]
    centre = [float(np.clip(rng.normal(0, 0.45), -1, 1)) * free for free in room]
    # Warping the plane bends the outline; adding as much noise to it would tear it to pieces.
    warp = radius * (0.035 + 0.06 * signs.border)
    x, y = (
        plane - middle + warp * _noise(rng, frame, 0.5 * radius, octaves=3)
        for plane, middle in zip((frame.x, frame.y), centre, strict=True)
    )
    angle, stretch = rng.uniform(0, np.pi), math.sqrt(rng.uniform(1.0, 1.6 + 0.3 * growth))
    along = (math.cos(angle) * x + math.sin(angle) * y) / np.float32(radius * stretch)
    across = (math.cos(angle) * y - math.sin(angle) * x) / np.float32(radius / stretch)
    theta = np.arctan2(across, along)
    orders = np.arange(1, 12)
    lobes = 0.03 + np.where(orders <= 4, 0.14 * signs.asymmetry, 0.09 * signs.border)
    amplitudes = lobes * rng.standard_normal(11) / orders**0.7
    turns = np.linspace(-np.pi, np.pi, 257)
    waves = np.cos(np.outer(turns, orders) + rng.uniform(0, 2 * np.pi, 11)) @ amplitudes
    reach = np.interp(theta, turns, np.maximum(1 + waves, 0.35)).astype(np.float32)
    rho = np.hypot(along, across) / reach
    sharp = 0.5 + 0.5 * np.cos(theta + rng.uniform(0, 2 * np.pi))
    # A melanoma may end abruptly on one side.
    softness = (rng.uniform(0.08, 0.28) * (1 - 0.75 * signs.border * sharp)).astype(np.float32)
    opacity = _smooth_step(1 - rho, -softness, softness)
    return _Outline(rho, theta, opacity, (centre[0], centre[1]), radius)


def _draw_skin(rng: np.random.Generator, frame: Frame) -> Picture:
    """Returns bare skin before light and camera."""
    kind = rng.choice(len(_TONES), p=_TONE_SHARES)
    mix = rng.uniform(0, 0.8)
    tone = (1 - mix) * _TONES[kind] + mix * _TONES[min(kind + 1, len(_TONES) - 1)]
    skin = np.empty((3, *frame.shape), dtype=np.float32)
    skin[:] = tone[:, None, None]
    for density in (_MELANIN, _BLOOD):
        strength = np.float32(0.015 + min(0.08, rng.exponential(0.025)))
        mottling = _noise(rng, frame, rng.uniform(0.05, 0.2), octaves=4)
        _absorb(skin, strength * mottling, density)
    return skin


def _paint_pigment(
    rng: np.random.Generator, frame: Frame, image: Picture, outline: _Outline, signs: _Signs
) -> None:
    """Lays a lesion's pigment on ``image``, in place."""
    inner = np.clip(1 - outline.rho, 0, 1)
    body = 1 + rng.choice([-0.35, 0.0, 0.25, 0.6]) * inner  # pale centre, even, darker, dark centre
    mottling = rng.uniform(0.10, 0.22) + 0.16 * signs.structures
    body += mottling * _noise(rng, frame, 0.5 * outline.radius, octaves=4)
    lean = np.cos(outline.theta - rng.uniform(0, 2 * np.pi)) * np.minimum(outline.rho, 1)
    body += 0.55 * signs.asymmetry * rng.uniform(0.3, 1) * lean
    melanin = np.float32(math.exp(rng.normal(-0.30, 0.38))) * np.clip(body, 0.15, 3)
    melanin += _network(rng, frame, outline, signs)
    density = np.float32(min(0.5, rng.exponential(0.1))) * _BLOOD[:, None, None]
    for chance, lost, added in _PATCHES:
        if rng.random() > chance * signs.colours + 0.04:
            continue
        patch = _patch(rng, frame, outline) * np.float32(rng.uniform(0.55, 1.0))
        melanin *= 1 - np.float32(lost) * patch
        density = density + added[:, None, None] * patch
    melanin = np.maximum(melanin, 0.04)
    density = density + _MELANIN[:, None, None] * melanin
    density += (0.16 * _DEEP_MELANIN)[:, None, None] * melanin**2  # thick pigment is black, not red
    image *= np.exp(-density * outline.opacity)


def _network(rng: np.random.Generator, frame: Frame, outline: _Outline, signs: _Signs) -> Field:
    """Returns network and dots: a regular honeycomb in a naevus, patchy and black in a melanoma."""
    pitch = rng.uniform(0.016, 0.034)
    strength = max(0.0, rng.normal(0.14, 0.18)) * (1 + 0.6 * signs.structures)
    disorder = np.float32(1.2 + 1.6 * signs.structures)
    wave_x, wave_y = (disorder * _noise(rng, frame, 2.2 * pitch) for _ in range(2))
    x, y = (np.float32(2 * np.pi / pitch) * plane for plane in (frame.x, frame.y))
    waves = np.zeros(frame.shape, dtype=np.float32)
    for angle in rng.uniform(0, np.pi) + np.arange(3) * np.pi / 3:
        waves += np.cos(np.float32(math.cos(angle)) * (x + wave_x) + math.sin(angle) * (y + wave_y))
    presence = _noise(rng, frame, 0.6 * outline.radius, octaves=2)
    low = 2.2 * signs.structures
    lines = (_smooth_step(-waves, -0.6, 1.3) - 0.35) * _smooth_step(presence, low - 2.4, low - 0.6)
    dots = _smooth_step(_noise(rng, frame, rng.uniform(0.015, 0.03)), 1.4, 2.0)
    dots *= np.float32(rng.uniform(0.1, 0.3) + signs.structures) * _smooth_step(-presence, 0.2, 1.0)
    return np.float32(strength) * lines + dots


def _patch(rng: np.random.Generator, frame: Frame, outline: _Outline) -> Field:
    """Returns an irregular area inside the lesion, from 0 to 1."""
    angle, away = rng.uniform(0, 2 * np.pi), outline.radius * rng.uniform(0.1, 0.75)
    x = frame.x - np.float32(outline.centre[0] + away * math.cos(angle))
    y = frame.y - np.float32(outline.centre[1] + away * math.sin(angle))
    near = 1 - np.hypot(x, y) / np.float32(outline.radius * rng.uniform(0.35, 0.8))
    near += np.float32(0.35) * _noise(rng, frame, 0.4 * outline.radius, octaves=4)
    return _smooth_step(near, -0.2, rng.uniform(0.6, 1.2))


def _shine(rng: np.random.Generator, frame: Frame, image: Picture) -> None:
    """Lights ``image`` as a hand-held dermatoscope does, unevenly and never quite white."""
    tint = np.exp(rng.normal(0, (0.035, 0.012, 0.06))).astype(np.float32)
    angle, slope, falloff = rng.uniform(0, (2 * np.pi, 0.12, 0.22)).astype(np.float32)
    light = 1 + slope * (np.cos(angle) * frame.x + np.sin(angle) * frame.y)
    light -= falloff * (frame.x**2 + frame.y**2)
    light *= np.float32(np.exp(rng.normal(0.0, 0.08)))
    grain = rng.standard_normal(frame.shape, dtype=np.float32)
    image *= light * tint[:, None, None]
    image += np.float32(rng.uniform(0.006, 0.016)) * grain


def _stroke(frame: Frame, lines: Sequence[tuple[NDArray[np.float64], float]]) -> Image.Image:
    """Returns a fine grey canvas of lines and their widths, in shorter sides."""
    height, width = frame.shape
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    pen = ImageDraw.Draw(canvas)
    for points, thickness in lines:
        scaled = (points * frame.unit_px + (width / 2, height / 2)) * _FINE
        pen.line(
            [(float(x), float(y)) for x, y in scaled],
            fill=255,
            width=max(1, round(thickness * frame.unit_px * _FINE)),
            joint="curve",
        )
    return canvas


def _field(canvas: Image.Image) -> Field:
    """Returns a fine canvas at the size of the image, as values in [0, 1]."""
    return np.asarray(canvas.reduce(_FINE), dtype=np.float32) / np.float32(255)


def _curve(
    start: NDArray[np.float64], angle: float, length: float, bend: float
) -> NDArray[np.float64]:
    """Returns points along a line that turns by ``bend`` radians, evenly faster."""
    t = np.linspace(0, 1, 24)
    heading = angle + bend * (0.5 * t + t * t)
    steps = np.stack((np.cos(heading), np.sin(heading)), axis=1) * (length / len(t))
    return start + np.cumsum(steps, axis=0)
