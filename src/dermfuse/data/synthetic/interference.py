"""What stands between the dermatoscope and the lesion (paper, Fig. 1).

Each interference is drawn with the same chance on both classes: in ISIC 2016 the coloured
discs lie on benign lesions only, a shortcut that this set does not offer.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.data.synthetic.fields import (
    Field,
    Frame,
    Picture,
    absorb,
    blend,
    make_noise,
    smooth_step,
    to_field,
)

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
