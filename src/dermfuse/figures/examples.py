"""Which images the figures show, by rule: Figs. 12, 13 and 14.

What makes an image hard to segment, as numbers: the rules behind Fig. 13.

Each rule takes an image (H, W, 3) and the lesion's mask (H, W) and returns one number. Lengths
are shares of the shorter side, so that a rule reads the same at any size; Fig. 13 measures all
images at one size. The rules rank images, they do not diagnose: a ruler's ticks count as hair
where they are long, and a coloured sticker counts as marker.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from dermfuse.errors import DataError
from dermfuse.figures.inside import even_ranks
from dermfuse.figures.maps import (
    Panel,
    ProbabilityRow,
    Row,
    ShownImage,
    draw_panels,
    draw_probability_maps,
)
from dermfuse.figures.sources import (
    ScoredGroup,
    SegmentedNetwork,
    Sources,
    is_fusion,
    name_of,
    scale_image,
    scale_mask,
    shrunk,
    shrunk_mask,
    without_members,
)
from dermfuse.figures.style import Basis, Picture
from dermfuse.imaging.colours import to_lab
from dermfuse.imaging.geometry import perimeter
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, read_probability, resize_probability
from dermfuse.predictions.folder import Predictions

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_HAIR_WIDTH = 0.035
"""Structures narrower than this are thin."""
_HAIR_LENGTH = 0.12
"""Thin structures at least this long are hairs."""
_HAIR_DEPTH = 14.0
"""How much darker than its surroundings a hair is, of 255."""
_HAIR_THINNESS = 0.35
"""Largest area of a hair, as a share of the square on its length."""
_MARGIN = 0.03
"""What lies this near to the lesion is its border."""
_RING = 0.25
"""Width of the ring of skin around the lesion, in its mean radii."""
_INK_CHROMA = 18.0
"""How far in a* and b* ink is from the skin around it."""
_INK_OFF_SKIN = 9.0
"""How far in a* and b* ink is from all shades of the skin, from grey to the skin's own colour."""
_INK_HUES_DEGREES = (120.0, 345.0)
"""From green over blue to purple, in the plane of a* and b*."""

_LUMA = np.array((0.299, 0.587, 0.114))


def hair_fraction(image: Image, mask: Mask) -> float:
    """Returns the share of the skin outside the lesion that thin, long, dark lines cover.

    A black-hat (the closing less the image) keeps what is dark and narrow; of its connected
    pieces those count that are long and cover little of the square on their length. Inside the
    lesion and at its border pigment looks alike: they are left out.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W).
    """
    _check(image, mask)
    side = min(mask.shape)
    grey = image @ _LUMA
    width = max(3, 2 * round(_HAIR_WIDTH * side / 2) + 1)
    dark = ndimage.grey_closing(grey, size=(width, width)) - grey > _HAIR_DEPTH
    skin = ~_grown(mask, _MARGIN * side)
    pieces, count = ndimage.label(dark & skin, structure=np.ones((3, 3)))
    if not count or not skin.any():
        return 0.0
    areas = ndimage.sum_labels(np.ones(mask.shape), pieces, range(1, count + 1))
    boxes = ndimage.find_objects(pieces)
    lengths = np.array([np.hypot(*(part.stop - part.start for part in box)) for box in boxes])
    is_hair = (lengths >= _HAIR_LENGTH * side) & (areas <= _HAIR_THINNESS * lengths**2)
    return float(areas[is_hair].sum() / np.count_nonzero(skin))


def marker_fraction(image: Image, mask: Mask) -> float:
    """Returns the share of the image outside the lesion that is green, blue or purple.

    Hue is measured from the skin's own: the median a* and b* outside the lesion are taken off,
    so that a camera's tint is no ink. Skin in shadow and in glare fades towards grey, which is
    bluer than it: what lies near the line from grey to the skin's colour is skin. The lesion
    itself may be blue-grey and is left out.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W).
    """
    _check(image, mask)
    skin = ~_grown(mask, _MARGIN * min(mask.shape))
    if not skin.any():
        return 0.0
    colours = to_lab(image[skin])[:, 1:]
    skin_colour = np.median(colours, axis=0)
    a, b = (colours - skin_colour).T
    hue = np.degrees(np.arctan2(b, a)) % 360
    low, high = _INK_HUES_DEGREES
    is_ink = (np.hypot(a, b) > _INK_CHROMA) & (hue > low) & (hue < high)
    is_ink &= _distance_from_shades(colours, skin_colour) > _INK_OFF_SKIN
    return float(np.mean(is_ink))


