"""CIE L*a*b* of sRGB pixels, the six colours of dermoscopy, and the tone of the skin around.

The tone is an individual typology angle, ``ITA = arctan((L* - 50) / b*)`` in degrees (Chardon,
Cretois and Hourseau, Skin colour typology and suntanning pathways, Int J Cosmet Sci 13(4), 1991),
defined for skin under a known light. The light, polarisation and white balance of a dermatoscope
are not known, so here it is a rough proxy: it says which photographs a network has met, and nothing
about a person.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.imaging.geometry import Reduced, grow, reduce_image, reduce_mask

Lab = NDArray[np.float32]

REFERENCES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "white": ((245, 225, 215),),
    "red": ((195, 110, 105), (165, 60, 55)),
    "light brown": (
        (139, 79, 53), (134, 59, 34), (151, 102, 74), (164, 99, 67), (166, 126, 102),
        (174, 87, 46), (178, 126, 89), (200, 124, 80),
    ),
    "dark brown": ((83, 43, 35), (105, 45, 30), (110, 64, 48)),
    "blue-grey": ((75, 70, 82), (98, 85, 95), (142, 121, 132)),
    "black": ((25, 20, 20), (52, 35, 32)),
}  # fmt: skip
"""Examples of each colour in sRGB, after ``skin_gains``.

The six are those of the ABCD rule (Stolz 1994, Nachbar 1994), which names them and gives no
values. The examples are ours: names laid by eye on the 24 clusters (k-means in L*a*b*) of the
lesion pixels of 300 ISIC 2016 training images, red, blue-grey and black drawn a little purer.
"""
LARGEST_DISTANCE = 20.0
"""A pixel farther than this from every example (CIE 1976 ΔE) has none of the six colours."""
SKIN = (191, 173, 164)
"""The median over those images of the skin around the lesion; only its tint is used, and its
lightness where an image shows no skin."""

_MIN_SKIN_PX = 50
_MIN_SKIN_LIGHT = 0.03  # linear; darker is the edge of the lens, or hair
_TO_XYZ = np.array(  # IEC 61966-2-1, relative to D65
    [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ],
    dtype=np.float32,
)
_WHITE = _TO_XYZ.sum(axis=1)
_ONES = np.ones(3, np.float32)
_NAMES = tuple(REFERENCES)
_OWNERS = np.repeat(np.arange(len(_NAMES)), [len(shades) for shades in REFERENCES.values()])
Mask = NDArray[np.bool_]

TONES: Mapping[str, float] = {
    "very light": 55.0,
    "light": 41.0,
    "intermediate": 28.0,
    "tan": 10.0,
    "brown": -30.0,
    "dark": -math.inf,
}
"""Each class and the angle in degrees above which it begins (Del Bino and Bernerd, Variations in
skin colour and the biological consequences of ultraviolet radiation exposure, Br J Dermatol
169(s3), 2013)."""
MARGIN = 0.05
"""What lies so near to the lesion, as a share of the frame's shorter side, is not called skin: its
border is."""
DARKNESS = 0.4
"""Pixels darker than this share of light skin are the edge of the lens, a ruler, ink or hair."""
SATURATED = 250
"""Pixels with a channel from here on, of 255, are glare: their colour is lost."""
MIN_SHARE = 0.05
"""An image of which less is skin has no tone."""

_LIGHT_SKIN = 90  # percentile of what is left: up to nine tenths may be the edge of the lens
_SOFT_EDGE_PX = 2  # of dark things, on the working copy


def _linear() -> NDArray[np.float32]:
    """Returns the linear light of each of the 256 sRGB values."""
    value = np.arange(256) / 255
    curve = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)


_LINEAR = _linear()


def to_lab(rgb: NDArray[np.uint8], *, gains: NDArray[np.float32] = _ONES) -> Lab:
    """Returns sRGB pixels in CIE L*a*b* (1976, D65).

    Args:
        rgb: (..., 3) uint8.
        gains: What the linear red, green and blue are multiplied by first. (3,)

    Returns:
        (..., 3) float32: L* in [0, 100] without gains, a* (green to red), b* (blue to yellow).

    Example:
        >>> to_lab(np.array([[255, 255, 255], [255, 0, 0]], np.uint8)).round().tolist()
        [[100.0, 0.0, 0.0], [53.0, 80.0, 67.0]]
    """
    # Not @: BLAS would wake threads for it, whose waiting costs more than the product.
    xyz = np.einsum("...c,kc->...k", _LINEAR[rgb], _TO_XYZ / _WHITE[:, None] * gains)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * np.float32(841 / 108) + np.float32(4 / 29))
    lab: Lab = np.empty_like(f)
    lab[..., 0] = 116 * f[..., 1] - 16
    lab[..., 1] = 500 * (f[..., 0] - f[..., 1])
    lab[..., 2] = 200 * (f[..., 1] - f[..., 2])
    lab += np.float32(0.0)  # no negative zeros
    return lab


def skin_gains(skin: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the gains that give skin the tint of ``SKIN`` and leave its lightness alone.

    They take the cast of lamp and camera out, so that grey skin does not make a nevus blue-grey:
    the pixels around a lesion are known to be skin, where methods without that knowledge assume
    a grey world (Barata, Celebi and Marques, Improving dermoscopy image classification using
    color constancy, IEEE J Biomed Health Inform 19(3), 2015). What is unusual of the skin's own
    tint (a reddening all around, say) goes with the cast.

    Args:
        skin: Pixels around the lesion, (N, 3); too dark ones are left out, and with fewer than
            50 others the gains are 1.

    Example:
        >>> skin_gains(np.full((60, 3), SKIN, np.uint8)).round(3).tolist()
        [1.0, 1.0, 1.0]
    """
    light = _LINEAR[skin]
    light = light[np.einsum("nc,c->n", light, _TO_XYZ[1]) > _MIN_SKIN_LIGHT]
    if len(light) < _MIN_SKIN_PX:
        return _ONES
    found, usual = np.maximum(np.median(light, axis=0), 1e-3), _LINEAR[list(SKIN)]
    gains: NDArray[np.float32] = usual / found * (found @ _TO_XYZ[1]) / (usual @ _TO_XYZ[1])
    return gains.astype(np.float32)


