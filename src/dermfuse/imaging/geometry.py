"""Geometry of masks: moments, perimeter, hull, folding, pieces and growth; NumPy alone.

Images and masks are measured on small working copies. Every measure of this package is one of the
whole lesion or the whole frame, which a copy with a longer side of 256 px holds; reading it costs a
few milliseconds whatever the camera.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.imaging.preprocess import resize_image

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

ROUND_RATIO = 0.95
"""Above this ratio of the axes a shape counts as round: its principal axes are noise."""
_TURNS = 8  # of the axes that are tried for a round shape, over a quarter turn
Indices = NDArray[np.intp]

LONG_SIDE_PX = 256
"""The longer side of a working copy; smaller images keep their size."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The centroid and principal axes of a shape: those of the ellipse with its second moments.

    Args:
        x: The centroid's distance from the left edge of the frame, in pixels.
        y: The centroid's distance from the upper edge, in pixels.
        major: Full length of the longer axis, in pixels.
        minor: Full length of the shorter axis, in pixels.
        angle: The longer axis's angle, from the x axis towards the (downward) y axis, in radians.
    """

    x: float
    y: float
    major: float
    minor: float
    angle: float


def principal_axes(mask: Mask) -> Axes:
    """Returns centroid and principal axes of a mask that is not empty.

    A pixel is a unit square: it adds 1/12 to the moments about its centre.

    Example:
        >>> axes = principal_axes(np.ones((2, 8), bool))
        >>> axes.x, axes.y, axes.angle, round(axes.major / axes.minor, 6)
        (4.0, 1.0, 0.0, 4.0)
    """
    y, x = np.nonzero(mask)
    centre_x, centre_y = x.mean(), y.mean()
    x, y = x - centre_x, y - centre_y
    xx, yy, xy = (x * x).mean() + 1 / 12, (y * y).mean() + 1 / 12, (x * y).mean()
    mean, apart = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    return Axes(
        x=float(centre_x + 0.5),
        y=float(centre_y + 0.5),
        major=4 * math.sqrt(mean + apart),
        minor=4 * math.sqrt(max(mean - apart, 1 / 12)),
        angle=0.5 * math.atan2(2 * xy, xx - yy) % math.pi,
    )


def perimeter(mask: Mask) -> float:
    """Returns the length of the outline by Crofton's formula over four directions.

    Lines are laid over the mask at 0, 45, 90 and 135 degrees and their crossings of the outline
    counted: π/8 · (n₀ + n₉₀ + (n₄₅ + n₁₃₅)/√2). Right on average over directions, where counting
    pixel edges would be up to 4/π too long. Where the mask meets the frame the frame counts.

    Paper:
        Lehmann and Legland, Efficient N-dimensional surface estimation using Crofton formula and
        run-length encoding, Insight Journal, 2012.
    """
    m = np.pad(mask, 1)
    straight = int((m[1:] ^ m[:-1]).sum() + (m[:, 1:] ^ m[:, :-1]).sum())
    slanted = int((m[1:, 1:] ^ m[:-1, :-1]).sum() + (m[1:, :-1] ^ m[:-1, 1:]).sum())
    return math.pi / 8 * (straight + slanted / math.sqrt(2))


def solidity(mask: Mask) -> float:
    """Returns the share of its convex hull that a mask fills, in (0, 1].

    The hull is that of the pixels' centres and its pixels are counted by Pick's theorem, so that
    a convex shape drawn in pixels has exactly 1, whatever its size.

    Example:
        >>> solidity(np.array([[True, False], [True, True]])), solidity(np.eye(3) > 0)
        (1.0, 1.0)
        >>> solidity(np.array([[True, True, True], [True, False, True]]))
        0.8333333333333334
    """
    corners = convex_hull(mask)
    nexts = np.roll(corners, -1, axis=0)
    steps = np.abs(nexts - corners)
    doubled = abs(int((corners[:, 0] * nexts[:, 1] - corners[:, 1] * nexts[:, 0]).sum()))
    on_outline = int(np.gcd(steps[:, 0], steps[:, 1]).sum())
    return int(mask.sum()) / (doubled / 2 + on_outline / 2 + 1)


def convex_hull(mask: Mask) -> NDArray[np.int64]:
    """Returns the corners ``(x, y)`` of the convex hull of a mask's pixel centres.

    Paper:
        Andrew, Another efficient algorithm for convex hulls in two dimensions, Information
        Processing Letters 9(5), 1979; over the first and last pixel of each row.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    left = _chain(list(zip(first.tolist(), rows.tolist(), strict=True)))
    right = _chain(list(zip(last.tolist(), rows.tolist(), strict=True))[::-1])
    return np.array(list(dict.fromkeys(left + right)), dtype=np.int64)


