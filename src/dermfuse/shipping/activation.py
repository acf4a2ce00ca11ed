"""Where activation maps point, of images that the networks were not trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.maps import join_activations
from dermfuse.data.isic2016 import Lesion
from dermfuse.masks import read_mask
from dermfuse.preprocess import squeeze_mask
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import Member
from dermfuse.scores import Label
from dermfuse.shipping.out_of_fold import FoldAnswers, each_image

Map = NDArray[np.float32]

PLACES = ("inside", "outside", "nowhere")
"""Where what speaks most for malignancy lies, beside the lesion; nowhere if all speaks against."""

_GRID_PX = 96  # maps have 6 x 6 places: finer than that


def measure_activation(
    asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]], members: Sequence[Member]
) -> dict[str, Any]:
    """Returns how many maps of each class point into the lesion, out of it, and nowhere.

    Args:
        asked: The card of each network, and what its folds answered.
        members: Their weights, in this order.

    Returns:
        For ``malignant`` and ``benign`` the number of ``images``, and of each of ``PLACES``; images
        that have no true mask are not counted, and a class without any is left out.
    """
    maps = [_by_image(folds) for _, folds in asked]
    lesions = [
        lesion
        for fold in asked[0][1]
        for lesion in fold.held_back
        if lesion.mask_path
        and lesion.label is not None
        and all(lesion.image_id in of_network for of_network in maps)
    ]

    def place(lesion: Lesion) -> str:
        each = [{"activation_map": of_network[lesion.image_id]} for of_network in maps]
        mask = squeeze_mask(read_mask(cast("Path", lesion.mask_path)), _GRID_PX)
        return find_peak(join_activations(each, members), mask)

    places = each_image(place, lesions)
    counts = {}
    for label in (Label.MALIGNANT, Label.BENIGN):
        own = [found for found, x in zip(places, lesions, strict=True) if x.label == label]
        if own:
            counts[label.name.lower()] = {"images": len(own)} | {
                name: own.count(name) for name in PLACES
            }
    return counts


def find_peak(activation: Map, mask: NDArray[np.bool_]) -> str:
    """Returns where the place lies that adds most to the log-odds: one of ``PLACES``.

    Args:
        activation: (h, w)
        mask: Of the lesion, (S, S).

    Example:
        >>> lesion = np.array([[True, False], [True, False]])
        >>> find_peak(np.array([[2.0, 1.0], [0.0, -1.0]], np.float32), lesion)
        'inside'
    """
    if activation.max() <= 0:
        return "nowhere"
    row, column = np.unravel_index(activation.argmax(), activation.shape)
    height, width = mask.shape
    rows, columns = activation.shape
    at = int((row + 0.5) * height / rows), int((column + 0.5) * width / columns)
    return "inside" if mask[at] else "outside"


def _by_image(folds: Sequence[FoldAnswers]) -> Mapping[str, Map]:
    return {
        lesion.image_id: activation
        for fold in folds
        for lesion, activation in zip(fold.held_back, fold.activations, strict=True)
    }