def colour_difference(image: Image, mask: Mask) -> float:
    """Returns the distance of the lesion's mean colour from the skin around it, in CIELAB.

    The skin is a ring a quarter of the lesion's mean radius wide, a little away from its border.
    A difference of 2 is just seen; low contrast is a small number.

    Args:
        image: (H, W, 3) RGB.
        mask: The lesion, (H, W); it is not empty and not the whole frame.
    """
    _check(image, mask)
    radius = sqrt(np.count_nonzero(mask) / pi)
    near, far = _grown(mask, 0.05 * radius), _grown(mask, (0.05 + _RING) * radius)
    ring = far & ~near
    if not mask.any() or not ring.any():
        raise DataError("the mask is empty or the whole frame", expected="a lesion on skin")
    inside, outside = (to_lab(image[part]).mean(axis=0, dtype=np.float64) for part in (mask, ring))
    return float(np.linalg.norm(inside - outside))


def irregularity(_: Image, mask: Mask) -> float:
    """Returns perimeter² / (4 pi area) of the lesion: 1 for a disc, more for all else.

    The perimeter is Crofton's: how often lines in four directions cross the border. Counting
    pixel edges would give a disc 1.6.

    Args:
        _: Not looked at.
        mask: The lesion, (H, W), not empty.
    """
    if not mask.any():
        raise DataError("the mask is empty", expected="a lesion")
    return perimeter(mask) ** 2 / (4 * pi * np.count_nonzero(mask))


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which an image is hard.

    Args:
        name: In words, for the figure.
        measure: (image, mask) to a number.
        number: What the number is, in words.
        largest_is_hardest: Or the smallest.
    """

    name: str
    measure: Callable[[Image, Mask], float]
    number: str
    largest_is_hardest: bool = True

    def order(self, values: NDArray[np.float64]) -> list[int]:
        """Returns the indices of images from the hardest on."""
        keys = -values if self.largest_is_hardest else values
        return [int(index) for index in np.argsort(keys, kind="stable")]


RULES = (
    Rule("hair", hair_fraction, "hair on skin, share"),
    Rule("marker or ink", marker_fraction, "ink on skin, share"),
    Rule("low contrast", colour_difference, "colour difference", largest_is_hardest=False),
    Rule("irregular border", irregularity, "irregularity"),
)
"""The hard images of Fig. 13."""


def _grown(mask: Mask, distance_px: float) -> Mask:
    """Returns the mask grown by a distance on all sides."""
    if not mask.any():
        return mask
    grown: Mask = ndimage.distance_transform_edt(~mask) <= max(1.0, distance_px)
    return grown


def _distance_from_shades(
    colours: NDArray[np.float32], skin: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns the distance of a* and b*, (N, 2), from the line between grey and the skin's."""
    along = np.clip(colours @ skin / max(float(skin @ skin), 1e-9), 0, 1)
    return np.asarray(np.linalg.norm(colours - along[:, None] * skin, axis=1))


def _check(image: Image, mask: Mask) -> None:
    if image.shape != (*mask.shape, 3):
        raise DataError(
            f"an image of shape {image.shape} with a mask of shape {mask.shape}",
            expected="(H, W, 3) and (H, W)",
        )


MEASURED_PX = 256
"""Longer side at which hardness is measured, whatever the image's size."""

_HARD_PER_RULE = 4
_WORST = 8
_WORST_ACROSS = 4
_WRONG = 4
_MAPPED_IMAGES = 4

Hardness = Mapping[str, Mapping[str, float]]
"""Rule, image id to the rule's number; images that a rule cannot measure are not there."""


