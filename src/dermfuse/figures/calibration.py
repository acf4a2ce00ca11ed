"""Reliability diagrams: do 30 % of the images with score 0.3 turn out malignant?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dermfuse.figures.picture import Picture
from dermfuse.figures.ranking import ScoredNetwork
from dermfuse.figures.style import (
    BLUE,
    INK,
    VERMILLION,
    Basis,
    columns_for,
    encode,
    fold,
    house_style,
    new_figure,
    panel_pairs,
    require,
)
from dermfuse.metrics import CALIBRATION_BINS, calibration_bins, expected_calibration_error

Values = NDArray[np.float64]

_Z = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Scores against outcomes, bin by bin; NaN where a bin is empty. (15,) each.

    Args:
        malignant: Images in the bin that are malignant.
        count: Images in the bin.
        mean_score: Of the bin's images.
        fraction: Malignant share of the bin's images.
    """

    malignant: NDArray[np.int64]
    count: NDArray[np.int64]
    mean_score: Values
    fraction: Values


def reliability(malignant: NDArray[np.bool_], scores: Values) -> Reliability:
    """Returns the bins that the expected calibration error is taken over.

    Args:
        malignant: Labels. (N,)
        scores: Probabilities of malignancy, in [0, 1]. (N,)
    """
    bins = calibration_bins(scores)
    count, total, found = (
        np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (None, scores, malignant)
    )
    is_full = count > 0
    mean, fraction = (
        np.divide(sums, count, out=np.full(CALIBRATION_BINS, np.nan), where=is_full)
        for sums in (total, found)
    )
    return Reliability(found.astype(np.int64), count.astype(np.int64), mean, fraction)


def wilson_interval(found: NDArray[np.int64], count: NDArray[np.int64]) -> Values:
    """Returns the 95 % interval of a share (Wilson 1927), low and high ends, (2, N).

    Args:
        found: How many of ``count``. (N,)
        count: 1 or more each. (N,)

    Example:
        >>> wilson_interval(np.array([5]), np.array([10])).round(3).tolist()
        [[0.237], [0.763]]
    """
    share, square = found / count, _Z**2 / count
    centre = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return np.stack([centre - half, centre + half])


@house_style
def draw_reliability(
    networks: Sequence[ScoredNetwork], *, basis: Basis, name: str = "reliability"
) -> Picture:
    """Returns a reliability diagram with the count of each bin, per network.

    Args:
        networks: One or more, scored on the same images.
        basis: Which images.
        name: Of the file.

    Raises:
        DataError: There is no network.
    """
    require(networks, "scores")
    across = columns_for(len(networks))
    down = -(-len(networks) // across)
    figure = new_figure(5.2 * down + 0.7)
    pairs = panel_pairs(figure, len(networks), heights=(3, 1))
    for (upper, lower), network in zip(pairs, networks, strict=True):
        _draw_network(upper, lower, network, letters=96 // across)
    return encode(
        figure,
        name=name,
        title="Reliability of the scores",
        caption=(
            f"Malignant fraction over mean score in {CALIBRATION_BINS} bins of equal width, with "
            "95 % Wilson intervals, and below the images in each bin. ECE: the mean distance from "
            "the diagonal, weighted by the counts."
        ),
        basis=basis,
    )


def _draw_network(upper: Axes, lower: Axes, network: ScoredNetwork, *, letters: int) -> None:
    bins = reliability(network.malignant, network.scores)
    full = bins.count > 0
    error = expected_calibration_error(network.malignant, network.scores)
    low, high = wilson_interval(bins.malignant[full], bins.count[full])
    share, mean = bins.fraction[full], bins.mean_score[full]
    upper.plot([0, 1], [0, 1], color=INK, linestyle=(0, (1, 2)), linewidth=1.2, label="calibrated")
    upper.errorbar(
        mean,
        share,
        yerr=np.clip([share - low, high - share], 0, None),
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2,
        label="measured",
    )
    upper.set_title(f"{fold(network.name, letters)}\nECE {error:.3f}")
    upper.set(ylabel="malignant fraction", xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.tick_params(labelbottom=False)
    upper.legend(loc="upper left")
    edges = np.arange(CALIBRATION_BINS) / CALIBRATION_BINS
    width = 1 / CALIBRATION_BINS
    benign = bins.count - bins.malignant
    lower.bar(edges, benign, width, align="edge", color=BLUE, edgecolor="white", label="benign")
    lower.bar(
        edges,
        bins.malignant,
        width,
        bottom=benign,
        align="edge",
        color=VERMILLION,
        edgecolor="white",
        hatch="////",
        label="malignant",
    )
    lower.set(xlabel="score", ylabel="images", xlim=(0, 1), ylim=(0, 1.1 * bins.count.max()))
    lower.legend(loc="upper right")
