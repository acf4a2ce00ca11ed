"""Which images the figures show, by rule: Figs. 12, 13 and 14."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dermfuse.errors import DataError
from dermfuse.figures.hardness import RULES, Rule
from dermfuse.figures.inside import even_ranks
from dermfuse.figures.maps import ProbabilityRow, ShownImage, draw_probability_maps
from dermfuse.figures.outlines import Panel, Row, draw_panels
from dermfuse.figures.picture import Picture
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
from dermfuse.figures.style import Basis
from dermfuse.masks import read_mask
from dermfuse.predictions import Predictions
from dermfuse.preprocess import read_image, read_probability, resize_probability

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
