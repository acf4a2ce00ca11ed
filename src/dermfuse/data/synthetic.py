"""Synthetic dermoscopy: drawn lesions with masks, labels and the interferences of Fig. 1.

The images are drawn by NumPy and Pillow from a seed; none is derived from a photograph. They
serve to try every command without data. What a network learns from them says nothing about
skin.

A synthetic data set in the official folders and files of ISIC 2016.

One synthetic image: skin, lesion, interferences, light, in this order.

Random fields and smooth steps: what skin, lesions and interferences are drawn from.

What stands between the dermatoscope and the lesion (paper, Fig. 1).

Each interference is drawn with the same chance on both classes: in ISIC 2016 the coloured
discs lie on benign lesions only, a shortcut that this set does not offer.

Pigmented lesions, drawn after the ABCD rule that dermatologists teach.

A lesion is a shape (asymmetry, border) filled with pigment (colours, dermoscopic structures).
Each of these signs has a strength from 0, wholly benign, to 1, wholly malignant. The classes
overlap in their signs, by ``difficulty``, so that a benign lesion may look odd and a melanoma
harmless, as they do.

Skin as a dermatoscope shows it: tone, mottling, vessels, furrows and light.
"""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.data.labels import Label
from dermfuse.errors import ConfigError, StorageError
from dermfuse.folders import new_folder

Field = NDArray[np.float32]
"""(H, W); float32 throughout, for speed."""
Picture = NDArray[np.float32]
"""(3, H, W), red, green and blue in about [0, 1]: planes, for speed."""

_UNIT_DEVIATION = 1.3  # bicubic interpolation of white noise loses about a quarter of it


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
    width, height = size_px
    unit = min(width, height)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / unit
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / unit
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return Frame(grid_x, grid_y, unit)


def make_noise(rng: np.random.Generator, frame: Frame, scale: float, octaves: int = 1) -> Field:
    """Returns smooth noise of about zero mean and unit deviation.

    Args:
        rng: Where chance comes from.
        frame: The plane.
        scale: Size of the largest blotches, in shorter sides.
        octaves: Finer and finer layers, each half as large and 0.6 times as strong.
    """
    total = np.zeros(frame.shape, dtype=np.float32)
    power = 0.0
    for octave in range(octaves):
        cell_px = max(1.0, scale * frame.unit_px / 2**octave)
        weight = 0.6**octave
        total += weight * _interpolated_noise(rng, frame.shape, cell_px)
        power += weight**2
    return total * np.float32(_UNIT_DEVIATION / math.sqrt(power))


def make_grain(rng: np.random.Generator, frame: Frame) -> Field:
    """Returns white noise, one draw a pixel."""
    return rng.standard_normal(frame.shape, dtype=np.float32)


def smooth_step(value: Field, low: float | Field, high: float | Field) -> Field:
    """Returns 0 below ``low``, 1 above ``high`` and a smooth cubic between them."""
    t = np.clip((value - low) / (high - low), 0, 1)
    result: Field = t * t * (3 - 2 * t)
    return result


def absorb(image: Picture, amount: Field, densities: NDArray[np.float32]) -> None:
    """Darkens ``image`` in place as a dye does: by Beer and Lambert's law, per channel."""
    for channel, density in enumerate(densities):
        image[channel] *= np.exp(-density * amount)


def blend(image: Picture, colour: Iterable[Field | np.float32], opacity: Field) -> None:
    """Lays a colour, one value or field a channel, over ``image``, in place."""
    for channel, value in enumerate(colour):
        image[channel] += opacity * (value - image[channel])


def to_field(canvas: Image.Image) -> Field:
    """Returns an 8-bit grey canvas as values in [0, 1]."""
    return np.asarray(canvas, dtype=np.float32) / np.float32(255)


def _interpolated_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    height, width = shape
    rows, columns = height / cell_px, width / cell_px
    coarse = rng.standard_normal((int(rows) + 5, int(columns) + 5), dtype=np.float32)
    left, top = 1 + rng.random(2)  # the lattice shall not always start at the corner
    box = (left, top, left + columns, top + rows)
    resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, dtype=np.float32)


Mask = NDArray[np.bool_]

_FINE = 3  # lines are drawn this much larger, then averaged: Pillow draws no soft lines


class Interference(StrEnum):
    """What disturbs a dermoscopy image."""

    HAIR = "hair"
    INK = "ink"
    RULER = "ruler"
    GEL_BUBBLES = "gel_bubbles"
    COLOURED_DISC = "coloured_disc"
    DARK_CORNERS = "dark_corners"


CHANCES: Mapping[Interference, float] = {
    Interference.HAIR: 0.36,
    Interference.INK: 0.07,
    Interference.RULER: 0.22,
    Interference.GEL_BUBBLES: 0.18,
    Interference.COLOURED_DISC: 0.10,
    Interference.DARK_CORNERS: 0.26,
}
"""How often each is drawn when none is asked for, about as in ISIC 2016."""


