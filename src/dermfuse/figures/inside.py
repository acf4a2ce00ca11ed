"""Looks into trained class networks and draws what is seen: Figs. 9 and 10.

The only figures that need torch; it is imported when a run is looked into.
"""

# ruff: noqa: PLC0415 — torch is imported where a network is asked, so that the rest needs none

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import DataError, DependencyError, installing
from dermfuse.figures.embedding import THUMBNAIL_PX, Space, draw_embeddings
from dermfuse.figures.maps import ActivationRow, ShownImage, draw_activation_maps
from dermfuse.figures.picture import Picture
from dermfuse.figures.sources import RunSource, Sources, common_validation, shrunk
from dermfuse.figures.style import Basis
from dermfuse.preprocess import read_image, squeeze
from dermfuse.scores import Label

if TYPE_CHECKING:
    from dermfuse.training.insight import Insight

MOST_IMAGES = 600
"""Of more, so many are drawn by lot: t-SNE shows no more."""
SHOWN_PER_CLASS = 3


@dataclass(frozen=True, slots=True)
class Looked:
    """Class networks and what they make of the images that all of them validated on.

    Args:
        runs: The networks.
        lesions: The images.
        insights: Of each network, in the images' order.
    """

    runs: tuple[RunSource, ...]
    lesions: tuple[Lesion, ...]
    insights: "tuple[Insight, ...]"

    @property
    def malignant(self) -> NDArray[np.bool_]:
        """The labels, (N,)."""
        return np.array([lesion.label is Label.MALIGNANT for lesion in self.lesions])

    @property
    def basis(self) -> Basis:
        """What figures of them stand on."""
        names = tuple(run.name for run in self.runs)
        return Basis("validation", len(self.lesions), names, int(self.malignant.sum()))


def look(sources: Sources, *, seed: int) -> Looked:
    """Returns the embeddings and scores of all class networks, on images all validated on.

    Args:
        sources: With one class network or more, and their images.
        seed: Of the lot, where there are too many images.

    Raises:
        DataError: There is no class network, or no image in common.
        DependencyError: Torch is not installed.
        DermfuseError: A run or an image cannot be used.
    """
    runs = sources.runs_for("classification")
    if not runs:
        raise DataError("there is no run of a class network", expected="one or more run folders")
    lesions = common_validation(sources, runs)
    if len(lesions) > MOST_IMAGES:
        lot = np.random.default_rng(seed).choice(len(lesions), MOST_IMAGES, replace=False)
        lesions = [lesions[index] for index in np.sort(lot).tolist()]
    if find_spec("torch") is None:
        raise DependencyError("torch is not installed", action=installing("train"))
    from dermfuse.training.insight import embed_images
    from dermfuse.training.prediction import load_run

    insights = tuple(embed_images(load_run(run.path), lesions) for run in runs)
    return Looked(tuple(runs), tuple(lesions), insights)


def draw_maps_inside(looked: Looked) -> Picture:
    """Returns Fig. 9: activation maps on images of both classes, from low scores to high.

    Raises:
        DermfuseError: A run or an image cannot be used.
    """
    from dermfuse.training.insight import activation_maps
    from dermfuse.training.prediction import load_run

    scores = np.stack([insight.scores for insight in looked.insights])  # (networks, N)
    indices = spread_over_classes(looked.malignant, scores.mean(axis=0))
    lesions = [looked.lesions[index] for index in indices]
    rows = [
        ActivationRow(run.name, activation_maps(load_run(run.path), lesions), of_run[indices])
        for run, of_run in zip(looked.runs, scores, strict=True)
    ]
    return draw_activation_maps(
        [ShownImage(x.image_id, shrunk(x), _label(x)) for x in lesions],
        rows,
        basis=looked.basis,
        chosen=(
            "Of each class the images with the lowest, the median and the highest mean score are "
            "shown, right ones and wrong ones."
        ),
    )


def draw_embeddings_inside(looked: Looked, *, seed: int) -> Picture:
    """Returns Fig. 10: t-SNE of raw pixels and of each network's embedding.

    Raises:
        DermfuseError: An image cannot be read, or a class has too few.
    """
    thumbnails = [squeeze(read_image(x.image_path), THUMBNAIL_PX) for x in looked.lesions]
    pixels = np.stack(thumbnails).reshape(len(thumbnails), -1) / 255
    spaces = [Space("raw pixels", pixels)]
    spaces += [
        Space(run.name, insight.embeddings)
        for run, insight in zip(looked.runs, looked.insights, strict=True)
    ]
    return draw_embeddings(spaces, looked.malignant, basis=looked.basis, seed=seed)


def spread_over_classes(malignant: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[int]:
    """Returns images of each class at the lowest, the median and the highest score.

    Example:
        >>> spread_over_classes(np.array([True, False, False, False, False]), np.arange(5.0))
        [1, 2, 4, 0]
    """
    chosen: list[int] = []
    for of_class in (~malignant, malignant):
        members = np.flatnonzero(of_class)
        ordered = members[np.argsort(scores[members], kind="stable")]
        chosen += [int(ordered[rank]) for rank in even_ranks(len(ordered), SHOWN_PER_CLASS)]
    return chosen


def even_ranks(count: int, wanted: int) -> list[int]:
    """Returns ranks spread evenly from the first to the last, without repetition.

    Example:
        >>> even_ranks(10, 4), even_ranks(2, 4), even_ranks(0, 4)
        ([0, 3, 6, 9], [0, 1], [])
    """
    if not count:
        return []
    ranks = np.floor(np.linspace(0, count - 1, min(wanted, count)))
    return [int(rank) for rank in ranks]


def _label(lesion: Lesion) -> str:
    return "" if lesion.label is None else lesion.label.name.lower()
