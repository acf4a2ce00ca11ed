"""Looks into trained class networks and draws what is seen: Figs. 9 and 10.

The only figures that need torch; it is imported when a run is looked into.
"""

# ruff: noqa: PLC0415 — torch is imported where a network is asked, so that the rest needs none

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import DataError, DependencyError, installing
from dermfuse.figures.sources import RunSource, Sources, common_validation, even_ranks, shrunk
from dermfuse.figures.style import (
    BLUE,
    ROW_NAME,
    VERMILLION,
    Basis,
    encode,
    fold,
    hide,
    house_style,
    new_figure,
    panel_grid,
)
from dermfuse.imaging.preprocess import read_image, resize_map, squeeze
from dermfuse.report.page import Picture

if TYPE_CHECKING:
    from dermfuse.training.prediction import Insight

Values = NDArray[np.float64]

COMPONENTS = 50
"""Principal components that t-SNE starts from."""
LARGEST_PERPLEXITY = 30.0
THUMBNAIL_PX = 32
"""Side of the thumbnails whose pixels are the "raw image"."""
MOST_IMAGES = 600
"""Of more, so many are chosen at random: t-SNE shows no more."""
SHOWN_PER_CLASS = 3

_COLOURS = "viridis"
_OPACITY = 0.5
_ROW_LETTERS = 90  # of a row of one image; more images are lower


@dataclass(frozen=True, slots=True)
class Looked:
    """Class networks and what they make of the images that all of them validated on.

    Args:
        runs: The networks.
        lesions: The images.
        insights: Embeddings and scores of each network, in the images' order.
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
        seed: The seed of the choice where there are too many images.

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
        some = np.random.default_rng(seed).choice(len(lesions), MOST_IMAGES, replace=False)
        lesions = [lesions[index] for index in np.sort(some).tolist()]
    if find_spec("torch") is None:
        raise DependencyError("torch is not installed", action=installing("train"))
    from dermfuse.training.prediction import embed_images, load_run

    insights = tuple(embed_images(load_run(run.path), lesions) for run in runs)
    return Looked(tuple(runs), tuple(lesions), insights)


@house_style
def draw_activation_maps(looked: Looked) -> Picture:
    """Returns each network's class activation map over images of both classes.

    Raises:
        DermfuseError: A run or an image cannot be used.

    Paper:
        Fig. 9.
    """
    from dermfuse.training.prediction import activation_maps, load_run

    scores = np.stack([insight.scores for insight in looked.insights])  # (networks, N)
    indices = spread_over_classes(looked.malignant, scores.mean(axis=0))
    lesions = [looked.lesions[index] for index in indices]
    images = [shrunk(lesion) for lesion in lesions]
    figure = new_figure(0.9 + (1 + len(scores)) * (6.4 / len(images) + 0.4))
    grid = figure.subplots(1 + len(scores), len(images), squeeze=False)
    for axes in grid.flat:
        hide(axes)
    grid[0, 0].set_ylabel("image", **ROW_NAME)
    for axes, lesion, image in zip(grid[0], lesions, images, strict=True):
        axes.imshow(image)
        label = "malignant" if lesion.label is Label.MALIGNANT else "benign"
        axes.set_title(f"{lesion.image_id}\n{label}", fontsize=9)
    for cells, run, of_run in zip(grid[1:], looked.runs, scores[:, indices], strict=True):
        maps = activation_maps(load_run(run.path), lesions)
        scale = Normalize(float(maps.min()), float(maps.max()))
        cells[0].set_ylabel(fold(run.name, _ROW_LETTERS // len(images)), **ROW_NAME)
        for axes, image, small, score in zip(cells, images, maps, of_run, strict=True):
            axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            over = resize_map(small, *image.shape[:2])
            axes.imshow(over, cmap=_COLOURS, norm=scale, alpha=_OPACITY)
            axes.set_title(f"score {score:.2f}", fontsize=9)
        bar = figure.colorbar(ScalarMappable(scale, _COLOURS), ax=cells, fraction=0.03, pad=0.01)
        bar.set_label("log-odds of\nmalignancy", fontsize=9)
        bar.ax.tick_params(labelsize=8.5)
    return encode(figure, looked.basis, "activation_maps")


def spread_over_classes(malignant: NDArray[np.bool_], scores: Values) -> list[int]:
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


@house_style
def draw_embeddings(looked: Looked, *, seed: int) -> Picture:
    """Returns t-SNE of raw pixels and of each network's embedding, with their silhouettes.

    Raises:
        DermfuseError: An image cannot be read, or a class has too few.

    Paper:
        Fig. 10, which has the test images and no number.
    """
    thumbnails = [squeeze(read_image(x.image_path), THUMBNAIL_PX) for x in looked.lesions]
    spaces = [("raw pixels", np.stack(thumbnails).reshape(len(thumbnails), -1) / 255)]
    spaces += [
        (run.name, insight.embeddings)
        for run, insight in zip(looked.runs, looked.insights, strict=True)
    ]
    down, across = panel_grid(len(spaces))
    figure = new_figure(1.2 + 9.4 / across * down)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels:
        hide(axes)
    for axes, (name, features) in zip(panels, spaces, strict=False):
        apart = silhouette(features, looked.malignant)
        _draw_plane(axes, project(features, seed=seed), looked.malignant)
        title = f"silhouette {apart:+.3f} in {features.shape[1]} dimensions"
        axes.set_title(f"{fold(name, 96 // across)}\n{title}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    values = {"components": COMPONENTS, "seed": seed, "pixels": THUMBNAIL_PX}
    return encode(figure, looked.basis, "tsne", **values)


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
    """
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed, svd_solver="full").fit_transform(features)
    perplexity = min(LARGEST_PERPLEXITY, (len(features) - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(plane, dtype=np.float64)


def _draw_plane(axes: Axes, plane: Values, malignant: NDArray[np.bool_]) -> None:
    for chosen, colour, marker, label in (
        (~malignant, BLUE, "o", "benign"),
        (malignant, VERMILLION, "^", "malignant"),
    ):
        look: dict[str, Any] = {"color": colour, "marker": marker, "linewidths": 0, "alpha": 0.9}
        x, y = plane[chosen].T
        axes.scatter(x, y, s=26, label=label, **look)