_SHADES = to_lab(np.array([rgb for shades in REFERENCES.values() for rgb in shades], np.uint8))


def colour_shares(lesion: Lab, skin: Lab) -> dict[str, float]:
    """Returns the share of a lesion that has each of the six colours; the rest has none.

    A pixel has the colour of the nearest example. It has none if the skin around the lesion is
    nearer still or every example farther than ``LARGEST_DISTANCE``, and white only if it is
    lighter than that skin, as the ABCD rule demands.

    Args:
        lesion: The lesion's pixels, (N, 3), after ``skin_gains``.
        skin: The pixels around it, likewise, (M, 3); without any, ``SKIN`` stands for them.

    Example:
        >>> pixels = to_lab(np.array([[83, 43, 35], [85, 43, 35], [20, 200, 20]], np.uint8))
        >>> shares = colour_shares(pixels, to_lab(np.array([SKIN], np.uint8)))
        >>> {name: round(share, 2) for name, share in shares.items() if share}
        {'dark brown': 0.67}
    """
    around = np.median(skin, axis=0) if len(skin) else to_lab(np.array(SKIN, np.uint8))
    examples = np.concatenate([_SHADES, around[None].astype(np.float32)])
    # |p - e|² = |p|² - 2 p·e + |e|²; the first is the same for every example
    squares = (examples**2).sum(axis=1) - 2 * np.einsum("nc,ec->ne", lesion, examples)
    nearest = squares.argmin(axis=1)
    least = squares[np.arange(len(lesion)), nearest] + (lesion**2).sum(axis=1)
    named = (nearest < len(_SHADES)) & (least <= LARGEST_DISTANCE**2)
    owner = _OWNERS[np.minimum(nearest, len(_SHADES) - 1)]
    named &= (owner != _NAMES.index("white")) | (lesion[:, 0] > around[0])
    counts = np.bincount(owner[named], minlength=len(_NAMES))
    return {name: float(count) / len(lesion) for name, count in zip(_NAMES, counts, strict=True)}


@dataclass(frozen=True, slots=True)
class SkinTone:
    """The colour of the skin around a lesion, medians in CIE L*a*b* (D65).

    Args:
        lightness: L*, in [0, 100].
        b: b*, blue below 0 and yellow above.
        share: The share of the frame that is skin, in (0, 1].
    """

    lightness: float
    b: float
    share: float

    @property
    def angle_degrees(self) -> float | None:
        """The individual typology angle; None unless b* is above 0, as skin's is.

        Where it is not, the cast of the light hides the skin's hue.

        Example:
            >>> [SkinTone(*each, share=1).angle_degrees for each in ((70, 20), (30, 20), (70, 0))]
            [45.0, -45.0, None]
        """
        return math.degrees(math.atan((self.lightness - 50) / self.b)) if self.b > 0 else None


def measure_skin(image: NDArray[np.uint8] | Reduced, lesion: Mask) -> SkinTone | None:
    """Returns the tone of the skin around a lesion; None where too little of it is seen.

    Args:
        image: (H, W, 3) uint8, RGB, or what ``reduce_image`` made of it.
        lesion: The mask of the lesion. (H, W)

    Example:
        >>> image, lesion = np.full((60, 80, 3), 132, np.uint8), np.zeros((60, 80), bool)
        >>> image[:] = (224, 177, 132)
        >>> image[20:40, 20:60], lesion[20:40, 20:60] = (83, 43, 35), True
        >>> tone = measure_skin(image, lesion)
        >>> round(tone.lightness, 1), round(tone.b, 1), round(tone.angle_degrees, 1)
        (75.4, 29.5, 40.7)
    """
    reduced = reduce_image(image).image
    skin = _find_skin(reduced, reduce_mask(lesion))
    share = float(skin.mean())
    if share < MIN_SHARE:
        return None
    lightness, _, b = np.median(to_lab(reduced[skin]), axis=0).tolist()
    return SkinTone(lightness, b, share)


def name_tone(angle_degrees: float) -> str:
    """Returns the class of an angle; one that lies on a limit belongs to the darker class.

    Example:
        >>> name_tone(45.0), name_tone(41.0), name_tone(-31.0)
        ('light', 'intermediate', 'dark')
    """
    return next(name for name, above in TONES.items() if angle_degrees > above)


def _find_skin(image: NDArray[np.uint8], lesion: Mask) -> Mask:
    """Returns which pixels of a working copy are skin."""
    skin = ~grow(lesion, max(1, round(MARGIN * min(lesion.shape))))
    skin &= (image < SATURATED).all(axis=2)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    if not skin.any():
        return skin
    dark = grey < DARKNESS * np.percentile(grey[skin], _LIGHT_SKIN)
    return skin & ~grow(dark & ~lesion, _SOFT_EDGE_PX)
