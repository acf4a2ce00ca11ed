"""What the networks' embeddings look like in two dimensions: Fig. 10."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

from dermfuse.errors import DataError
from dermfuse.figures.picture import Picture
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
