"""How an image becomes an outline: maps averaged, and measured out of fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.looks import Looks
from dermfuse.masks import read_mask
from dermfuse.metrics import count, jaccard
from dermfuse.preprocess import read_image, resize_probability
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import MaskRelease, Member
from dermfuse.shipping.out_of_fold import FoldNetwork, each_image, look_at
from dermfuse.shipping.rates import mean
from dermfuse.training.prediction import MASK_THRESHOLD

Values = NDArray[np.float64]
Folds = tuple[NetworkCard, Sequence[FoldNetwork]]


def make_mask_release(
    networks: Sequence[Folds],
    *,
    looks: Looks = 1,
    subsets: Mapping[str, frozenset[str]] | None = None,
) -> MaskRelease:
    """Returns how the networks' maps are averaged, and how well that outlines.

    Every map counts alike. Each image is outlined by the networks that held it back, and what was
    asked is forgotten at once: the maps of all images would not fit in memory.

    Args:
        networks: The card of each network, and its folds; any number of networks.
        looks: At how many orientations of an image they look.
        subsets: Names and image ids that are measured apart as well.
    """
    keepers = [
        {x.image_id: fold for fold in folds for x in fold.held_back} for _, folds in networks
    ]
    lesions = _held_back_by_all(networks)

    def measure(lesion: Lesion) -> list[float]:
        return _overlaps([keeper[lesion.image_id] for keeper in keepers], lesion, looks)

    overlaps = np.array(each_image(measure, lesions))
    ids = [lesion.image_id for lesion in lesions]
    measured = {
        "how": "out of fold; maps are averaged with equal weights",
        "looks": int(looks),
        **_measure(overlaps, looks),
        "fusion_in_float32": {"jaccard": mean(overlaps[:, 2])},
        "networks": {
            card.name: {"jaccard": mean(overlaps[:, 3 + index])}
            for index, (card, _) in enumerate(networks)
        },
        "subsets": {
            name: _measure(overlaps[chosen], looks)
            for name, wanted in (subsets or {}).items()
            if (chosen := np.isin(ids, sorted(wanted))).any()
        },
    }
    weight = 1.0 / len(networks)
    members = tuple(Member(card.name, weight) for card, _ in networks)
    return MaskRelease(members, MASK_THRESHOLD, measured)


def _held_back_by_all(networks: Sequence[Folds]) -> list[Lesion]:
    """Returns the images with a mask that a fold of every network held back, by id."""
    each = [
        {x.image_id: x for fold in folds for x in fold.held_back if x.mask_path}
        for _, folds in networks
    ]
    shared = set.intersection(*(set(one) for one in each))
    if not shared:
        raise ExportError(
            "no image with a mask was held back by a fold of every network that outlines",
            expected="folds of the same images",
            action="Train them with equal data.folds, seeds and images",
        )
    return [each[0][image_id] for image_id in sorted(shared)]


def _overlaps(folds: Sequence[FoldNetwork], lesion: Lesion, looks: Looks) -> list[float]:
    """Returns the Jaccard of the mean map, with one look, in float32 with one, of each network.

    Args:
        folds: Of each network the one that held the image back.
        lesion: The image; it has a mask.
        looks: At how many orientations they look.
    """
    image = Image.fromarray(read_image(lesion.image_path))
    truth = read_mask(cast("Path", lesion.mask_path))
    maps: list[list[NDArray[np.float32]]] = []
    for fold in folds:
        apart = look_at(fold.shipped, image, looks)["lesion"]
        same = fold.exact.card == fold.shipped.card
        exact = apart[0] if same else look_at(fold.exact, image, 1)["lesion"][0]
        maps.append(
            [resize_probability(one, *truth.shape) for one in (apart.mean(axis=0), apart[0], exact)]
        )
    joined = [np.mean(of_all, axis=0) for of_all in zip(*maps, strict=True)]
    found = [*joined, *(full for full, _, _ in maps)]
    return [jaccard(count(one >= MASK_THRESHOLD, truth)) for one in found]


def _measure(overlaps: Values, looks: int) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "images": len(overlaps),
        "fusion": {"jaccard": mean(overlaps[:, 0])},
    }
    if looks > 1:
        measured["one_look"] = {
            "fusion": {"jaccard": mean(overlaps[:, 1])},
            "gain": {"jaccard": mean(overlaps[:, 0] - overlaps[:, 1])},
        }
    return measured
