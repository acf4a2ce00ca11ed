"""Fitting what tells dermoscopy from other images, and measuring how well it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.appearance import appearance
from dermfuse.analysis.gate import (
    EMBEDDING_AXES,
    Cloud,
    Dermoscopy,
    fit_cloud,
    join_embeddings,
    write_dermoscopy,
)
from dermfuse.analysis.networks import Network
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.looks import Looks
from dermfuse.preprocess import read_image
from dermfuse.release.folder import Gate
from dermfuse.scores import Label
from dermfuse.shipping.others import other_images
from dermfuse.shipping.out_of_fold import FoldAnswers, each_image, embed, look_at

FLAGGED_DERMOSCOPY = 0.04
"""Share of held-back dermoscopy, of either class, that the threshold lets be flagged."""
MALIGNANT_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""How much malignant images may count in where dermoscopy lies, to choose from."""
FILE_NAME = "dermoscopy.npz"

Features = NDArray[np.float32]
Distances = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedGate:
    """The gate, and what it does to dermoscopy.

    Attributes:
        gate: For the release.
        withheld: Whether each held-back image is unlike those learnt from, by its id; share and
            threshold for a fold were chosen on the others.
    """

    gate: Gate
    withheld: Mapping[str, bool]


@dataclass(frozen=True, slots=True, eq=False)
class _HeldBack:
    """Distances of one fold's images, which were neither trained on nor fitted to.

    Attributes:
        distances: (N,)
        malignant: (N,)
        ratios: How much farther they lie than the images that were fitted to, in the median:
            their embeddings and their appearance.
    """

    distances: Distances
    malignant: NDArray[np.bool_]
    ratios: tuple[float, float]


def fit_gate(
    folds: Sequence[Sequence[FoldAnswers]],
    networks: Sequence[Network],
    lesions: Sequence[Lesion],
    out: Path,
    *,
    looks: Looks = 1,
    seed: int = 0,
) -> FittedGate:
    """Writes what dermoscopy looks like to the networks that ship, and returns the gate.

    The threshold comes from the folds: each fold's images are fitted to, those it held back are
    measured. Malignant lesions are the scarcer and the odder ones: a cloud of all images alike
    would withhold more of them. So they count for more, by the share at which both classes lie
    equally far. What other images do is measured with the networks that ship.

    Args:
        folds: Of each class network, its folds; all networks have the same folds.
        networks: The class networks that ship, in the same order.
        lesions: The images they were trained on.
        out: The release folder.
        looks: At how many orientations of an image the networks look.
        seed: Of the other images.

    Raises:
        ExportError: The networks' folds differ.
    """
    _require_same_folds(folds)
    in_folds = [one for fold in folds[0] for one in (*fold.held_back, *fold.trained_on)]
    once = {lesion.image_id: lesion for lesion in (*lesions, *in_folds)}
    found = each_image(lambda lesion: appearance(read_image(lesion.image_path)), once.values())
    appearances = dict(zip(once, found, strict=True))
    measured = {
        share: [_measure_fold(fold, appearances, share) for fold in zip(*folds, strict=True)]
        for share in MALIGNANT_SHARES
    }
    share = _fairest(measured)
    ratios = np.mean([fold.ratios for fold in measured[share]], axis=0)
    dermoscopy = _fit(
        join_embeddings([embed(network, lesions, looks=looks) for network in networks]),
        np.stack([appearances[lesion.image_id] for lesion in lesions]),
        _weigh(lesions, share),
        scales=(float(ratios[0]), float(ratios[1])),
    )
    threshold = _threshold(measured[share])
    withheld = _withhold(measured, [fold.held_back for fold in folds[0]])
    told: dict[str, Any] = {"dermoscopy held back": _flagged(np.array(list(withheld.values())))}
    for kind, images in other_images(seed=seed).items():
        embeddings = join_embeddings([_embed(network, images, looks) for network in networks])
        distances = dermoscopy.distance(embeddings, np.stack([appearance(i) for i in images]))
        told[kind] = _flagged(distances > threshold)
    digest = write_dermoscopy(out / FILE_NAME, dermoscopy)
    return FittedGate(Gate(FILE_NAME, digest, threshold, told), withheld)