def longest_extent(mask: Mask) -> float:
    """Returns the largest distance between two points of a mask (Feret's), in pixels.

    The distance of the outermost pixel centres, and one pixel more for their halves.
    """
    corners = convex_hull(mask)
    apart = corners[:, None, :] - corners[None, :, :]
    return math.sqrt(int((apart**2).sum(-1).max())) + 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """A mask folded about one axis: where each pixel comes to lie.

    Args:
        met: Whether the pixel meets the mask, in the order of ``np.nonzero(mask)``. (N,)
        partner: The pixel nearest to where it comes to lie, as a flat index into the mask. (N,)
    """

    met: Mask
    partner: NDArray[np.intp]

    @property
    def uncovered(self) -> float:
        """The share of the mask that its mirror image leaves uncovered, in [0, 1]."""
        return 1.0 - float(self.met.mean())


def fold(mask: Mask, axes: Axes, *, angle: float) -> Fold:
    """Returns a mask folded about the line through its centroid at ``angle`` (radians)."""
    rows, columns = np.nonzero(mask)
    x, y = columns + 0.5 - axes.x, rows + 0.5 - axes.y
    cos, sin = math.cos(2 * angle), math.sin(2 * angle)
    x, y = cos * x + sin * y + axes.x - 0.5, sin * x - cos * y + axes.y - 0.5
    met = _covered(mask, x, y)
    height, width = mask.shape
    row = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    column = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    return Fold(met, row * width + column)


def fold_both(mask: Mask) -> tuple[Fold, Fold]:
    """Returns a mask folded about its longer and its shorter principal axis.

    Of a round shape (``ROUND_RATIO``), whose principal axes say nothing, the pair of
    perpendicular axes is taken that leaves least uncovered, out of eight over a quarter turn.
    """
    axes = principal_axes(mask)
    if axes.minor <= ROUND_RATIO * axes.major:
        angles = [axes.angle]
    else:
        angles = [turn * math.pi / 2 / _TURNS for turn in range(_TURNS)]
    pairs = [(fold(mask, axes, angle=a), fold(mask, axes, angle=a + math.pi / 2)) for a in angles]
    return min(pairs, key=lambda pair: pair[0].uncovered + pair[1].uncovered)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The largest connected piece of a mask.

    Args:
        mask: The piece with its holes filled. (H, W)
        count: How many pieces the mask has.
        kept_share: The piece's share of the mask's pixels, in (0, 1].
    """

    mask: Mask
    count: int
    kept_share: float


def largest_piece(mask: Mask) -> Piece | None:
    """Returns the largest piece, holes filled; None for an empty mask.

    Pixels that touch at a corner belong together, those of a hole do not. Of pieces as large the
    first in reading order is taken. Holes are filled because a lesion has none: in a mask they
    are hair, a reflection or a doubt.

    Example:
        >>> piece = largest_piece(np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]) > 0)
        >>> piece.mask.sum(), piece.count, round(piece.kept_share, 2)
        (np.int64(9), 2, 0.89)
    """
    starts, stops, labels = _label_runs(mask, diagonal=True)
    if not len(starts):
        return None
    areas = np.bincount(labels, weights=stops - starts)
    largest = int(areas.argmax())
    chosen = labels == largest
    piece = _paint(starts[chosen], stops[chosen], mask.shape)
    return Piece(_fill(piece), len(np.unique(labels)), float(areas[largest] / areas.sum()))


def corner_pieces(mask: Mask) -> Mask:
    """Returns the pieces of a mask that hold a corner of the frame.

    Example:
        >>> corner_pieces(np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0]]) > 0).astype(int).tolist()
        [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    """
    starts, stops, labels = _label_runs(mask, diagonal=False)
    height, stride = mask.shape[0], mask.shape[1] + 2
    corners = np.array([1, stride - 2, (height - 1) * stride + 1, height * stride - 2])
    runs = np.searchsorted(starts, corners, side="right") - 1
    held = (runs >= 0) & (corners < stops[runs]) if len(starts) else np.zeros(4, bool)
    chosen = np.isin(labels, labels[runs[held]])
    return _paint(starts[chosen], stops[chosen], mask.shape)


def grow(mask: Mask, steps: int) -> Mask:
    """Returns a mask grown by so many pixels (an octagon); beyond the frame there is nothing.

    Example:
        >>> grow(np.array([[0, 0, 0, 0], [0, 0, 0, 1]]) > 0, 1).astype(int).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    for step in range(steps):
        mask = _spread(mask, 0) | _spread(mask, 1) if step % 2 else _spread(_spread(mask, 0), 1)
    return mask


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """A working copy of an image, and the size that it had.

    Args:
        image: (h, w, 3) uint8, RGB.
        height_px: The height of the original.
        width_px: The width of the original.
    """

    image: NDArray[np.uint8]
    height_px: int
    width_px: int


def reduce_image(
    image: NDArray[np.uint8] | Image.Image | Reduced, *, long_side_px: int = LONG_SIDE_PX
) -> Reduced:
    """Returns an image at most ``long_side_px`` long (antialiased), and its size before.

    Args:
        image: (H, W, 3) uint8, RGB, or a Pillow image of it; what is reduced already is returned
            as it is, so that one copy can serve several functions.
        long_side_px: The longer side to shrink to.

    Example:
        >>> reduce_image(np.zeros((767, 1022, 3), np.uint8)).image.shape
        (192, 256, 3)
    """
    if isinstance(image, Reduced):
        return image
    if isinstance(image, Image.Image):
        width, height = image.size
    else:
        height, width = image.shape[:2]
    size = small_size(height, width, long_side_px)
    if size == (width, height):
        return Reduced(np.asarray(image), height, width)
    return Reduced(shrink(image, size), height, width)


def shrink(image: NDArray[np.uint8] | Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns an image at a smaller size ``(width, height)``, antialiased."""
    # reducing_gap takes whole-number means first: several times faster, and nearly the same.
    return resize_image(image, size, reducing_gap=1.0)


def reduce_mask(mask: NDArray[np.bool_], *, long_side_px: int = LONG_SIDE_PX) -> NDArray[np.bool_]:
    """Returns a mask at most ``long_side_px`` long: lesion where half of a cell or more is.

    Example:
        >>> reduce_mask(np.ones((767, 1022), bool)).shape
        (192, 256)
    """
    size = small_size(mask.shape[0], mask.shape[1], long_side_px)
    if size == (mask.shape[1], mask.shape[0]):
        return mask
    bytes_ = np.ascontiguousarray(mask).view(np.uint8)  # Pillow's own bilevel arrays hold 255
    shares = Image.fromarray((bytes_ != 0).view(np.uint8) * np.uint8(255))
    small: NDArray[np.bool_] = (
        np.asarray(shares.resize(size, Image.Resampling.BOX, reducing_gap=1.0)) >= 128
    )
    return small


def small_size(height: int, width: int, long_side_px: int) -> tuple[int, int]:
    """Returns the size ``(width, height)`` of a copy at most ``long_side_px`` long.

    Example:
        >>> small_size(600, 800, 256), small_size(60, 80, 256)
        ((256, 192), (80, 60))
    """
    factor = min(1.0, long_side_px / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _chain(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the points of one side of a hull: those at which the way turns inwards."""
    chain: list[tuple[int, int]] = []
    for x, y in points:
        while len(chain) > 1:
            (x0, y0), (x1, y1) = chain[-2:]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) < 0:  # y points down
                break
            chain.pop()
        chain.append((x, y))
    return chain


def _covered(mask: Mask, x: Points, y: Points) -> Mask:
    """Returns where a mask, interpolated between pixel centres, is one half or more."""
    height, width = mask.shape
    padded = np.zeros((height + 3, width + 3), np.float32)
    padded[1:-2, 1:-2] = mask
    flat, stride = padded.ravel(), width + 3
    x, y = np.clip(x + 1, 0.0, width + 1.0), np.clip(y + 1, 0.0, height + 1.0)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, below = x - column, y - row
    corner = row * stride + column
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + stride] * (1 - right) + flat[corner + stride + 1] * right
    covered: Mask = upper * (1 - below) + lower * below >= 0.5 - 1e-6  # halves count, rounded too
    return covered