def draw_kinds(rng: np.random.Generator) -> frozenset[Interference]:
    """Returns the interferences of one image, drawn by ``CHANCES``."""
    return frozenset(kind for kind, chance in CHANCES.items() if rng.random() < chance)


def paint_interference(
    rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask, kind: Interference
) -> None:
    """Draws one interference on ``image``, in place; ``mask`` is the lesion to keep clear of."""
    _PAINTERS[kind](rng, frame, image, mask)


def _hair(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    style = rng.choice(["few", "many", "stubble"], p=[0.6, 0.2, 0.2])
    count = int(rng.integers(*{"few": (2, 12), "many": (18, 45), "stubble": (12, 45)}[style]))
    lengths = (0.03, 0.10) if style == "stubble" else (0.35, 1.3)
    width = rng.uniform(0.004, 0.009) * (0.8 if style == "stubble" else 1.0)
    bearing = rng.uniform(0, 2 * np.pi)
    canvas, pen = _canvas(frame)
    for _unused in range(count):
        start = rng.uniform(-0.6, 0.6, 2) * np.array(frame.half) * 2
        angle = bearing + rng.normal(0, 0.5)
        length, bend = rng.uniform(*lengths), rng.normal(0, 0.5 if style != "stubble" else 0.1)
        points = _curve(start, angle, length, bend)
        thickness = max(1, round(width * rng.uniform(0.6, 1.4) * frame.unit_px * _FINE))
        tip = 2 * len(points) // 3  # a hair is thinner towards its tip
        pen.line(_on_canvas(points[: tip + 1], frame), fill=255, width=thickness, joint="curve")
        pen.line(_on_canvas(points[tip:], frame), fill=220, width=max(1, thickness * 2 // 3))
    hair = to_field(canvas.reduce(_FINE))
    light = rng.random() < 0.15
    colour = np.array((0.80, 0.68, 0.50) if light else (0.16, 0.10, 0.08), dtype=np.float32)
    colour *= np.float32(rng.uniform(0.6, 1.3))
    shadow = np.roll(hair, (1, 1), axis=(0, 1))
    image *= 1 - np.float32(0.12) * shadow
    blend(image, colour, hair * np.float32(rng.uniform(0.7, 0.95)))


def _ink(rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask) -> None:
    absorption = rng.choice([(0.75, 1.05, 0.22), (1.15, 0.75, 0.20), (0.95, 0.85, 0.55)])
    canvas, pen = _canvas(frame)
    half = np.array(frame.half)
    for _unused in range(int(rng.integers(1, 4))):
        side = rng.uniform(0, 2 * np.pi)
        start = half * np.array((math.cos(side), math.sin(side))) * rng.uniform(0.75, 1.1)
        points = _curve(start, side + rng.uniform(1.2, 2.2), rng.uniform(0.15, 0.6), rng.normal())
        thickness = round(rng.uniform(0.03, 0.08) * frame.unit_px * _FINE)
        pen.line(_on_canvas(points, frame), fill=255, width=max(2, thickness), joint="curve")
    blur = ImageFilter.GaussianBlur(0.012 * frame.unit_px)
    stroke = to_field(canvas.reduce(_FINE).filter(blur))
    # Ink beads on greasy skin: the stroke frays and breaks up into specks.
    beads = stroke + rng.uniform(0.15, 0.4) * make_noise(rng, frame, 0.02, octaves=2)
    amount = smooth_step(beads, rng.uniform(0.3, 0.6), 1.1) * smooth_step(stroke, 0.02, 0.3)
    amount = (amount + 0.15 * stroke) * np.float32(rng.uniform(0.7, 1.3))
    amount *= np.where(mask, np.float32(0.35), np.float32(1))
    absorb(image, amount, absorption.astype(np.float32))


def _ruler(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    canvas, pen = _canvas(frame)
    half_x, half_y = frame.half
    step = rng.uniform(0.03, 0.085)
    upright = rng.random() < 0.5
    length, edge = (2 * half_y, half_x) if upright else (2 * half_x, half_y)
    edge *= rng.choice([-1, 1])
    inset = rng.uniform(0.0, 0.12) * -np.sign(edge)
    tilt = rng.normal(0, 0.10)
    major = int(rng.choice([5, 10]))
    tick = rng.uniform(0.02, 0.05) * -np.sign(edge)
    ends = sorted(rng.uniform(-0.5, 0.5, 2) * length) if rng.random() < 0.6 else (-length, length)
    thickness = max(1, round(rng.uniform(0.003, 0.006) * frame.unit_px * _FINE))
    for index, along in enumerate(np.arange(ends[0], max(ends[1], ends[0] + 4 * step), step)):
        reach = tick * (1.9 if index % major == 0 else 1.0)
        base = edge + inset + tilt * along
        line = np.array([(base, along), (base + reach, along - tilt * reach)])
        line = line if upright else line[:, ::-1]
        pen.line(_on_canvas(line, frame), fill=255, width=thickness)
    marks = to_field(canvas.reduce(_FINE))
    blend(image, np.full(3, 0.10, dtype=np.float32), marks * np.float32(rng.uniform(0.6, 0.9)))


def _gel_bubbles(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    half_x, half_y = frame.half
    glow = np.zeros(frame.shape, dtype=np.float32)
    light = rng.uniform(0, 2 * np.pi)
    heart = rng.uniform(-0.8, 0.8, 2) * (half_x, half_y)
    spread = rng.uniform(0.15, 0.6)
    for _unused in range(int(rng.integers(4, 26))):
        x, y = heart + rng.normal(0, spread, 2)
        radius = min(0.10, 0.014 * math.exp(rng.exponential(0.55)))
        _add_bubble(glow, frame, (x, y), radius, light, rng.uniform(0.12, 0.38))
    image += glow


def _add_bubble(
    glow: Field,
    frame: Frame,
    place: tuple[float, float],
    radius: float,
    light: float,
    strength: float,
) -> None:
    """Adds a thin ring, bright towards the light and dark away from it."""
    height, width = frame.shape
    column, row = (place[0] * frame.unit_px + width / 2, place[1] * frame.unit_px + height / 2)
    reach = 1.4 * radius * frame.unit_px + 2
    rows = slice(max(0, int(row - reach)), max(0, int(row + reach)))
    columns = slice(max(0, int(column - reach)), max(0, int(column + reach)))
    x = frame.x[rows, columns] - np.float32(place[0])
    y = frame.y[rows, columns] - np.float32(place[1])
    distance = np.hypot(x, y)
    toward = (x * math.cos(light) + y * math.sin(light)) / np.maximum(distance, 1e-6)
    ring = np.exp(-(((distance - radius) / (0.9 / frame.unit_px + 0.05 * radius)) ** 2))
    glow[rows, columns] += strength * ring * (0.45 + 0.75 * toward)
    glow[rows, columns] += 0.12 * strength * (distance < radius)


_DISC_COLOURS = np.array(
    [
        (0.93, 0.55, 0.16),
        (0.16, 0.50, 0.78),
        (0.32, 0.74, 0.70),
        (0.80, 0.84, 0.12),
        (0.58, 0.52, 0.84),
        (0.24, 0.58, 0.36),
        (0.50, 0.60, 0.64),
    ],
    dtype=np.float32,
)


def _coloured_disc(rng: np.random.Generator, frame: Frame, image: Picture, mask: Mask) -> None:
    """Draws a sticker at the rim, beside the lesion as in ISIC 2016, never over it."""
    outer, inner = rng.choice(_DISC_COLOURS, 2, replace=False)
    weave = 1 + np.float32(0.03) * make_noise(rng, frame, 2.5 / frame.unit_px)
    distance, radius = _free_place(rng, frame, mask)
    soft = 1.5 / frame.unit_px
    image *= 1 - np.float32(0.15) * smooth_step(-distance, -radius - 0.03, -radius)
    sticker = (value * weave for value in outer)
    blend(image, sticker, smooth_step(-distance, -radius - soft, -radius))
    if rng.random() < 0.4:
        core = 0.5 * radius
        sticker = (value * weave for value in inner)
        blend(image, sticker, smooth_step(-distance, -core - soft, -core))


def _free_place(rng: np.random.Generator, frame: Frame, mask: Mask) -> tuple[Field, float]:
    """Returns the distance from a disc's centre and its radius; it keeps off the lesion."""
    half_x, half_y = frame.half
    radius = rng.uniform(0.20, 0.36)
    for _unused in range(12):
        side = rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(0.9, 1.15)
        x = np.float32(np.clip(1.4 * math.cos(side), -1, 1) * half_x * reach)
        y = np.float32(np.clip(1.4 * math.sin(side), -1, 1) * half_y * reach)
        distance = np.hypot(frame.x - x, frame.y - y)
        clearance = float(distance[mask].min(initial=9.0)) - 0.04
        if clearance > 0.8 * radius:
            return distance, min(radius, clearance)
    corners = [
        np.hypot(frame.x - i * half_x, frame.y - j * half_y) for i in (-1, 1) for j in (-1, 1)
    ]
    room = [float(distance[mask].min(initial=9.0)) - 0.04 for distance in corners]
    best = int(np.argmax(room))
    return corners[best], max(0.03, min(radius, room[best]))


def _dark_corners(rng: np.random.Generator, frame: Frame, image: Picture, _: Mask) -> None:
    image *= _field_of_view(rng, frame)


def _field_of_view(rng: np.random.Generator, frame: Frame) -> Field:
    diagonal = math.hypot(*frame.half)
    radius = diagonal * rng.uniform(0.74, 0.98)
    x, y = rng.normal(0, 0.03, 2)
    distance = np.hypot(frame.x - np.float32(x), frame.y - np.float32(y))
    softness = rng.uniform(0.01, 0.14)
    return smooth_step(-distance, -radius - softness, -radius + softness)


def _canvas(frame: Frame) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    height, width = frame.shape
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    return canvas, ImageDraw.Draw(canvas)


def _on_canvas(points: NDArray[np.float64], frame: Frame) -> list[tuple[float, float]]:
    """Returns points given in shorter sides from the centre in pixels of the fine canvas."""
    height, width = frame.shape
    scaled = (points * frame.unit_px + (width / 2, height / 2)) * _FINE
    return [(float(x), float(y)) for x, y in scaled]


def _curve(
    start: NDArray[np.float64], angle: float, length: float, bend: float
) -> NDArray[np.float64]:
    """Returns points along a line that turns by ``bend`` radians, evenly faster."""
    t = np.linspace(0, 1, 24)
    heading = angle + bend * (0.5 * t + t * t)
    steps = np.stack((np.cos(heading), np.sin(heading)), axis=1) * (length / len(t))
    return start + np.cumsum(steps, axis=0)


_PAINTERS: Mapping[Interference, Callable[[np.random.Generator, Frame, Picture, Mask], None]] = {
    Interference.INK: _ink,
    Interference.HAIR: _hair,
    Interference.COLOURED_DISC: _coloured_disc,
    Interference.GEL_BUBBLES: _gel_bubbles,
    Interference.RULER: _ruler,
    Interference.DARK_CORNERS: _dark_corners,
}
"""In the order in which they lie on the skin, the lowest first."""

PAINTING_ORDER = tuple(_PAINTERS)
"""From the skin up: ink, hair, stickers, gel, the plate's ruler, the tube's rim."""


TONES = np.array(
    [
        (0.93, 0.83, 0.80),
        (0.87, 0.74, 0.69),
        (0.80, 0.67, 0.58),
        (0.70, 0.53, 0.42),
        (0.54, 0.38, 0.29),
        (0.38, 0.26, 0.20),
    ]
)
"""Red, green and blue of the Fitzpatrick types I to VI under the dermatoscope's light."""
TONE_SHARES = (0.26, 0.32, 0.22, 0.11, 0.06, 0.03)
"""How often each type is drawn; the light ones prevail, as in ISIC 2016."""

MELANIN = np.array((0.24, 0.62, 0.98), dtype=np.float32)
"""Optical density per channel of brown pigment near the surface."""
DEEP_MELANIN = np.array((0.95, 0.78, 0.50), dtype=np.float32)
"""Of pigment in the dermis, which scattering turns blue-grey."""
BLOOD = np.array((0.10, 0.62, 0.42), dtype=np.float32)
"""Of blood in fine vessels."""


def draw_skin(rng: np.random.Generator, frame: Frame) -> Picture:
    """Returns bare skin before light and camera."""
    kind = rng.choice(len(TONES), p=TONE_SHARES)
    other = min(kind + 1, len(TONES) - 1)
    mix = rng.uniform(0, 0.8)
    tone = (1 - mix) * TONES[kind] + mix * TONES[other]
    mottling = 0.015 + min(0.09, rng.exponential(0.025))
    flush = 0.01 + min(0.05, rng.exponential(0.022))
    melanin = mottling * make_noise(rng, frame, rng.uniform(0.05, 0.2), octaves=4)
    melanin += _furrows(rng, frame)
    blood = flush * make_noise(rng, frame, rng.uniform(0.04, 0.2), octaves=3)
    blood += _vessels(rng, frame)
    skin = np.empty((3, *frame.shape), dtype=np.float32)
    skin[:] = tone[:, None, None]
    absorb(skin, melanin, MELANIN)
    absorb(skin, blood, BLOOD)
    return skin


def shine(rng: np.random.Generator, frame: Frame, image: Picture) -> None:
    """Lights ``image`` as a hand-held dermatoscope does, unevenly and never quite white."""
    tint = np.exp(rng.normal(0, (0.035, 0.012, 0.06)))
    if rng.random() < 0.08:  # cameras set to the wrong light
        tint *= rng.choice([(0.82, 0.98, 1.22), (1.10, 0.98, 0.80), (1.12, 0.92, 0.86)])
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.12)
    falloff = rng.uniform(0, 0.22)
    light = 1 + np.float32(slope * np.cos(angle)) * frame.x
    light += np.float32(slope * np.sin(angle)) * frame.y
    light -= falloff * (frame.x**2 + frame.y**2)
    light *= np.exp(rng.normal(0.0, 0.08))
    grain = np.float32(rng.uniform(0.006, 0.016)) * make_grain(rng, frame)
    for channel, gain in enumerate(tint.astype(np.float32)):
        image[channel] *= light * gain
        image[channel] += grain


def _vessels(rng: np.random.Generator, frame: Frame) -> Field:
    """Returns fine winding lines: where smooth noise passes through zero."""
    strength = max(0.0, rng.normal(0.06, 0.12))
    if strength == 0.0:
        return np.zeros(frame.shape, dtype=np.float32)
    level = make_noise(rng, frame, rng.uniform(0.05, 0.12), octaves=2)
    patches = np.clip(make_noise(rng, frame, 0.3), 0, 1)
    lines: Field = np.float32(strength) * np.exp(-((level / np.float32(0.12)) ** 2)) * patches
    return lines


def _furrows(rng: np.random.Generator, frame: Frame) -> Field:
    """Returns the rhomboid lines of the skin's relief: two families of wavy stripes."""
    strength = rng.uniform(0, 0.05)
    pitch = rng.uniform(0.025, 0.06)
    first = rng.uniform(0, np.pi)
    wave = 2.2 * make_noise(rng, frame, 0.07)
    total = np.zeros(frame.shape, dtype=np.float32)
    for angle in (first, first + rng.uniform(0.9, 1.5)):
        across = np.float32(np.cos(angle)) * frame.x + np.float32(np.sin(angle)) * frame.y
        stripes = np.cos(np.float32(2 * np.pi / pitch) * across + wave)
        for _ in range(3):  # the eighth power: narrow crests
            stripes *= stripes
        total += stripes
    return np.float32(-strength) * total


_VEIL = np.array((0.55, 0.60, 0.70), dtype=np.float32)
_SCAR = np.array((0.90, 0.84, 0.82), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Signs:
    """How malignant each sign looks, from 0 to 1.

    Args:
        asymmetry: Of the outline and of the pigment.
        border: Notches, and a sharp end here and there.
        colours: Black, blue-grey, red and white beside the browns.
        structures: Irregular network, dots, streaks and veil.
    """

    asymmetry: float
    border: float
    colours: float
    structures: float


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Where a lesion lies.

    Args:
        depth: Above 0 inside, 0 on the border, in mean radii; falls to the outside.
        opacity: Share of the pigment there, 0.5 on the border.
        rho: Distance from the centre in radii of the outline, 1 on the border.
        theta: Direction from the centre, in radians.
        centre: Of the lesion, in shorter sides.
        radius: Mean radius, in shorter sides.
    """

    depth: Field
    opacity: Field
    rho: Field
    theta: Field
    centre: tuple[float, float]
    radius: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels that have at least half of the lesion's pigment."""
        return self.depth >= 0


def draw_signs(rng: np.random.Generator, label: Label, difficulty: float) -> Signs:
    """Returns how malignant a lesion of this class looks.

    Args:
        rng: Where chance comes from.
        label: Its class.
        difficulty: 0 keeps the classes apart, 1 all but mixes them.
    """
    distance = 6.0 - 5.0 * difficulty  # between the classes, in deviations
    latent = rng.standard_normal() + (distance / 2 if label == Label.MALIGNANT else -distance / 2)
    logits = 1.15 * latent + 0.6 * rng.standard_normal(4)
    return Signs(*(float(1 / (1 + math.exp(-logit))) for logit in logits))


def draw_outline(
    rng: np.random.Generator, frame: Frame, signs: Signs, *, largest: float = 0.55
) -> Outline:
    """Returns the shape of a lesion: one piece without holes, but for crumbs at its border.

    Args:
        rng: Where chance comes from.
        frame: The plane.
        signs: Its asymmetry and border decide the shape.
        largest: Largest mean radius, in shorter sides.
    """
    growth = 0.5 * (signs.asymmetry + signs.border)
    radius = float(min(largest, np.exp(rng.normal(math.log(0.25 + 0.07 * growth), 0.36))))
    radius = max(radius, 0.07)
    free = (max(0.02, side - 1.1 * radius) for side in frame.half)
    centre_x, centre_y = (float(np.clip(rng.normal(0, 0.45), -1, 1) * room) for room in free)
    # Warping the plane bends the outline; adding as much noise to it would tear it to pieces.
    warp = radius * (0.035 + 0.06 * signs.border)
    x = frame.x - centre_x + warp * make_noise(rng, frame, 0.5 * radius, octaves=3)
    y = frame.y - centre_y + warp * make_noise(rng, frame, 0.5 * radius, octaves=3)
    angle, stretch = rng.uniform(0, np.pi), math.sqrt(rng.uniform(1.0, 1.6 + 0.3 * growth))
    along = (np.cos(angle) * x + np.sin(angle) * y) / np.float32(radius * stretch)
    across = (np.cos(angle) * y - np.sin(angle) * x) / np.float32(radius / stretch)
    theta = np.arctan2(across, along)
    distance = np.hypot(along, across)
    reach, softness = _polar_profile(rng, signs)
    table = np.linspace(-np.pi, np.pi, len(reach), dtype=np.float32)
    limit = np.interp(theta, table, reach).astype(np.float32)
    ramp = np.interp(theta, table, softness).astype(np.float32)
    depth = limit - distance
    opacity = smooth_step(depth, -ramp, ramp)
    return Outline(depth, opacity, distance / limit, theta, (centre_x, centre_y), radius)


def paint_lesion(
    rng: np.random.Generator,
    frame: Frame,
    image: Picture,
    outline: Outline,
    signs: Signs,
) -> None:
    """Lays a lesion's pigment on ``image``, in place."""
    melanin = _body(rng, frame, outline, signs)
    melanin += _network(rng, frame, outline, signs)
    melanin += _globules(rng, frame, outline, signs)
    deep = np.zeros(frame.shape, dtype=np.float32)
    blood = min(0.5, rng.exponential(0.10)) * (1 + 0.3 * make_noise(rng, frame, 0.15))
    veil = np.zeros(frame.shape, dtype=np.float32)
    scar = np.zeros(frame.shape, dtype=np.float32)
    for colour, chance in (("black", 1.0), ("blue", 0.9), ("red", 0.7), ("white", 0.7)):
        if rng.random() > chance * signs.colours + 0.04:
            continue
        patch = _patch(rng, frame, outline) * rng.uniform(0.55, 1.0)
        if colour == "black":
            melanin += 0.9 * patch
            deep += 0.45 * patch
        elif colour == "blue":
            deep += 0.6 * patch
            melanin *= 1 - 0.35 * patch
            veil += 0.35 * patch
        elif colour == "red":
            blood += 0.6 * patch
            melanin *= 1 - 0.45 * patch
        else:
            melanin *= 1 - 0.8 * patch
            scar += 0.35 * patch
    melanin = np.maximum(melanin, 0.04)
    deep += 0.16 * melanin * melanin  # thick pigment is black, not red
    absorb(image, melanin * outline.opacity, MELANIN)
    absorb(image, deep * outline.opacity, DEEP_MELANIN)
    absorb(image, blood * outline.opacity, BLOOD)
    blend(image, _VEIL, np.clip(veil, 0, 0.6) * outline.opacity)
    blend(image, _SCAR, np.clip(scar, 0, 0.6) * outline.opacity)


def _polar_profile(
    rng: np.random.Generator, signs: Signs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns how far the outline reaches, and how soft its end is, by direction."""
    theta = np.linspace(-np.pi, np.pi, 257)
    reach = np.ones_like(theta)
    for order in range(1, 12):
        lobes = 0.03 + (0.14 * signs.asymmetry if order <= 4 else 0.09 * signs.border)
        amplitude = lobes * rng.normal() / order**0.7
        reach += amplitude * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    reach = np.maximum(reach, 0.35)
    softness = np.full_like(theta, rng.uniform(0.08, 0.28))
    sector = 0.5 + 0.5 * np.cos(theta + rng.uniform(0, 2 * np.pi))
    softness *= 1 - 0.75 * signs.border * sector  # a melanoma may end abruptly on one side
    return reach, softness


def _body(rng: np.random.Generator, frame: Frame, outline: Outline, signs: Signs) -> Field:
    """Returns the brown ground of the lesion."""
    level = math.exp(rng.normal(-0.30, 0.38))
    profile = rng.choice([-0.35, 0.0, 0.25, 0.6])  # pale centre, even, darker, dark centre
    inner = np.clip(1 - outline.rho, 0, 1)
    body = 1 + profile * inner
    mottling = rng.uniform(0.10, 0.22) + 0.16 * signs.structures
    body += mottling * make_noise(rng, frame, 0.5 * outline.radius, octaves=4)
    side = rng.uniform(0, 2 * np.pi)
    lean = np.cos(outline.theta - side) * np.minimum(outline.rho, 1)
    body += 0.55 * signs.asymmetry * rng.uniform(0.3, 1) * lean
    ground: Field = (level * np.clip(body, 0.15, 3)).astype(np.float32)
    return ground


def _network(rng: np.random.Generator, frame: Frame, outline: Outline, signs: Signs) -> Field:
    """Returns the pigment network: a honeycomb, regular in a naevus, patchy in a melanoma."""
    pitch = rng.uniform(0.016, 0.034)
    strength = max(0.0, rng.normal(0.14, 0.18)) * (1 + 0.6 * signs.structures)
    disorder = 1.2 + 1.6 * signs.structures
    turn = rng.uniform(0, np.pi)
    wave_x = disorder * make_noise(rng, frame, 2.2 * pitch)
    wave_y = disorder * make_noise(rng, frame, 2.2 * pitch)
    total = np.zeros(frame.shape, dtype=np.float32)
    for k in range(3):
        angle = turn + k * np.pi / 3
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        phase = np.float32(2 * np.pi / pitch) * (c * frame.x + s * frame.y)
        total += np.cos(phase + c * wave_x + s * wave_y)
    lines = smooth_step(-total, -0.6, 1.3)
    patches = make_noise(rng, frame, 0.6 * outline.radius, octaves=2)
    presence = smooth_step(patches, 2.2 * signs.structures - 2.4, 2.2 * signs.structures - 0.6)
    network: Field = strength * (lines - 0.35) * presence
    return network


def _globules(rng: np.random.Generator, frame: Frame, outline: Outline, signs: Signs) -> Field:
    """Returns dots and globules: even and brown in a naevus, odd and black in a melanoma."""
    total = np.zeros(frame.shape, dtype=np.float32)
    if rng.random() > 0.35 + 0.45 * signs.structures:
        return total
    height, width = frame.shape
    count = int(rng.integers(15, 90))
    spread = 0.9 - 0.45 * signs.structures  # a melanoma's dots crowd in one place
    heart = signs.structures * rng.normal(0, 0.45, 2) * outline.radius
    places = (
        np.array(outline.centre)
        + heart
        + rng.normal(0, 0.6, (count, 2)) * (spread * outline.radius)
    )
    even = 0.010 * math.exp(rng.normal(0, 0.3))
    radii = even * np.exp(rng.normal(0, 0.15 + 0.45 * signs.structures, count)) * frame.unit_px
    strengths = rng.uniform(0.25, 0.7 + 0.9 * signs.structures, count)
    columns = places[:, 0] * frame.unit_px + width / 2
    rows = places[:, 1] * frame.unit_px + height / 2
    for column, row, radius, strength in zip(columns, rows, radii, strengths, strict=True):
        add_spot(total, (column, row), radius, strength)
    return total


def add_spot(field: Field, place_px: tuple[float, float], radius_px: float, value: float) -> None:
    """Adds a soft round spot to ``field``, in place; what lies outside is left out."""
    column, row = place_px
    reach = 2.2 * radius_px + 1
    top, bottom = max(0, int(row - reach)), min(field.shape[0], int(row + reach) + 1)
    left, right = max(0, int(column - reach)), min(field.shape[1], int(column + reach) + 1)
    if top >= bottom or left >= right:
        return
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(column)
    squared = (x * x + y * y) / np.float32(radius_px * radius_px)
    field[top:bottom, left:right] += np.float32(value) * np.exp(-squared * squared)


def _patch(rng: np.random.Generator, frame: Frame, outline: Outline) -> Field:
    """Returns an irregular area inside the lesion, from 0 to 1."""
    angle, away = rng.uniform(0, 2 * np.pi), outline.radius * rng.uniform(0.1, 0.75)
    x = frame.x - np.float32(outline.centre[0] + away * math.cos(angle))
    y = frame.y - np.float32(outline.centre[1] + away * math.sin(angle))
    size = outline.radius * rng.uniform(0.35, 0.8)
    near = 1 - np.hypot(x, y) / np.float32(size)
    near += 0.35 * make_noise(rng, frame, 0.4 * outline.radius, octaves=4)
    return smooth_step(near, -0.2, rng.uniform(0.6, 1.2))


SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 4096


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
    mask: NDArray[np.bool_]
    label: Label
    interferences: frozenset[Interference]


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
    check_size(size_px)
    check_between("difficulty", difficulty, 0.0, 1.0)
    kinds = draw_kinds(rng) if interferences is None else interferences
    frame = make_frame(size_px)
    signs = draw_signs(rng, label, difficulty)
    largest = 0.22 if Interference.COLOURED_DISC in kinds else 0.55  # room for the sticker
    outline = draw_outline(rng, frame, signs, largest=largest)
    image = draw_skin(rng, frame)
    paint_lesion(rng, frame, image, outline, signs)
    mask = outline.mask
    for kind in PAINTING_ORDER:
        if kind in kinds:
            paint_interference(rng, frame, image, mask, kind)
    shine(rng, frame, image)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # (H, W, 3)
    return SyntheticLesion(pixels, mask, label, kinds)


def check_size(size_px: tuple[int, int]) -> None:
    """Refuses a width or a height that cannot be drawn.

    Raises:
        ConfigError: If a side is out of range.
    """
    if not all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in size_px):
        raise ConfigError(
            f"the image size is {size_px[0]} x {size_px[1]} px",
            expected=f"sides from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px",
        )


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value out of range, NaN among them.

    Raises:
        ConfigError: If it is.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}", expected=f"a value from {low} to {high}")


FIRST_TRAIN_ID = 9_900_000
"""Synthetic training images are ISIC_9900000 and up: the archive has no such ids."""
FIRST_TEST_ID = 9_950_000
"""Synthetic test images are ISIC_9950000 and up."""

_MOST_IMAGES = FIRST_TEST_ID - FIRST_TRAIN_ID
_JPEG_QUALITY = 92
_README = """\
These images are SYNTHETIC: drawn by dermfuse from a seed, not photographs of anyone's skin.

They have the file names and folders of ISIC 2016 so that every command runs on them; their ids
(ISIC_99xxxxx) do not exist in the ISIC archive. A network trained on them knows nothing about
skin cancer.

seed: {seed}
training images: {train_count}, of which malignant: {train_malignant}
test images: {test_count}, of which malignant: {test_malignant}
size: {width} x {height} px
difficulty: {difficulty}
"""


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
        width: Of every image, in pixels.
        height: Of every image, in pixels.
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, slots=True)
class _Part:
    """The training or the test part of the set, while it is written."""

    title: str  # as the official names spell it
    first_id: int
    labels: tuple[Label, ...]
    with_truth: bool
    words: tuple[str, str]  # what the official table calls benign and malignant


def synthesize_isic2016(  # noqa: PLR0913 — each is a choice of the command
    folder: str | Path,
    *,
    train_count: int,
    test_count: int,
    seed: int = 0,
    size_px: tuple[int, int] = (320, 240),
    malignant_fraction: float = 0.2,
    difficulty: float = 0.4,
    with_test_truth: bool = True,
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
        with_test_truth: Also writes the masks and labels of the test images.
        progress: Called with the number of images done and of all, after each.

    Raises:
        ConfigError: If a count, the size or a fraction is out of range.
        RunError: If the folder exists and is not empty.
        StorageError: If it cannot be written.
    """
    folder = Path(folder)
    check_between("train_count", train_count, 1, _MOST_IMAGES)
    check_between("test_count", test_count, 0, _MOST_IMAGES)
    check_between("seed", seed, 0, 2**63 - 1)
    check_between("malignant_fraction", malignant_fraction, 0.0, 1.0)
    check_between("difficulty", difficulty, 0.0, 1.0)
    check_size(size_px)
    parts = (
        _Part(
            "Training",
            FIRST_TRAIN_ID,
            _labels(train_count, malignant_fraction),
            with_truth=True,
            words=("benign", "malignant"),
        ),
        _Part(
            "Test",
            FIRST_TEST_ID,
            _labels(test_count, malignant_fraction),
            with_truth=with_test_truth,
            words=("0.0", "1.0"),
        ),
    )
    report = SynthesisReport(
        folder,
        train_count=train_count,
        train_malignant=sum(parts[0].labels),
        test_count=test_count,
        test_malignant=sum(parts[1].labels),
        seed=seed,
        width=size_px[0],
        height=size_px[1],
        difficulty=difficulty,
    )
    done = 0
    with _whole_or_not_at_all(folder) as staging:
        for part in parts:
            for _ in _write_part(staging, part, report):
                done += 1
                if progress is not None:
                    progress(done, train_count + test_count)
        (staging / "README.txt").write_text(_README.format(**asdict(report)), encoding="utf-8")
    return report


def _labels(count: int, malignant_fraction: float) -> tuple[Label, ...]:
    """Returns labels with the malignant ones spread evenly, whatever the count."""

    def malignant_before(index: int) -> int:
        return math.floor(index * malignant_fraction + 0.5)

    return tuple(Label(malignant_before(i + 1) - malignant_before(i)) for i in range(count))


def _write_part(folder: Path, part: _Part, report: SynthesisReport) -> Iterator[None]:
    """Draws and writes one part, yielding after each image."""
    if not part.labels:
        return
    images = folder / f"ISBI2016_ISIC_Part3_{part.title}_Data"
    masks = folder / f"ISBI2016_ISIC_Part1_{part.title}_GroundTruth"
    images.mkdir()
    if part.with_truth:
        masks.mkdir()
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    for index, label in enumerate(part.labels):
        image_id = f"ISIC_{part.first_id + index:07d}"
        rng = np.random.default_rng((report.seed, part.first_id, index))
        drawn = draw_lesion(
            rng, label=label, size_px=(report.width, report.height), difficulty=report.difficulty
        )
        _write_image(images / f"{image_id}.jpg", drawn)
        if part.with_truth:
            mask = Image.fromarray(drawn.mask.astype(np.uint8) * np.uint8(255))
            mask.save(masks / f"{image_id}_Segmentation.png")
            writer.writerow((image_id, part.words[label]))
        yield
    if part.with_truth:
        labels_path = folder / f"ISBI2016_ISIC_Part3_{part.title}_GroundTruth.csv"
        labels_path.write_text(table.getvalue(), encoding="utf-8")


def _write_image(path: Path, drawn: SyntheticLesion) -> None:
    names = ", ".join(sorted(drawn.interferences)) or "none"
    Image.fromarray(drawn.image).save(
        path,
        quality=_JPEG_QUALITY,
        comment=f"synthetic, drawn by dermfuse; interferences: {names}",
    )


@contextmanager
def _whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Yields a folder beside ``folder`` that takes its place at the end, or is removed."""
    new_folder(folder, what="synthetic data")
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.resolve().parent))
        yield staging
        staging.chmod(folder.stat().st_mode)  # mkdtemp makes private folders
        folder.rmdir()  # empty: Windows renames to no existing folder
        staging.rename(folder)
        staging = None
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror or error})",
            expected="a writable folder with free space",
            action="Choose another folder or free some space",
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
