"""Connected pieces of a mask, by union of runs, and its growth; NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


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