def measure_hardness(sources: Sources, image_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns every rule's number of each image, by its true mask.

    Raises:
        ImageError: A file cannot be read.
    """
    table: dict[str, dict[str, float]] = {rule.name: {} for rule in RULES}
    for image_id in image_ids:
        image = read_image(sources.lesions[image_id].image_path)
        image = scale_image(image, MEASURED_PX, enlarge=True)
        mask = scale_mask(read_mask(sources.truth.masks[image_id]), *image.shape[:2])
        for rule in RULES:
            try:
                table[rule.name][image_id] = rule.measure(image, mask)
            except DataError:  # a mask that is empty or the whole frame has no border
                continue
    return table


def hardest(rule: Rule, numbers: Mapping[str, float], wanted: int) -> list[str]:
    """Returns the hardest images by a rule; none that has nothing of what the rule looks for."""
    image_ids = [i for i, number in numbers.items() if number > 0 or not rule.largest_is_hardest]
    order = rule.order(np.array([numbers[image_id] for image_id in image_ids]))
    return [image_ids[index] for index in order[:wanted]]


def draw_hard_images(
    sources: Sources, network: SegmentedNetwork, hardness: Hardness, *, name: str
) -> Picture:
    """Returns Fig. 13: the contours on the images that are hardest by each rule.

    Raises:
        DermfuseError: An image cannot be read, or no rule applies to any.
    """
    rows, without = [], []
    for rule in RULES:
        numbers = {i: n for i, n in hardness[rule.name].items() if i in network.agreement}
        chosen = hardest(rule, numbers, _HARD_PER_RULE)
        panels = [
            _contours(sources, network, image_id, f"{rule.number} {numbers[image_id]:.3g}")
            for image_id in chosen
        ]
        if panels:
            rows.append(Row(rule.name, tuple(panels)))
        else:
            without.append(rule.name)
    caption = (
        f"The {_HARD_PER_RULE} hardest images by each rule, measured on the true mask at "
        f"{MEASURED_PX} px; not chosen by how well they were segmented."
    )
    if without:
        caption += f" No image has: {', '.join(without)}."
    return draw_panels(
        rows,
        name=name,
        title="Contours on hard images",
        caption=caption,
        basis=_basis(network),
    )


def draw_worst_masks(sources: Sources, network: SegmentedNetwork, *, name: str) -> Picture:
    """Returns Fig. 14 (a): the images with the lowest Jaccard.

    Raises:
        DermfuseError: An image cannot be read, or there is none.
    """
    ordered = sorted(network.agreement, key=lambda image_id: network.agreement[image_id])
    panels = [_contours(sources, network, image_id) for image_id in ordered[:_WORST]]
    rows = [
        Row("lowest Jaccard" if first == 0 else "", tuple(panels[first : first + _WORST_ACROSS]))
        for first in range(0, len(panels), _WORST_ACROSS)
    ]
    return draw_panels(
        rows,
        name=name,
        title="Failures of segmentation",
        caption=f"The {len(panels)} images with the lowest Jaccard, the lowest first.",
        basis=_basis(network),
    )


def draw_wrong_classes(sources: Sources, group: ScoredGroup, *, name: str) -> Picture:
    """Returns Fig. 14 (b): the images that each network is surest and wrong about.

    Raises:
        DermfuseError: An image cannot be read, or no image is classified wrongly.
    """
    rows = []
    names = without_members(sources, [network.name for network in group.networks])
    networks = [network for network in group.networks if network.name in names]
    several = len(networks) > 1
    for network in networks:
        for is_malignant, words, sign in ((True, "melanoma missed", 1), (False, "false alarm", -1)):
            wrong = np.flatnonzero(
                (network.malignant == is_malignant)
                & ((network.scores > network.threshold) != is_malignant)
            )
            surest = wrong[np.argsort(sign * network.scores[wrong], kind="stable")]
            panels = [
                Panel(
                    shrunk(sources.lesions[group.image_ids[index]]),
                    (group.image_ids[index], f"score {network.scores[index]:.3f}"),
                )
                for index in surest.tolist()
                if group.image_ids[index] in sources.lesions
            ][:_WRONG]
            if panels:
                rows.append(Row(f"{network.name}: {words}" if several else words, tuple(panels)))
    thresholds = sorted({f"{network.threshold:.3g}" for network in networks})
    if not rows:
        raise DataError(
            "no image is classified wrongly, or its photograph is not there", expected="one or more"
        )
    return draw_panels(
        rows,
        name=name,
        title="Failures of classification",
        caption=(
            "The images each network is surest and wrong about, malignant at a score above "
            f"{' or '.join(thresholds)}: missed melanomas from the lowest score on, false alarms "
            "from the highest."
        ),
        basis=basis_of(replace(group, networks=tuple(networks))),
    )


def draw_probabilities(sources: Sources) -> list[Picture]:
    """Returns Fig. 12 for each split with probability maps; two networks' mean is their fusion.

    Raises:
        DermfuseError: There is no map, or one cannot be read.
    """
    by_split: dict[str, list[Predictions]] = {}
    for predictions in sources.predictions:
        if predictions.probabilities:
            by_split.setdefault(predictions.manifest.split, []).append(predictions)
    if not by_split:
        raise DataError(
            "no predictions folder holds probability maps",
            expected="probabilities/*.png",
            action="Predict with: dermfuse predict --probabilities",
        )
    return [
        _draw_maps(sources, networks, numbered("fig-12-probability-maps", number, len(by_split)))
        for number, networks in enumerate(by_split.values(), start=1)
    ]


def numbered(name: str, number: int, count: int) -> str:
    """Returns a figure's name, with its number where there are several of its kind.

    Example:
        >>> numbered("fig-14", 1, 1), numbered("fig-14", 2, 3)
        ('fig-14', 'fig-14-2')
    """
    return name if count == 1 else f"{name}-{number}"


def basis_of(group: ScoredGroup) -> Basis:
    """Returns what figures of scores stand on."""
    names = tuple(network.name for network in group.networks)
    malignant = int(group.networks[0].malignant.sum())
    return Basis(group.split, len(group.image_ids), names, malignant)


def _draw_maps(sources: Sources, networks: Sequence[Predictions], name: str) -> Picture:
    common = set.intersection(*(set(p.probabilities) for p in networks)) & sources.lesions.keys()
    if not common:
        raise DataError("the networks predict no photograph in common", expected="one or more")
    columns = sorted(networks, key=is_fusion)  # fusions to the right
    image_ids = sorted(common)
    chosen = [image_ids[rank] for rank in even_ranks(len(image_ids), _MAPPED_IMAGES)]
    shown, maps = [], []
    for image_id in chosen:
        image = shrunk(sources.lesions[image_id])
        mask_path = sources.truth.masks.get(image_id)
        truth = shrunk_mask(mask_path, image) if mask_path else None
        shown.append(ShownImage(image_id, image, truth=truth))
        maps.append(
            [
                resize_probability(read_probability(p.probabilities[image_id]), *image.shape[:2])
                for p in columns
            ]
        )
    names = [name_of(p) for p in columns]
    if len(columns) == 2 and not any(map(is_fusion, columns)):
        names.append("fusion: mean of both")
        maps = [[a, b, (a + b) / np.float32(2)] for a, b in maps]
    rows = [
        ProbabilityRow(column, tuple(of_image[index] for of_image in maps))
        for index, column in enumerate(names)
    ]
    return draw_probability_maps(
        shown,
        rows,
        basis=Basis(networks[0].manifest.split, len(common), tuple(names)),
        chosen=f"{len(chosen)} images, spread evenly over the ids.",
        name=name,
    )


def _contours(sources: Sources, network: SegmentedNetwork, image_id: str, line: str = "") -> Panel:
    image = shrunk(sources.lesions[image_id])
    lines = [image_id, f"Jaccard {network.agreement[image_id]:.3f}", line]
    return Panel(
        image,
        tuple(filter(None, lines)),
        truth=shrunk_mask(sources.truth.masks[image_id], image),
        predicted=shrunk_mask(network.predictions.masks[image_id], image),
    )


def _basis(network: SegmentedNetwork) -> Basis:
    split = network.predictions.manifest.split
    return Basis(split, len(network.agreement), (network.name,))