def _require_same_folds(folds: Sequence[Sequence[FoldAnswers]]) -> None:
    held_back = [[[x.image_id for x in fold.held_back] for fold in of] for of in folds]
    if any(ids != held_back[0] for ids in held_back):
        raise ExportError(
            "the class networks held back different images",
            expected="the same folds for all of them, in one order",
            action="Train them with equal data.folds, seeds and images",
        )


def _measure_fold(
    same_fold: Sequence[FoldAnswers], appearances: Mapping[str, Features], share: float
) -> _HeldBack:
    fold = same_fold[0]
    seen, new = (
        np.stack([appearances[lesion.image_id] for lesion in part])
        for part in (fold.trained_on, fold.held_back)
    )
    others = join_embeddings([one.embedding for one in same_fold])
    known = _fit(
        join_embeddings([one.embeddings for one in same_fold]),
        seen,
        _weigh(fold.trained_on, share),
    )
    ratios = (
        float(np.median(known.embedding.distance(others))),
        float(np.median(known.appearance.distance(new))),
    )
    return _HeldBack(
        _scaled(known, ratios).distance(others, new),
        np.array([lesion.label == Label.MALIGNANT for lesion in fold.held_back]),
        ratios,
    )


def _fit(
    embeddings: Features,
    appearances: Features,
    weights: Distances,
    *,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Dermoscopy:
    cloud = partial(fit_cloud, weights=weights)
    embedding: Cloud = cloud(embeddings, axes=EMBEDDING_AXES)
    return _scaled(Dermoscopy(embedding, cloud(appearances, axes=appearances.shape[1])), scales)


def _scaled(known: Dermoscopy, scales: tuple[float, float]) -> Dermoscopy:
    return Dermoscopy(known.embedding.scaled(scales[0]), known.appearance.scaled(scales[1]))


def _weigh(lesions: Sequence[Lesion], share: float) -> Distances:
    """Returns weights under which malignant images make up ``share`` of the whole."""
    malignant = np.array([lesion.label == Label.MALIGNANT for lesion in lesions])
    if malignant.all() or not malignant.any():
        return np.ones(len(lesions))
    each = (share / malignant.sum(), (1.0 - share) / (~malignant).sum())
    return np.asarray(np.where(malignant, *each), dtype=np.float64)


def _fairest(measured: Mapping[float, Sequence[_HeldBack]]) -> float:
    """Returns the share at which the thresholds of both classes lie closest together."""

    def gap(share: float) -> float:
        each = [_quantile(measured[share], malignant=malignant) for malignant in (True, False)]
        return abs(each[0] - each[1])

    return min(measured, key=gap)


def _threshold(folds: Sequence[_HeldBack]) -> float:
    """Returns the distance that is passed by as many of one class as of the other, in the mean."""
    both = [_quantile(folds, malignant=malignant) for malignant in (True, False)]
    return float(np.mean(both))


def _quantile(folds: Sequence[_HeldBack], *, malignant: bool) -> float:
    chosen = np.concatenate([fold.distances[fold.malignant == malignant] for fold in folds])
    if not chosen.size:
        return _quantile(folds, malignant=not malignant)
    return float(np.quantile(chosen, 1.0 - FLAGGED_DERMOSCOPY))


def _withhold(
    measured: Mapping[float, Sequence[_HeldBack]], held_back: Sequence[Sequence[Lesion]]
) -> dict[str, bool]:
    """Returns which held-back images are withheld by a share and threshold of other folds.

    With one hold-out there is no other fold, and both are chosen on its own images.
    """
    withheld: dict[str, bool] = {}
    for index, lesions in enumerate(held_back):
        others = {
            share: [fold for i, fold in enumerate(folds) if i != index] or list(folds)
            for share, folds in measured.items()
        }
        share = _fairest(others)
        over = measured[share][index].distances > _threshold(others[share])
        withheld |= {x.image_id: bool(one) for x, one in zip(lesions, over, strict=True)}
    return withheld


def _flagged(flagged: NDArray[np.bool_]) -> dict[str, Any]:
    return {"images": flagged.size, "flagged": float(flagged.mean())}


def _embed(network: Network, images: Sequence[NDArray[np.uint8]], looks: Looks) -> Features:
    rows = [
        look_at(network, Image.fromarray(image), looks)["embedding"].mean(axis=0)
        for image in images
    ]
    return np.stack(rows)
