"""Skin as a dermatoscope shows it: tone, mottling, vessels, furrows and light."""

import numpy as np

from dermfuse.data.synthetic.fields import Field, Frame, Picture, absorb, make_grain, make_noise

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
