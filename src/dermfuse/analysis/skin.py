"""The tone of the skin around a lesion, as an individual typology angle.

The angle is ``ITA = arctan((L* - 50) / b*)`` in degrees (Chardon, Cretois and Hourseau, Skin colour
typology and suntanning pathways, Int J Cosmet Sci 13(4), 1991), defined for skin under a known
light. The light, polarisation and white balance of a dermatoscope are not known, so here it is a
rough proxy: it says which photographs a network has met, and nothing about a person.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.colours import to_lab
from dermfuse.analysis.pieces import grow
from dermfuse.analysis.reduction import Reduced, reduce_image, reduce_mask

Mask = NDArray[np.bool_]

TONES: Mapping[str, float] = MappingProxyType(
    {
        "very light": 55.0,
        "light": 41.0,
        "intermediate": 28.0,
        "tan": 10.0,
        "brown": -30.0,
        "dark": -math.inf,
    }
)
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


@dataclass(frozen=True, slots=True)
class SkinTone:
    """The colour of the skin around a lesion, medians in CIE L*a*b* (D65).

    Args:
        lightness: L*, in [0, 100].
        b: b*, blue below 0 and yellow above.
        share: Of the frame that was looked at, in (0, 1].
    """

    lightness: float
    b: float
    share: float

    @property
    def angle_degrees(self) -> float | None:
        """The individual typology angle; None where the cast of the light hides the skin's hue."""
        return typology_angle(self.lightness, self.b)


def measure_skin(image: NDArray[np.uint8] | Reduced, lesion: Mask) -> SkinTone | None:
    """Returns the tone of the skin around a lesion; None where too little of it is seen.

    Args:
        image: (H, W, 3) uint8, RGB, or what ``reduce_image`` made of it.
        lesion: Its mask. (H, W)

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


def typology_angle(lightness: float, b: float) -> float | None:
    """Returns the individual typology angle in degrees; None unless b* is above 0, as skin's is.

    Example:
        >>> typology_angle(70, 20), typology_angle(30, 20), typology_angle(70, 0)
        (45.0, -45.0, None)
    """
    return math.degrees(math.atan((lightness - 50) / b)) if b > 0 else None


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
