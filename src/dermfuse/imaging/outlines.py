"""Outlines of masks: traced on the lattice of pixel edges, and simplified."""

import math

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
Ring = list[tuple[float, float]]


def outline(mask: NDArray[np.bool_], *, tolerance_px: float = 1.0) -> list[Ring]:
    """Returns the closed outlines of a mask as simplified polygons, the largest first.

    Args:
        mask: (H, W); of a large mask a reduced one (``reduce_mask``) will do.
        tolerance_px: How far the polygon may leave the traced outline. Below 0.7 the stairs of
            the pixels stay.

    Returns:
        Of each outline the corners ``(x, y)``, in pixels from the upper left corner of the frame;
        holes have outlines of their own. Outlines that shrink to a line are left out.

    Paper:
        Douglas and Peucker, Algorithms for the reduction of the number of points required to
        represent a digitized line or its caricature, Cartographica 10(2), 1973.

    Example:
        >>> outline(np.array([[True, True]]), tolerance_px=0.1)
        [[(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0)]]
    """
    traced = [np.array(loop, np.float64) for loop in trace_contours(mask)]
    traced.sort(key=_area, reverse=True)
    simple = (_simplify(loop, tolerance_px) for loop in traced)
    return [[(x, y) for x, y in loop.tolist()] for loop in simple if len(loop) > 2]


def trace_contours(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """Returns the closed outlines of a mask, as corners ``(x, y)`` on the lattice of pixel edges.

    The lesion lies to the right of the direction of travel; holes have outlines of their own.

    Args:
        mask: (H, W).
    """
    nexts = _edges(mask)
    loops = []
    while nexts:
        start = min(nexts)  # a corner: nothing lies to the left of it, or above
        loop, point, heading = [start], start, (1, 0)
        while point != start or len(loop) == 1:
            ends = nexts[point]
            # Where two pixels touch at a corner, turn right: they stay two outlines.
            right = (point[0] - heading[1], point[1] + heading[0])
            end = right if right in ends else next(iter(ends))
            ends.remove(end)
            if not ends:
                del nexts[point]
            before, heading = heading, (end[0] - point[0], end[1] - point[1])
            if heading != before and point != start:
                loop.append(point)
            point = end
        loops.append(loop)
    return loops


def _edges(mask: NDArray[np.bool_]) -> dict[Point, set[Point]]:
    """Returns the directed unit edges between lesion and skin, start to ends."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (  # which neighbour is skin, and the edge on that side, clockwise
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    nexts: dict[Point, set[Point]] = {}
    for neighbour, start, end in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            nexts.setdefault((x + start[0], y + start[1]), set()).add((x + end[0], y + end[1]))
    return nexts


def _area(loop: NDArray[np.float64]) -> float:
    """Returns the area within a closed outline (the shoelace formula)."""
    x, y = loop.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _simplify(loop: NDArray[np.float64], tolerance_px: float) -> NDArray[np.float64]:
    """Returns the points of a closed outline that Douglas and Peucker's rule keeps."""
    far = int(((loop - loop[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([loop, loop[:1]])
    x, y = closed.T
    kept = {0, far}
    spans = [(0, far), (far, len(loop))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        (x0, y0), (x1, y1) = closed[first].tolist(), closed[last].tolist()
        between = slice(first + 1, last)
        away = np.abs((x[between] - x0) * (y1 - y0) - (y[between] - y0) * (x1 - x0))
        split = first + 1 + int(away.argmax())
        if away[split - first - 1] > tolerance_px * math.hypot(x1 - x0, y1 - y0):
            kept.add(split)
            spans += [(first, split), (split, last)]
    return loop[sorted(kept)]
