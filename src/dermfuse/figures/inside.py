"""Looks into trained class networks and draws what is seen: Figs. 9 and 10.

The only figures that need torch; it is imported when a run is looked into.

What the networks' embeddings look like in two dimensions: Fig. 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.errors import DataError, DependencyError, installing
from dermfuse.figures.maps import ActivationRow, ShownImage, draw_activation_maps
from dermfuse.figures.sources import RunSource, Sources, common_validation, shrunk
from dermfuse.figures.style import (
    BLUE,
    VERMILLION,
    Basis,
    columns_for,
    encode,
    fold,
    grid_of,
    hide,
    house_style,
    new_figure,
    require,
    require_equal,
)
from dermfuse.imaging.preprocess import read_image, squeeze
from dermfuse.report import Picture

if TYPE_CHECKING:
    from dermfuse.training.insight import Insight

Values = NDArray[np.float64]

COMPONENTS = 50
"""Principal components that t-SNE starts from."""
LARGEST_PERPLEXITY = 30.0
THUMBNAIL_PX = 32
"""Side of the thumbnails whose pixels are the "raw image"."""
FEWEST_IMAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The same images as points of one space.

    Args:
        name: Whose: raw pixels, or a network's embedding.
        features: One row per image. (N, F)
    """

    name: str
    features: Values


def silhouette(features: Values, malignant: NDArray[np.bool_]) -> float:
    """Returns how well the classes are apart: the mean silhouette, from -1 to 1.

    (b - a) / max(a, b) of each image, where a is its mean distance from its own class and b from
    the other (Euclidean); 0 means that the classes lie through each other.

    Args:
        features: In their own space, not in t-SNE's plane, whose distances mean little. (N, F)
        malignant: Labels. (N,)

    Raises:
        DataError: A class has fewer than two images.
    """
    if min(np.count_nonzero(malignant), np.count_nonzero(~malignant)) < 2:
        raise DataError(
            "a class has fewer than two images", expected="two benign and two malignant ones"
        )
    return float(silhouette_score(features, malignant))


def project(features: Values, *, seed: int) -> Values:
    """Returns t-SNE's plane: PCA to 50 dimensions, then t-SNE from the first two of them.

    Args:
        features: (N, F), N at least 4.
        seed: Equal seeds give equal planes on one machine.

    Returns:
        (N, 2).

    Raises:
        DataError: There are fewer than 4 images.
    """
    count = len(features)
    if count < FEWEST_IMAGES:
        raise DataError(f"{count} images for t-SNE", expected=f"{FEWEST_IMAGES} or more")
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed, svd_solver="full").fit_transform(features)
    perplexity = min(LARGEST_PERPLEXITY, (count - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(plane, dtype=np.float64)


@house_style
def draw_embeddings(
    spaces: Sequence[Space],
    malignant: NDArray[np.bool_],
    *,
    basis: Basis,
    seed: int = 0,
    name: str = "fig-10-tsne",
) -> Picture:
    """Returns the t-SNE plane of each space, coloured by class, with its silhouette.

    Args:
        spaces: The same images in each.
        malignant: Their labels. (N,)
        basis: Which images.
        seed: Of t-SNE.
        name: Of the file.

    Raises:
        DataError: There is no space, rows and labels differ in number, or a class is too small.

    Paper:
        Fig. 10, which has the test images and no number.
    """
    require(spaces, "embeddings")
    require_equal([len(malignant), *(len(s.features) for s in spaces)], "labels and features")
    across = columns_for(len(spaces))
    down = -(-len(spaces) // across)
    figure = new_figure(1.2 + 9.4 / across * down)
    panels = [axes for row in grid_of(figure, down, across) for axes in row]
    for axes in panels:
        hide(axes)
    for axes, space in zip(panels, spaces, strict=False):
        apart = silhouette(space.features, malignant)
        x, y = project(space.features, seed=seed).T
        for chosen, colour, marker, label in (
            (~malignant, BLUE, "o", "benign"),
            (malignant, VERMILLION, "^", "malignant"),
        ):
            axes.scatter(
                x[chosen],
                y[chosen],
                s=26,
                alpha=0.9,
                linewidths=0,
                color=colour,
                marker=marker,
                label=label,
            )
        axes.set_title(
            f"{fold(space.name, 96 // across)}\nsilhouette {apart:+.3f} in "
            f"{space.features.shape[1]} dimensions"
        )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return encode(
        figure,
        name=name,
        title="t-SNE of raw pixels and of each network's embedding",
        caption=(
            f"PCA to {COMPONENTS} dimensions, then t-SNE (seed {seed}); raw pixels are "
            f"{THUMBNAIL_PX} x {THUMBNAIL_PX} thumbnails. The silhouette is taken in the space "
            "itself (all pixels, the whole embedding; Euclidean), not in the plane: 1 for classes "
            "apart, 0 for classes through each other. Axes have no unit."
        ),
        basis=basis,
    )


# ruff: noqa: PLC0415 — torch is imported where a network is asked, so that the rest needs none


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
