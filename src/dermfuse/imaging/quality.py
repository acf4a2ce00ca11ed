"""Whether an image is good enough to be looked at: size, focus, exposure, contrast, framing.

Each check has a threshold that about one in a hundred of the ISIC 2016 training images fails (300
drawn at random; short side 320 px; docs/analysis.md has the table). They say what may make a
result less trustworthy, and refuse nothing. Cheap statistics of the whole image, its appearance,
tell dermoscopy from other pictures.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.imaging.colours import to_lab
from dermfuse.imaging.geometry import Reduced, corner_pieces, reduce_image

_CORNER_DARKNESS = 0.4  # of the median of the middle
Values = NDArray[np.float32]

FEATURES = (
    "mean_lightness", "mean_a", "mean_b", "sd_lightness", "sd_a", "sd_b",
    "skin_hues", "foreign_hues", "greys", "darks", "lights",
    "mean_gradient", "edges", "roughness", "upright_edges",
    "ring_sd_lightness", "ring_sd_chroma", "centre_darkness", "radial_lightness",
    "lightness_entropy", "colour_richness", "smoothness",
)  # fmt: skip
"""The names of what ``appearance`` returns, in its order."""

_COLOUR_SIDE_PX = 64
_RING = 0.15  # of each side of the frame


@dataclass(frozen=True, slots=True)
class Limit:
    """What a quality is checked against.

    Args:
        name: The check's name.
        threshold: The last value that passes.
        fails: The side of the threshold on which an image fails.
        sentence: What is said of an image that fails.
        passed: What is said of one that passes.
    """

    name: str
    threshold: float
    fails: Literal["below", "above"]
    sentence: str
    passed: str

    def check(self, value: float) -> "QualityFlag":
        """Returns the flag of a measured value."""
        raised = value < self.threshold if self.fails == "below" else value > self.threshold
        sentence = self.sentence if raised else self.passed
        return QualityFlag(self.name, value, self.threshold, raised, sentence)


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One check of an image's quality.

    Args:
        name: The check's name, as in ``LIMITS``.
        value: What was measured.
        threshold: What it was compared with.
        raised: Whether the image failed.
        sentence: The outcome in words.
    """

    name: str
    value: float
    threshold: float
    raised: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the flag as JSON has it."""
        return asdict(self)


LIMITS = {
    limit.name: limit
    for limit in (
        Limit("too_small", 224, "below",
              "The image is smaller than what the networks look at: details are missing.",
              "The image is large enough."),
        Limit("blurred", 0.6, "below",
              "The image is blurred: fine structures cannot be seen.",
              "The image is in focus."),
        Limit("too_dark", 95, "below",
              "The image is very dark.",
              "The image is not too dark."),
        Limit("too_bright", 236, "above",
              "The image is very bright: pale structures may be lost.",
              "The image is not too bright."),
        Limit("low_contrast", 20, "below",
              "The image has very little contrast: the lesion hardly differs from the skin.",
              "The image has enough contrast."),
        Limit("dark_corners", 0.14, "above",
              "Much of the image is dark corners, the edge of the lens.",
              "The image has few dark corners or none."),
        Limit("lesion_cut", 0.3, "above",
              "The lesion runs out of the image: its shape cannot be judged.",
              "The lesion lies within the image, or nearly."),
    )
}  # fmt: skip
"""The checks, in the order in which they are reported."""


def assess_quality(
    image: NDArray[np.uint8] | Reduced, *, frame_contact: float | None = None
) -> tuple[QualityFlag, ...]:
    """Returns every check of an image, in the order of ``LIMITS``, raised or not.

    - ``too_small``: the shorter side in pixels.
    - ``blurred``: ``sharpness``, at a longer side of 256 px: blur too fine to be seen there is too
      fine for the networks as well.
    - ``too_dark``, ``too_bright``: the median luminance (0 to 255) of the middle of the frame,
      that is, without a sixth on either side.
    - ``low_contrast``: its 95th less its 5th percentile.
    - ``dark_corners``: the share of the frame below 0.4 of that median and joined to a corner.
    - ``lesion_cut``: ``LesionMeasures.frame_contact``; left out where none is given.

    Args:
        image: (H, W, 3) uint8, RGB, or what ``reduce_image`` made of it.
        frame_contact: The share of the lesion's outline on the frame.

    Example:
        >>> flags = assess_quality(np.full((300, 400, 3), 128, np.uint8))
        >>> [flag.name for flag in flags if flag.raised]
        ['blurred', 'low_contrast']
    """
    reduced = reduce_image(image)
    grey = np.asarray(Image.fromarray(reduced.image).convert("L"))
    top, side = grey.shape[0] // 6, grey.shape[1] // 6
    middle = grey[top : grey.shape[0] - top, side : grey.shape[1] - side]
    low, median, high = np.percentile(middle, [5, 50, 95]).tolist()
    half = grey[::2, ::2]
    values = {
        "too_small": float(min(reduced.height_px, reduced.width_px)),
        "blurred": sharpness(grey.astype(np.float32)),
        "too_dark": median,
        "too_bright": median,
        "low_contrast": high - low,
        "dark_corners": float(corner_pieces(half < _CORNER_DARKNESS * median).mean()),
    }
    if frame_contact is not None:
        values["lesion_cut"] = frame_contact
    return tuple(LIMITS[name].check(value) for name, value in values.items())


def sharpness(grey: Values) -> float:
    """Returns how fine the strongest edges are: 0 for none, about 1 in focus.

    The 99th percentile of the Laplacian's size over that of the gradient's. The Laplacian alone
    is the common measure (Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy: a
    comparative study, ICPR 2000), and would call a pale lesion blurred; the quotient does not
    depend on contrast.

    Args:
        grey: (H, W); with a side below 3 there is no pixel to judge, and 0 is returned.

    Example:
        >>> step = np.repeat([[0, 0, 100, 100]], 4, axis=0).astype(np.float32)
        >>> round(sharpness(step), 3), round(sharpness(step / 5), 3)
        (1.0, 1.0)
    """
    if min(grey.shape) < 3:
        return 0.0
    across, down, laplacian = _slopes(grey)
    gradient = np.sqrt(across**2 + down**2)  # bytes cannot overflow; np.hypot is slower
    steep = float(np.percentile(gradient, 99))
    return float(np.percentile(laplacian, 99)) / steep if steep > 0 else 0.0


def appearance(image: NDArray[np.uint8] | Reduced) -> NDArray[np.float32]:
    """Returns ``FEATURES`` of an image, each about 0 to 1, for a detector of foreign images.

    Colour, at a longer side of 64 px, in CIE L*a*b* over 100:

    - ``mean_`` and ``sd_`` of lightness, a and b;
    - shares of pixels: ``skin_hues`` (hue 10 to 100 degrees, chroma 4 to 60), ``foreign_hues``
      (chroma above 15 and a hue outside -60 to 110 degrees: green, cyan, blue), ``greys``
      (chroma below 4), ``darks`` (L* below 20), ``lights`` (L* above 95);
    - the outer 15 % of the frame: ``ring_sd_lightness``, ``ring_sd_chroma`` (skin is even);
      ``centre_darkness``, its mean lightness less the middle's; ``radial_lightness``, the
      correlation of lightness with the distance from the middle;
    - ``lightness_entropy`` over 32 bins, of its maximum; ``colour_richness``, distinct colours at
      4 bits a channel per pixel; ``smoothness``, the correlation of neighbours' lightness.

    Texture, at a longer side of 256 px, in luminance: ``mean_gradient`` (over 255), ``edges`` (the
    share of pixels whose gradient exceeds 32), ``roughness`` (the mean size of the Laplacian over
    that of the gradient: near 2 for noise), ``upright_edges`` (the share of the gradient's energy
    within 10 degrees of an axis: print and screens).

    Returns:
        (22,) float32, all finite.

    Example:
        >>> values = appearance(np.full((60, 80, 3), 128, np.uint8))
        >>> dict(zip(FEATURES, values.round(2).tolist(), strict=True))["greys"]
        1.0
    """
    small = Image.fromarray(reduce_image(image).image)
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    small.thumbnail((_COLOUR_SIDE_PX, _COLOUR_SIDE_PX), Image.Resampling.BOX)
    rgb = np.asarray(small)
    lab = to_lab(rgb)
    features = [
        *(lab.mean(axis=(0, 1)) / 100),
        *(lab.std(axis=(0, 1)) / 100),
        *_hue_shares(lab),
        *_texture(grey),
        *_layout(lab),
        *_richness(rgb, lab[..., 0]),
    ]
    return np.array(features, dtype=np.float32)


def _slopes(grey: Values) -> tuple[Values, Values, Values]:
    """Returns the gradient across and down and the Laplacian's size, without the outer pixels."""
    middle = grey[1:-1, 1:-1]
    left, right, above, below = grey[1:-1, :-2], grey[1:-1, 2:], grey[:-2, 1:-1], grey[2:, 1:-1]
    return right - left, below - above, np.abs(4 * middle - left - right - above - below)


