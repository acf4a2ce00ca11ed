"""Mask files to truth values: one reader, which says by which rule it told lesion from skin.

    what the file holds                               what is lesion
    one level, 0                                      nothing
    one level: the type's largest value, 255 or 1     the whole frame
    two levels, whichever, grey or by a palette       the brighter
    one colour on black                               the colour
    one colour, and transparent pixels                what is opaque
    grades between two levels (smooth edges, JPEG,    above 128 in 8 bits, as the challenge's scorer
    probabilities)                                    has it; else above half of the file's maximum

What is transparent is never lesion. Levels are compared at the file's own depth. Whatever fits no
rule is refused: three or more separate levels (the numbers of classes), several colours, one level
that may mean either.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import ImageError
from dermfuse.imaging.formats import Samples
from dermfuse.imaging.preprocess import read_samples

MASK_SUFFIX = "_Segmentation"
"""What the challenge's mask files have behind the id of their image."""
ONE_LEVEL = "one level:"
"""What the rule of a mask whose pixels are all alike begins with."""
OFFICIAL_THRESHOLD = 128
"""Grades of 8 bits above this are lesion: so counts the challenge's scorer."""

_BYTE = 255
_WHOLE = (1, _BYTE)  # one level that is lesion, besides the type's largest
_FEW = 32  # levels: fewer are distinguished one by one; so many classes may be numbered
_NOISE = 16  # the part of a range that lossy coding may change a level by
_LARGE = 1 / 8  # of the frame: more than edges fill
_SHADES = 256  # colours: what has more was photographed, or coded with loss
_OFF_COLOUR = 0.01  # of the frame: what lossy coding may give another colour
_BINS = 32  # of a histogram of flat areas
_PEAK_BINS = 6  # what is wider is a slope
_SHARE = 0.002  # of the frame: a bin that holds less is noise
_HELD = 0.9  # of the flat pixels: so many lie in the peaks if there are peaks at all
_EXPECTED = "two levels, one colour on black, or grades between two levels"
_ACTION = "Save the mask as an 8-bit PNG, 255 where there is lesion and 0 elsewhere"


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """A mask that was read.

    Args:
        lesion: Where the lesion is. (H, W)
        rule: How that was decided, in words that files of one kind have in common.
    """

    lesion: NDArray[np.bool_]
    rule: str


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Returns a mask file as truth values, (H, W): where the lesion is.

    Raises:
        ImageError: As ``decide_mask``.
    """
    return decide_mask(path).lesion


def decide_mask(path: str | Path) -> Decided:
    """Returns what a mask file says, and by which rule it was understood.

    Args:
        path: A mask image of any kind that ``read_image`` reads.

    Raises:
        ImageError: As ``read_image``; or no rule fits, and the message says what was found.
    """
    path = Path(path)
    samples = read_samples(path)
    try:
        return _decide_by_alpha(samples)
    except _NoMaskError as error:
        found = f"{path} is no mask: {error}"
        raise ImageError(found, expected=_EXPECTED, action=_ACTION) from None


def image_of_mask(path: Path) -> str:
    """Returns the id of the image that a mask file is named after.

    Example:
        >>> image_of_mask(Path("ISIC_0000003_segmentation.PNG"))
        'ISIC_0000003'
    """
    stem = path.stem[: -len(MASK_SUFFIX)] if has_mask_name(path) else path.stem
    return stem.strip()


def has_mask_name(path: Path) -> bool:
    """Returns whether a file is named as the challenge names masks, in either case."""
    return path.stem.lower().endswith(MASK_SUFFIX.lower())


class _NoMaskError(Exception):
    """What a file holds that fits no rule."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tones:
    """What tells lesion from skin, as one number for each pixel.

    Args:
        samples: What the file holds.
        tones: (H, W).
        visible: The pixels that count, (H, W); None for all.
        colour: The one colour on black that the tones are shades of; empty for grey.
    """

    samples: Samples
    tones: NDArray[np.uint16]
    visible: NDArray[np.bool_] | None
    colour: tuple[int, ...] = ()

    @property
    def counted(self) -> NDArray[np.uint16]:
        """The tones of the pixels that count, in a row."""
        return self.tones.ravel() if self.visible is None else self.tones[self.visible]


