"""Pigmented lesions, drawn after the ABCD rule that dermatologists teach.

A lesion is a shape (asymmetry, border) filled with pigment (colours, dermoscopic structures).
Each of these signs has a strength from 0, wholly benign, to 1, wholly malignant. The classes
overlap in their signs, by ``difficulty``, so that a benign lesion may look odd and a melanoma
harmless, as they do.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.synthetic.fields import (
    Field,
    Frame,
    Picture,
    absorb,
    blend,
    make_noise,
    smooth_step,
)
from dermfuse.data.synthetic.skin import BLOOD, DEEP_MELANIN, MELANIN
from dermfuse.scores import Label

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
