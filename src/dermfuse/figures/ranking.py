"""ROC and precision-recall curves with bootstrap bands, and the decision curve.

Reliability diagrams: do 30 % of the images with score 0.3 turn out malignant?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.estimates import Estimate
from dermfuse.evaluation.bootstrap import ResampledRanking, percentile_interval, resample
from dermfuse.figures.style import (
    BLUE,
    INK,
    VERMILLION,
    Basis,
    Picture,
    columns_for,
    encode,
    fold,
    grid_of,
    hide,
    house_style,
    line_style,
    new_figure,
    panel_pairs,
    require,
    require_equal,
)
from dermfuse.predictions.metrics import (
    CALIBRATION_BINS,
    auc,
    average_precision,
    calibration_bins,
    expected_calibration_error,
)

Values = NDArray[np.float64]

GRID = np.linspace(0.0, 1.0, 101)
"""Where bands are taken: 1 - specificity of a ROC curve, recall of the other."""
THRESHOLDS = np.arange(1, 100) / 100
"""Threshold probabilities of the decision curve."""

_LEGEND_LETTERS = 44


@dataclass(frozen=True, slots=True, eq=False)
class ScoredNetwork:
    """One network's scores beside the labels.

    Args:
        name: The network.
        malignant: Labels. (N,)
        scores: Of malignancy, in [0, 1]. (N,)
        threshold: A score above it is called malignant.

    Raises:
        DataError: The columns differ in length.
    """

    name: str
    malignant: NDArray[np.bool_]
    scores: Values
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require_equal([len(self.malignant), len(self.scores)], f"labels and scores of {self.name}")


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """Where the curves of 95 % of the bootstrap's draws run, point by point of ``GRID``.

    Args:
        sensitivity: Low and high ends at each 1 - specificity. (2, 101)
        precision: Low and high ends at each recall. (2, 101)
        auc: The area below the ROC curve.
        average_precision: The area below the other.
    """

    sensitivity: Values
    precision: Values
    auc: Estimate
    average_precision: Estimate


def bands(network: ScoredNetwork, *, draws: int, seed: int) -> Bands:
    """Returns the bands of a network's curves, by the stratified bootstrap.

    Args:
        network: Scores of both classes.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    malignant, scores = network.malignant, network.scores

    def statistic(counts: Values) -> Values:
        ranking = ResampledRanking(malignant, scores, counts)
        areas = np.stack([ranking.auc(), ranking.average_precision()], axis=1)
        return np.concatenate([areas, sensitivity_on_grid(ranking), precision_on_grid(ranking)], 1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    ends = percentile_interval(drawn)  # (2, 204)
    return Bands(
        sensitivity=ends[:, 2 : 2 + GRID.size],
        precision=ends[:, 2 + GRID.size :],
        auc=Estimate(auc(malignant, scores), *ends[:, 0].tolist()),
        average_precision=Estimate(average_precision(malignant, scores), *ends[:, 1].tolist()),
    )


def sensitivity_on_grid(ranking: ResampledRanking) -> Values:
    """Returns the ROC curve of each draw at each 1 - specificity of ``GRID``, (D, 101)."""
    rows = zip(*ranking.roc(), strict=True)
    return np.stack([np.interp(GRID, false_rate, found) for false_rate, found in rows])


def precision_on_grid(ranking: ResampledRanking) -> Values:
    """Returns the precision in each draw of the first threshold that reaches a recall, (D, 101)."""
    rows = zip(*ranking.precision_recall(), strict=True)
    return np.stack(
        [
            precision[np.searchsorted(recall, np.maximum(GRID, recall[recall > 0][0]) - 1e-9)]
            for recall, precision in rows
        ]
    )


def net_benefit(malignant: NDArray[np.bool_], scores: Values, thresholds: Values) -> Values:
    """Returns the net benefit of treating who scores at or above each threshold probability.

    TP / N - FP / N * p / (1 - p): a threshold p says that one missed melanoma weighs as much
    as (1 - p) / p excisions too many.

    Args:
        malignant: Labels. (N,)
        scores: Probabilities of malignancy. (N,)
        thresholds: In [0, 1). (T,)

    Returns:
        The net benefit at each, in melanomas found per patient. (T,)

    Paper:
        Not in it; Vickers and Elkin, Medical Decision Making 2006.
    """
    called = scores >= thresholds[:, None]  # (T, N)
    found, false = (called & malignant).mean(axis=1), (called & ~malignant).mean(axis=1)
    return np.asarray(found - false * thresholds / (1 - thresholds))


@house_style
def draw_rankings(
    networks: Sequence[ScoredNetwork],
    *,
    basis: Basis,
    name: str = "roc-and-recall",
    draws: int = 2000,
    seed: int = 0,
) -> Picture:
    """Returns ROC and precision-recall curves, each in its bootstrap band.

    Args:
        networks: One or more, scored on the same images.
        basis: Which images.
        name: Of the file.
        draws: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: There is no network, or a class is missing.
    """
    require(networks, "scores")
    for network in networks:
        require_both_classes(network)
    lines = sum(1 + len(fold(network.name, _LEGEND_LETTERS).splitlines()) for network in networks)
    legend_in = 0.3 + 0.24 * lines
    figure = new_figure(5.9 + legend_in)
    (roc, recall), below = grid_of(figure, 2, 2, height_ratios=[5, legend_in])
    for index, network in enumerate(networks):
        style = {**line_style(index), "marker": ""}
        _draw_roc_and_recall(roc, recall, network, bands(network, draws=draws, seed=seed), style)
    prevalence = float(networks[0].malignant.mean())
    chance: dict[str, Any] = {
        "color": INK,
        "linewidth": 1.2,
        "linestyle": (0, (1, 2)),
        "label": "by chance",
    }
    roc.plot([0, 1], [0, 1], **chance)
    recall.axhline(prevalence, **chance)
    for axes, x, y in (
        (roc, "1 - specificity", "sensitivity"),
        (recall, "recall (sensitivity)", "precision"),
    ):
        axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    for axes, empty in zip((roc, recall), below, strict=True):
        hide(empty)
        empty.legend(*axes.get_legend_handles_labels(), loc="upper left", handlelength=3)
    return encode(
        figure,
        name=name,
        title="ROC and precision-recall curves",
        caption=(
            f"Bands: 95 %, point by point, stratified bootstrap of {draws} draws (seed {seed}); "
            "in brackets the 95 % interval of the area."
        ),
        basis=basis,
    )


@house_style
def draw_decision_curves(
    networks: Sequence[ScoredNetwork], *, basis: Basis, name: str = "decision-curve"
) -> Picture:
    """Returns the net benefit over the threshold probability, with treat-all and treat-none.

    Args:
        networks: One or more, scored on the same images.
        basis: Which images.
        name: Of the file.

    Raises:
        DataError: There is no network, or no malignant image.
    """
    require(networks, "scores")
    for network in networks:
        require_both_classes(network)
    figure = new_figure(5.8)
    ((axes,),) = grid_of(figure, 1, 1)
    for index, network in enumerate(networks):
        benefit = net_benefit(network.malignant, network.scores, THRESHOLDS)
        style = {**line_style(index), "marker": ""}
        axes.plot(THRESHOLDS, benefit, label=fold(network.name, _LEGEND_LETTERS), **style)
    malignant = networks[0].malignant
    everyone = net_benefit(malignant, np.ones(malignant.size), THRESHOLDS)
    axes.plot(THRESHOLDS, everyone, color=INK, linewidth=1.4, label="treat all")
    axes.axhline(0, color=INK, linewidth=1.4, linestyle=(0, (1, 2)), label="treat none")
    prevalence = float(malignant.mean())
    axes.set(
        xlabel="threshold probability",
        ylabel="net benefit per patient",
        xlim=(0, 1),
        ylim=(-0.35 * prevalence, 1.1 * prevalence),
    )
    axes.legend(loc="upper right")
    return encode(
        figure,
        name=name,
        title="Decision curve: net benefit of acting on the scores",
        caption=(
            "TP / N - FP / N x p / (1 - p), called malignant at a score of p or above; the curve "
            "takes the scores for probabilities, which they are as far as they are calibrated. "
            "Below the frame: worse than treating no one."
        ),
        basis=basis,
    )


def require_both_classes(network: ScoredNetwork) -> None:
    """Refuses scores of one class alone.

    Raises:
        DataError: If a class is missing.
    """
    if not network.malignant.any() or network.malignant.all():
        raise DataError(
            f"the images of {network.name} are of one class", expected="benign and malignant ones"
        )


def _draw_roc_and_recall(
    roc: Axes, recall: Axes, network: ScoredNetwork, band: Bands, style: dict[str, Any]
) -> None:
    malignant, scores = network.malignant, network.scores
    ranking = ResampledRanking(malignant, scores, np.ones((1, malignant.size)))
    name = fold(network.name, _LEGEND_LETTERS)
    false_rate, found = ranking.roc()
    roc.plot(false_rate[0], found[0], label=f"{name}\nAUC {band.auc:.3f}", **style)
    roc.fill_between(GRID, *band.sensitivity, color=style["color"], alpha=0.15, linewidth=0)
    reached, precision = (row[0] for row in ranking.precision_recall())
    first = int(np.argmax(reached > 0))  # its precision stands from recall 0 on
    reached, precision = (
        np.append(0.0, reached[first:]),
        np.append(precision[first], precision[first:]),
    )
    label = f"{name}\nAP {band.average_precision:.3f}"
    recall.plot(reached, precision, label=label, drawstyle="steps-pre", **style)
    recall.fill_between(GRID, *band.precision, color=style["color"], alpha=0.15, linewidth=0)


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
