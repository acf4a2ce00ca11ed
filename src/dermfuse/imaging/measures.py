"""Measures of a lesion's shape, border and colours: the A, B and C of dermoscopy, as numbers.

They describe an image and its mask. They follow the ideas of the ABCD rule of dermatoscopy
(Stolz et al., Eur J Dermatol 4, 1994; Nachbar et al., J Am Acad Dermatol 30(4), 1994) and are not
its scores, which a physician reads: nothing here adds them up, and none of them is a diagnosis.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.imaging import geometry
from dermfuse.imaging.colours import Lab, colour_shares, skin_gains, to_lab
from dermfuse.imaging.geometry import Fold, largest_piece, reduce_mask

Mask = NDArray[np.bool_]

PATCH_SIDE_PX = 96
"""The longer side to which a lesion and its surroundings are shrunk: shapes and colours are
measured at the lesion's own scale, not the camera's."""
MIN_AREA_PX = 100
"""A lesion of fewer pixels on its patch has no shape: a pixel of its outline is 1 % of it."""
MAX_FRAME_CONTACT = 0.1
"""With more of its outline on the frame a lesion has no shape: the frame's would be measured."""
MIN_COLOUR_SHARE = 0.05
"""A colour counts if so much of the lesion has it."""

_MARGIN = 0.15  # around the lesion's bounding box, of its longer side
_RING = 0.06  # width of the rings beside the border, of the equivalent diameter
_SECTORS = 8  # as the ABCD rule divides the border
_MIN_SECTORS = 4
_MIN_RING_PX = 3  # of each ring in a sector


@dataclass(frozen=True, slots=True)
class LesionMeasures:
    """What a mask and the pixels below it say about the largest lesion of an image.

    Lengths are in pixels of the image: no scale is known, so none is in millimetres. A measure is
    None where it is not defined: all but the first two for an empty mask; asymmetry, compactness
    and solidity for a lesion too small (``MIN_AREA_PX``) or cut by the frame
    (``MAX_FRAME_CONTACT``).

    Args:
        pieces: How many connected pieces the mask has; all else is of the largest, its holes
            filled.
        cut_by_frame: Whether so much of the outline lies on the frame that there is no shape.
        kept_share: The largest piece's share of the mask, in (0, 1].
        frame_contact: The share of the outline that lies on the frame, in [0, 1].
        centroid_px: (x, y) from the upper left corner of the frame.
        equivalent_diameter_px: The diameter of the disc with the lesion's area, 2 √(A/π).
        longest_diameter_px: The largest distance between two points of the lesion (Feret's). The
            D of the clinical ABCD (diameter above 6 mm) but for the scale; the D of the ABCD rule
            of dermatoscopy is differential structures, which are not measured.
        axes_px: The principal axes, longer first: those of the ellipse with the same moments.
        angle_degrees: The longer axis's angle, from the x axis towards the downward y axis, in
            [0, 180).
        asymmetry_longer: The share of the lesion that its mirror image leaves uncovered when it
            is folded about its longer principal axis, in [0, 1] (Stoecker, Li and Moss, Comput
            Med Imaging Graph 16(3), 1992). A round lesion is folded about the perpendicular axes
            that leave least uncovered, as the ABCD rule lays them.
        asymmetry_shorter: The same about the shorter axis.
        colour_asymmetry: The mean CIE ΔE between pixels that meet in the folds, over 100; in
            [0, 1], in practice below 0.3.
        compactness: P² / (4π A), 1 for a disc and larger the longer the border P is for its area
            A; never below 1, as nothing is rounder than a disc.
        solidity: The lesion's share of its convex hull, in (0, 1].
        border_step: How much lighter (CIE L*) the skin just outside is than the lesion just
            inside: the median over the eighths of the border that lie in the frame. Near 0 for a
            border that fades out.
        colour_shares: The share of the lesion that has each of the six colours of the ABCD rule;
            what is left has none of them (``dermfuse.imaging.colours``). The cast of lamp and
            camera is taken out by the skin around, for all measures of colour.
        colour_count: How many of the six have ``MIN_COLOUR_SHARE`` of the lesion or more.
    """

    pieces: int
    cut_by_frame: bool
    kept_share: float | None = None
    frame_contact: float | None = None
    centroid_px: tuple[float, float] | None = None
    equivalent_diameter_px: float | None = None
    longest_diameter_px: float | None = None
    axes_px: tuple[float, float] | None = None
    angle_degrees: float | None = None
    asymmetry_longer: float | None = None
    asymmetry_shorter: float | None = None
    colour_asymmetry: float | None = None
    compactness: float | None = None
    solidity: float | None = None
    border_step: float | None = None
    colour_shares: dict[str, float] | None = None
    colour_count: int | None = None

    @property
    def asymmetry(self) -> float | None:
        """The mean over the two axes, in [0, 1]."""
        if self.asymmetry_longer is None or self.asymmetry_shorter is None:
            return None
        return (self.asymmetry_longer + self.asymmetry_shorter) / 2

    def to_dict(self) -> dict[str, Any]:
        """Returns the measures as JSON has them, the mean asymmetry among them."""
        return {**asdict(self), "asymmetry": self.asymmetry}