def _decide_by_alpha(samples: Samples) -> Decided:
    alpha = samples.alpha
    if alpha is None or (alpha.min() == alpha.max() > 0):
        return _decide(_tones(samples))
    if not alpha.any():
        if not _is_one_colour(samples.values.reshape(-1, samples.values.shape[2])):
            raise _NoMaskError("every pixel is transparent, and yet they differ in colour")
        return Decided(np.zeros(alpha.shape, dtype=np.bool_), "transparent everywhere: empty")
    if _is_one_colour(samples.values[alpha > 0]):
        opacity = replace(samples, values=alpha[..., None], top=samples.alpha_top)
        decided = _decide(_tones(opacity))
        return replace(decided, rule=f"opaque is lesion, {decided.rule}")
    visible = 2 * alpha.astype(np.uint32) > samples.alpha_top
    if not visible.any():
        raise _NoMaskError("no pixel is more than half opaque")
    decided = _decide(_tones(samples, visible))
    return Decided(decided.lesion & visible, f"{decided.rule}, besides transparent pixels")


def _decide(of: _Tones) -> Decided:
    levels = np.flatnonzero(np.bincount(of.counted))
    if len(levels) == 1:
        return _decide_one(of, int(levels[0]))
    low, high = int(levels[0]), int(levels[-1])
    if len(levels) == 2:
        rule = f"one colour on black: {of.colour}" if of.colour else f"two levels: {low} and {high}"
        return Decided(of.tones == high, rule)
    _require_grades(of, levels)
    if of.samples.top == _BYTE and not of.colour and high > OFFICIAL_THRESHOLD:
        _require_area(of, low)
        rule = f"graded: above {OFFICIAL_THRESHOLD} of {_BYTE}"
        return Decided(of.tones > OFFICIAL_THRESHOLD, rule)
    rule = f"graded: above half of its maximum, {high}"
    return Decided(2 * of.tones.astype(np.uint32) > high, rule)


def _decide_one(of: _Tones, level: int) -> Decided:
    """Returns the mask of a file whose pixels are all alike."""
    indices = of.samples.indices
    if indices is not None and indices.min() < indices.max():
        raise _NoMaskError("the palette gives all of its entries one colour")
    if level == 0:
        return Decided(np.zeros(of.tones.shape, dtype=np.bool_), f"{ONE_LEVEL} 0, empty")
    if of.colour or level not in (of.samples.top, *_WHOLE):
        said = f"colour {of.colour}" if of.colour else f"level {level} of {of.samples.top}"
        raise _NoMaskError(f"every pixel has the {said}, which may be lesion or skin")
    return Decided(np.ones(of.tones.shape, dtype=np.bool_), f"{ONE_LEVEL} {level}, the whole frame")