def _hue_shares(lab: Values) -> list[float]:
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    shares = (
        (hue > 10) & (hue < 100) & (chroma >= 4) & (chroma < 60),
        (chroma > 15) & ((hue < -60) | (hue > 110)),
        chroma < 4,
        lightness < 20,
        lightness > 95,
    )
    return [float(share.mean()) for share in shares]


def _texture(grey: Values) -> list[float]:
    if min(grey.shape) < 3:  # no pixel has neighbours on all sides
        return [0.0] * 4
    across, down, laplacian = (np.abs(each) for each in _slopes(grey))
    energy = across**2 + down**2
    gradient = np.sqrt(energy)
    upright = np.minimum(across, down) < np.tan(np.radians(10)) * np.maximum(across, down)
    return [
        float(gradient.mean()) / 255,
        float((gradient > 32).mean()),
        _quotient(float(laplacian.mean()), float(gradient.mean())),
        _quotient(float(energy[upright].sum()), float(energy.sum())),
    ]


def _layout(lab: Values) -> list[float]:
    height, width = lab.shape[:2]
    top, side = max(1, round(_RING * height)), max(1, round(_RING * width))
    inner = np.zeros((height, width), bool)
    inner[top : height - top, side : width - side] = True
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    rows = np.linspace(-1, 1, height)[:, None]
    columns = np.linspace(-1, 1, width)[None, :]
    ring = lightness[~inner]
    return [
        float(ring.std()) / 100,
        float(chroma[~inner].std()) / 100,
        float(ring.mean() - lightness[inner].mean()) / 100 if inner.any() else 0.0,
        _correlation(np.hypot(rows, columns), lightness),
    ]


def _richness(rgb: NDArray[np.uint8], lightness: Values) -> list[float]:
    counts = np.bincount((lightness * 0.32).astype(np.intp).clip(0, 31).ravel(), minlength=32)
    shares = counts[counts > 0] / lightness.size
    red, green, blue = np.moveaxis((rgb >> 4).astype(np.intp), -1, 0)
    codes = (red << 8) | (green << 4) | blue
    return [
        float(-(shares * np.log2(shares)).sum()) / 5 + 0.0,
        np.count_nonzero(np.bincount(codes.ravel())) / codes.size,
        _correlation(lightness[:, 1:], lightness[:, :-1]),
    ]


def _correlation(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Returns Pearson's correlation; 0 where one of the two does not vary, or is empty."""
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return _quotient(float((a * b).mean()), float(np.sqrt((a**2).mean() * (b**2).mean())))


def _quotient(above: float, below: float) -> float:
    return above / below if below > 1e-9 else 0.0