def measure_lesion(image: NDArray[np.uint8], mask: Mask) -> LesionMeasures:
    """Returns the measures of the largest lesion of a mask.

    Place and size are measured on the frame shrunk to 256 px, shape and colours on the lesion
    shrunk to ``PATCH_SIDE_PX``; details below that are lost, ragged edges of a pixel with them.

    Args:
        image: (H, W, 3) uint8, RGB.
        mask: (H, W).

    Raises:
        ValueError: Image and mask differ in size.

    Example:
        >>> image, mask = np.full((60, 80, 3), 200, np.uint8), np.zeros((60, 80), bool)
        >>> image[20:40, 20:60], mask[20:40, 20:60] = (83, 43, 35), True
        >>> measures = measure_lesion(image, mask)
        >>> measures.centroid_px, measures.asymmetry, measures.solidity, measures.colour_count
        ((40.0, 30.0), 0.0, 1.0, 1)
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image and mask differ in size: {image.shape[:2]} and {mask.shape}")
    piece = largest_piece(reduce_mask(mask))
    if piece is None:
        return LesionMeasures(pieces=0, cut_by_frame=False)
    small = piece.mask
    scale = max(mask.shape) / max(small.shape)
    axes = geometry.principal_axes(small)
    contact = frame_contact(small)
    return LesionMeasures(
        pieces=piece.count,
        cut_by_frame=contact > MAX_FRAME_CONTACT,
        kept_share=piece.kept_share,
        frame_contact=contact,
        centroid_px=(axes.x * scale, axes.y * scale),
        equivalent_diameter_px=_diameter(small) * scale,
        longest_diameter_px=geometry.longest_extent(small) * scale,
        axes_px=(axes.major * scale, axes.minor * scale),
        angle_degrees=math.degrees(axes.angle),
        **_close_up(image, mask, small, shaped=contact <= MAX_FRAME_CONTACT),
    )


def frame_contact(mask: Mask) -> float:
    """Returns the share of a mask's outline that lies on the frame; 0 for an empty mask.

    Counted in pixel edges.

    Example:
        >>> frame_contact(np.array([[True, False], [False, False]]))
        0.5
    """
    rows, columns = mask[[0, -1]], mask[:, [0, -1]]
    on_frame = int(np.count_nonzero(rows) + np.count_nonzero(columns))
    inside = int((mask[1:] ^ mask[:-1]).sum() + (mask[:, 1:] ^ mask[:, :-1]).sum())
    return on_frame / max(on_frame + inside, 1)


def _close_up(image: NDArray[np.uint8], mask: Mask, small: Mask, *, shaped: bool) -> dict[str, Any]:
    """Returns what is measured at the lesion's own scale."""
    patch, lesion = _cut(image, mask, small)
    piece = largest_piece(lesion)
    if piece is None:  # thinner than half a cell of the patch
        return {}
    lesion = piece.mask
    lab = to_lab(patch, gains=skin_gains(patch[~lesion]))
    shares = colour_shares(lab[lesion], lab[~lesion])
    found: dict[str, Any] = {
        "border_step": _border_step(lab[..., 0], lesion),
        "colour_shares": shares,
        "colour_count": sum(share >= MIN_COLOUR_SHARE for share in shares.values()),
    }
    area = int(lesion.sum())
    if not shaped or area < MIN_AREA_PX:
        return found
    folds = geometry.fold_both(lesion)
    return found | {
        "asymmetry_longer": folds[0].uncovered,
        "asymmetry_shorter": folds[1].uncovered,
        "colour_asymmetry": _colour_asymmetry(lab, lesion, folds),
        "compactness": max(1.0, geometry.perimeter(lesion) ** 2 / (4 * math.pi * area)),
        "solidity": geometry.solidity(lesion),
    }


