"""Fitting what tells dermoscopy from other images, and measuring how well it does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from dermfuse.preprocess import read_image, squeeze
from dermfuse.release.folder import Gate
from dermfuse.shipping.others import other_images
from dermfuse.shipping.out_of_fold import FoldAnswers

FLAGGED_DERMOSCOPY = 0.04
"""Share of held-back dermoscopy that the threshold lets be flagged."""
FILE_NAME = "dermoscopy.npz"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _HeldBack:
    """Distances of images that were neither trained on nor fitted to.

    Attributes:
        distances: Pooled over the folds. (N,)
        embedding_ratio: How much farther they lie than the images that were fitted to.
        appearance_ratio: The same for the appearance.
    """

    distances: NDArray[np.float64]
    embedding_ratio: float
    appearance_ratio: float


def fit_gate(
    folds: Sequence[Sequence[FoldAnswers]],
    networks: Sequence[Network],
    lesions: Sequence[Lesion],
    out: Path,
    *,
    seed: int = 0,
) -> Gate:
    """Writes what dermoscopy looks like to the networks that ship, and returns the gate.

    The threshold comes from the folds: each fold's images are fitted to, those it held back are
    measured. What other images do is measured with the networks that ship.

    Args:
        folds: Of each class network, its folds; all networks have the same folds.
        networks: The class networks that ship, in the same order.
        lesions: The images they were trained on.
        out: The release folder.
        seed: Of the other images.
    """
    by_id: dict[str, NDArray[np.float32]] = {}
    in_folds = [one for fold in folds[0] for one in (*fold.held_back, *fold.trained_on)]
    for lesion in (*lesions, *in_folds):
        if lesion.image_id not in by_id:
            by_id[lesion.image_id] = appearance(read_image(lesion.image_path))
    held_back = _measure_held_back(folds, by_id)
    embeddings = _embed(networks, (read_image(lesion.image_path) for lesion in lesions))
    found = Dermoscopy(
        fit_cloud(embeddings, axes=EMBEDDING_AXES).scaled(held_back.embedding_ratio),
        _fit_appearance(np.stack([by_id[lesion.image_id] for lesion in lesions])).scaled(
            held_back.appearance_ratio
        ),
    )
    threshold = float(np.quantile(held_back.distances, 1.0 - FLAGGED_DERMOSCOPY))
    flagged = float((held_back.distances > threshold).mean())
    measured: dict[str, Any] = {
        "dermoscopy held back": {"images": len(held_back.distances), "flagged": flagged}
    }
    for kind, images in other_images(seed=seed).items():
        distances = found.distance(
            _embed(networks, images), np.stack([appearance(image) for image in images])
        )
        measured[kind] = {
            "images": len(images),
            "flagged": float((distances > threshold).mean()),
        }
    digest = write_dermoscopy(out / FILE_NAME, found)
    return Gate(FILE_NAME, digest, threshold, measured)


def _measure_held_back(
    folds: Sequence[Sequence[FoldAnswers]], appearances: Mapping[str, NDArray[np.float32]]
) -> _HeldBack:
    distances, embedding_ratios, appearance_ratios = [], [], []
    for same_fold in zip(*folds, strict=True):
        fitted = join_embeddings(
            [fold.embeddings for fold in same_fold if fold.embeddings is not None]
        )
        others = join_embeddings([fold.answers["embedding"] for fold in same_fold])
        looks, other_looks = (
            np.stack([appearances[lesion.image_id] for lesion in part])
            for part in (same_fold[0].trained_on, same_fold[0].held_back)
        )
        seen, look = fit_cloud(fitted, axes=EMBEDDING_AXES), _fit_appearance(looks)
        ratios = (
            float(np.median(seen.distance(others))),
            float(np.median(look.distance(other_looks))),
        )
        known = Dermoscopy(seen.scaled(ratios[0]), look.scaled(ratios[1]))
        distances.append(known.distance(others, other_looks))
        embedding_ratios.append(ratios[0])
        appearance_ratios.append(ratios[1])
    return _HeldBack(
        np.concatenate(distances),
        float(np.mean(embedding_ratios)),
        float(np.mean(appearance_ratios)),
    )


def _fit_appearance(features: NDArray[np.float32]) -> Cloud:
    return fit_cloud(features, axes=features.shape[1])


def _embed(networks: Sequence[Network], images: Iterable[Pixels]) -> NDArray[np.float32]:
    rows: list[list[NDArray[np.float32]]] = [[] for _ in networks]
    for image in images:
        for row, network in zip(rows, networks, strict=True):
            square = squeeze(image, network.card.input.size)[None]
            row.append(network.ask(square)["embedding"])
    return join_embeddings([np.concatenate(row) for row in rows])
