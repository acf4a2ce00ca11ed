"""Whether an image is good enough to be looked at: size, focus, exposure, contrast, framing.

Each check has a threshold that about one in a hundred of the ISIC 2016 training images fails (300
drawn at random; short side 320 px; docs/analysis.md has the table). They say what may make a
result less trustworthy, and refuse nothing.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.pieces import corner_pieces
from dermfuse.analysis.reduction import Reduced, reduce_image

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a quality is checked against.

    Args:
        name: Of the check.
        threshold: The last value that passes.
        fails: On which side of it an image fails.
        sentence: What is said of an image that fails.
        praise: What is said of one that passes.
    """

    name: str
    threshold: float
    fails: Literal["below", "above"]
    sentence: str
    praise: str

    def check(self, value: float) -> "QualityFlag":
        """Returns the flag of a measured value."""
        raised = value < self.threshold if self.fails == "below" else value > self.threshold
        sentence = self.sentence if raised else self.praise
        return QualityFlag(self.name, value, self.threshold, raised, sentence)


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One check of an image's quality.

    Args:
        name: Of the check, as in ``LIMITS``.
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
        Limit(
            "too_small", 224, "below",
            "The image is smaller than what the networks look at: details are missing.",
            "The image is large enough.",
        ),
        Limit(
            "blurred", 0.6, "below",
            "The image is blurred: fine structures cannot be seen.",
            "The image is in focus.",
        ),
        Limit(
            "too_dark", 95, "below",
            "The image is very dark.",
            "The image is not too dark.",
        ),
        Limit(
            "too_bright", 236, "above",
            "The image is very bright: pale structures may be lost.",
            "The image is not too bright.",
        ),
        Limit(
            "low_contrast", 20, "below",
            "The image has very little contrast: the lesion hardly differs from the skin.",
            "The image has enough contrast.",
        ),
        Limit(
            "dark_corners", 0.14, "above",
            "Much of the image is dark corners, the edge of the lens.",
            "The image has few dark corners or none.",
        ),
        Limit(
            "lesion_cut", 0.3, "above",
            "The lesion runs out of the image: its shape cannot be judged.",
            "The lesion lies within the image, or nearly.",
        ),
    )
}  # fmt: skip
"""The checks, in the order in which they are reported."""

_CORNER_DARKNESS = 0.4  # of the median of the middle


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


def sharpness(grey: Grey) -> float:
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
    middle = grey[1:-1, 1:-1]
    left, right, above, below = grey[1:-1, :-2], grey[1:-1, 2:], grey[:-2, 1:-1], grey[2:, 1:-1]
    laplacian = np.abs(4 * middle - left - right - above - below)
    across, down = right - left, below - above
    gradient = np.sqrt(across**2 + down**2)  # bytes cannot overflow; np.hypot is slower
    steep = float(np.percentile(gradient, 99))
    return float(np.percentile(laplacian, 99)) / steep if steep > 0 else 0.0