def _cut(image: NDArray[np.uint8], mask: Mask, small: Mask) -> tuple[NDArray[np.uint8], Mask]:
    """Returns image and mask around the lesion, at most ``PATCH_SIDE_PX`` long."""
    spans = []
    sides = [np.flatnonzero(small.any(axis=1)), np.flatnonzero(small.any(axis=0))]
    margin = 1 + _MARGIN * max(int(side[-1]) - int(side[0]) + 1 for side in sides)
    for side, length, small_length in zip(sides, mask.shape, small.shape, strict=True):
        factor = length / small_length
        first = max(0, math.floor((int(side[0]) - margin) * factor))
        stop = min(length, math.ceil((int(side[-1]) + 1 + margin) * factor))
        spans.append(slice(first, stop))
    patch, lesion = image[spans[0], spans[1]], mask[spans[0], spans[1]]
    size = geometry.small_size(lesion.shape[0], lesion.shape[1], PATCH_SIDE_PX)
    lesion = reduce_mask(lesion, long_side_px=PATCH_SIDE_PX)
    return geometry.shrink(patch, size), lesion


def _colour_asymmetry(lab: Lab, lesion: Mask, folds: tuple[Fold, Fold]) -> float:
    """Returns the mean ΔE between pixels that meet in either fold, over 100, at most 1."""
    colours = lab.reshape(-1, 3)
    own = colours[np.flatnonzero(lesion)]
    met = [np.linalg.norm(own[f.met] - colours[f.partner[f.met]], axis=1) for f in folds]
    distances = np.concatenate(met)
    return min(1.0, float(distances.mean()) / 100) if len(distances) else 1.0


def _border_step(lightness: NDArray[np.float32], lesion: Mask) -> float | None:
    """Returns the median over the eighths of the border of L* outside less L* inside.

    Paper:
        The border's eighths are Stolz's; rings on either side of it as in Grana et al., A new
        algorithm for border description of polarized light surface microscopic images of
        pigmented skin lesions, IEEE Trans Med Imaging 22(8), 2003, who follow the profile.
    """
    width = max(1, round(_RING * _diameter(lesion)))
    outer = ~lesion & geometry.grow(lesion, width)
    inner = lesion & geometry.grow(~lesion, width)
    axes = geometry.principal_axes(lesion)
    means = [_sector_means(lightness, ring, axes.x, axes.y) for ring in (outer, inner)]
    steps = means[0] - means[1]
    known = steps[~np.isnan(steps)]
    return float(np.median(known)) if len(known) >= _MIN_SECTORS else None


def _sector_means(
    values: NDArray[np.float32], ring: Mask, x: float, y: float
) -> NDArray[np.float64]:
    """Returns the mean over a ring in each eighth of the directions from (x, y); nan where few."""
    rows, columns = np.nonzero(ring)
    turns = np.arctan2(rows + 0.5 - y, columns + 0.5 - x) / (2 * math.pi)
    sector = np.floor(turns * _SECTORS).astype(np.intp) % _SECTORS
    counts = np.bincount(sector, minlength=_SECTORS)
    sums = np.bincount(sector, weights=values[ring], minlength=_SECTORS)
    return np.where(counts >= _MIN_RING_PX, sums / np.maximum(counts, 1), np.nan)


def _diameter(mask: Mask) -> float:
    return 2 * math.sqrt(int(mask.sum()) / math.pi)