def _spread(mask: Mask, axis: int) -> Mask:
    """Returns a mask or-ed with itself moved by one pixel both ways along an axis."""
    grown = mask.copy()
    moved = (grown, mask) if axis == 0 else (grown.T, mask.T)
    moved[0][1:] |= moved[1][:-1]
    moved[0][:-1] |= moved[1][1:]
    return grown


def _fill(mask: Mask) -> Mask:
    """Returns a mask without holes: all but the background that reaches the frame."""
    return ~corner_pieces(np.pad(~mask, 1, constant_values=True))[1:-1, 1:-1]


def _label_runs(mask: Mask, *, diagonal: bool) -> tuple[Indices, Indices, Indices]:
    """Returns the horizontal runs of a mask and the piece that each belongs to.

    Returns:
        Where runs start and stop in the flat mask with an empty column on either side, and the
        label of each: the index of its piece's first run. (R,) each.
    """
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, stops = edges[::2], edges[1::2]
    below, reach = mask.shape[1] + 2, int(diagonal)
    # the runs of the next row that a run touches lie between first and last
    first = np.searchsorted(stops, starts + below - reach, side="right")
    last = np.searchsorted(starts, stops + below + reach, side="left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
    return starts, stops, _unite(len(starts), upper, lower)


def _unite(count: int, a: Indices, b: Indices) -> Indices:
    """Returns the least index that each of ``count`` items is linked to."""
    labels = np.arange(count)
    while (apart := labels[a] != labels[b]).any():
        a, b = a[apart], b[apart]
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        np.minimum.at(labels, high, low)
        while not np.array_equal(labels, jumped := labels[labels]):
            labels = jumped
    return labels


def _paint(starts: Indices, stops: Indices, shape: tuple[int, ...]) -> Mask:
    """Returns the mask of runs."""
    height, width = shape
    steps = np.zeros(height * (width + 2) + 1, np.int8)
    steps[starts] = 1
    steps[stops] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).reshape(height, -1)[:, 1:-1] > 0