def _tones(samples: Samples, visible: NDArray[np.bool_] | None = None) -> _Tones:
    """Returns the tones of grey pixels, or of one colour on black.

    Raises:
        _NoMaskError: There are several colours.
    """
    values, top = samples.values, samples.top
    if values.shape[2] == 1:
        return _Tones(samples, values[..., 0], visible)
    grey = _Tones(samples, values.max(axis=2), visible)
    seen = values.reshape(-1, 3) if visible is None else values[visible]  # (N, 3)
    if (seen == seen[:, :1]).all():
        return grey
    bright = seen.max(axis=1)
    shades = len(np.unique(seen, axis=0)) if len(seen) else 0
    strict = shades <= _SHADES and not samples.lossy
    slack, allowed = (top // 64, 0.0) if strict else (top // 8, _OFF_COLOUR)
    if not strict and (np.ptp(seen, axis=1) > slack).mean() <= allowed:
        return grey  # but for noise
    peak = seen[int(bright.argmax())]
    off = np.abs(
        seen.astype(np.int64) * int(bright.max()) - bright[:, None].astype(np.int64) * peak
    )
    if (off > slack * int(bright.max())).any(axis=1).mean() > allowed:
        raise _NoMaskError(f"{shades:,} colours that are not shades of one, as of classes")
    return replace(grey, colour=tuple(int(channel) for channel in peak))


def _is_one_colour(seen: NDArray[np.uint16]) -> bool:
    return bool((seen == seen[:1]).all())


def _require_grades(of: _Tones, levels: NDArray[np.intp]) -> None:
    """Refuses three or more levels that are separate ones and not grades between two."""
    high = int(levels[-1])
    if high < _FEW <= of.samples.top:
        found = f"{len(levels)} levels from {levels[0]} to {high} of {of.samples.top}"
    elif len(levels) <= _FEW and (standing := _standing_levels(of, levels)):
        found = f"{len(standing)} levels that stand apart: {', '.join(map(str, standing))}"
    elif peaks := _peaks(of, levels):
        found = f"levels around {', '.join(map(str, peaks))} that stand apart"
    else:
        return
    raise _NoMaskError(f"{found}, as the numbers of classes do")


def _require_area(of: _Tones, low: int) -> None:
    """Refuses grades that are above the threshold at edges alone, though an area is marked."""
    areas = of.tones[_flat(of, _BYTE // _NOISE)]
    marked = int(areas.max(initial=0))
    if low + _FEW < marked <= OFFICIAL_THRESHOLD < int(of.counted.max()):
        raise _NoMaskError(
            f"areas up to level {marked}, and only edges above {OFFICIAL_THRESHOLD} of {_BYTE}",
        )


def _standing_levels(of: _Tones, levels: NDArray[np.intp]) -> list[int]:
    """Returns the levels that fill areas, not edges alone, if one lies between the ends."""
    counts = np.bincount(of.counted)
    large = levels[counts[levels] >= _LARGE * of.counted.size]
    standing = sorted({int(level) for level in (*np.unique(of.tones[_flat(of, 0)]), *large)})
    slack = of.samples.top // _NOISE if of.samples.lossy else 0
    low, high = int(levels[0]) + slack, int(levels[-1]) - slack
    between = any(low < level < high for level in standing)
    return sorted({*standing, int(levels[-1])}) if between else []


def _peaks(of: _Tones, levels: NDArray[np.intp]) -> list[int]:
    """Returns the peaks of a histogram of flat areas, if one lies between the ends."""
    low, span = int(levels[0]), int(levels[-1] - levels[0])
    tones = of.tones[_flat(of, span // _NOISE)].astype(np.int64)
    bins = (tones - low) * _BINS // (span + 1)
    counts = np.bincount(bins, minlength=_BINS)
    met = np.flatnonzero(counts > _SHARE * of.tones.size)
    runs = np.split(met, np.flatnonzero(np.diff(met) > 1) + 1)
    peaks = [(run[0], run[-1]) for run in runs if 0 < len(run) <= _PEAK_BINS]
    between = any(first > 1 and last < _BINS - 2 for first, last in peaks)
    held = [tones[(first <= bins) & (bins <= last)] for first, last in peaks]
    if len(peaks) < 3 or not between or sum(map(len, held)) < _HELD * len(tones):
        return []
    return [round(float(each.mean())) for each in held]


def _flat(of: _Tones, tolerance: int) -> NDArray[np.bool_]:
    """Returns which pixels have about one tone with their eight neighbours, all of them visible."""
    tones = of.tones.astype(np.int32)
    rows = [tones[i : len(tones) - 2 + i] for i in range(3)]
    columns = [row[:, j : tones.shape[1] - 2 + j] for row in rows for j in range(3)]
    flat = np.zeros(tones.shape, dtype=np.bool_)
    flat[1:-1, 1:-1] = np.maximum.reduce(columns) - np.minimum.reduce(columns) <= tolerance
    if of.visible is not None:
        flat &= of.visible
    return flat
