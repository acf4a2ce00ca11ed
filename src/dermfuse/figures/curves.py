"""Curves: training (Figs. 8 and 11), ROC and precision-recall, decision, and reliability."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import (
    DRAWS,
    ResampledRanking,
    percentile_interval,
    resample,
)
from dermfuse.figures.sources import RunSource, ScoredNetwork
from dermfuse.figures.style import (
    BLUE,
    DOTS,
    INK,
    VERMILLION,
    Basis,
    encode,
    fold,
    hide,
    house_style,
    line_style,
    new_figure,
    panel_grid,
    panel_pairs,
)
from dermfuse.predictions.metrics import (
    CALIBRATION_BINS,
    auc,
    average_precision,
    calibration_bins,
    expected_calibration_error,
)
from dermfuse.records import Estimate
from dermfuse.report.page import Picture

Values = NDArray[np.float64]

GRID = np.linspace(0.0, 1.0, 101)
"""Where bands are taken: 1 - specificity of a ROC curve, recall of the other."""
THRESHOLDS = np.arange(1, 100) / 100
"""Threshold probabilities of the decision curve."""

_FEW_EPOCHS = 15  # up to here each epoch is marked
_LOSSES = {"train_loss": "training", "validation_loss": "validation"}
_NAMES = {"average_precision": "AP", "auc": "AUC", "jaccard": "Jaccard", "dice": "Dice"}
_LEGEND_LETTERS = 44


@house_style
def draw_training_curves(runs: Sequence[RunSource]) -> Picture:
    """Returns loss and metrics over the epochs, a pair of panels per network.

    Args:
        runs: One or more, of one task.

    Paper:
        Figs. 8 and 11 show the losses alone.
    """
    down, across = panel_grid(len(runs))
    figure = new_figure(5.6 * down + 0.6)
    losses = [run.columns[column] for run in runs for column in _LOSSES]
    metrics = [run.columns[column] for run in runs for column in _metric_lines(run)]
    lowest = np.floor(np.nanmin(np.concatenate(metrics)) * 10 - 0.2) / 10
    pairs = panel_pairs(figure, len(runs), heights=(1, 1))
    for (upper, lower), run in zip(pairs, runs, strict=True):
        _draw_lines(upper, run, _LOSSES)
        highest = 1.08 * float(np.nanmax(np.concatenate(losses)))
        upper.set(title=fold(run.name, 100 // across), ylabel="loss", ylim=(0, highest))
        _draw_lines(lower, run, _metric_lines(run))
        lower.set(xlabel="epoch", ylabel="metric", ylim=(lowest, 1.02))
    images = {image_id for run in runs for image_id in run.split.validation}
    return encode(
        figure,
        Basis("validation", len(images), tuple(run.name for run in runs)),
        "training_curves",
        task=runs[0].config.model.task,
        metric=_NAMES[runs[0].metrics[0]],
        has_training=any(f"train_{run.metrics[0]}" in run.columns for run in runs),
    )


def basis_of(networks: Sequence[ScoredNetwork]) -> Basis:
    """Returns what a figure of scores of the same images stands on."""
    first, names = networks[0], tuple(network.name for network in networks)
    return Basis(first.split, len(first.image_ids), names, int(first.malignant.sum()))


def bands(network: ScoredNetwork, *, draws: int, seed: int) -> tuple[Values, Values, Values]:
    """Returns where 95 % of the stratified bootstrap's draws lie, low and high ends.

    Args:
        network: Scores of both classes.
        draws: How many draws the bootstrap has.
        seed: The seed of the bootstrap.

    Returns:
        Of AUC and average precision (2, 2), of the sensitivity at each 1 - specificity of
        ``GRID`` (2, 101) and of the precision at each recall (2, 101).
    """
    malignant, scores = network.malignant, network.scores

    def statistic(counts: Values) -> Values:
        ranking = ResampledRanking(malignant, scores, counts)
        areas = np.stack([ranking.auc(), ranking.average_precision()], axis=1)
        return np.concatenate([areas, sensitivity_on_grid(ranking), precision_on_grid(ranking)], 1)

    drawn = resample(statistic, malignant.astype(np.int64), draws=draws, seed=seed)
    ends = percentile_interval(drawn)  # (2, 204)
    return ends[:, :2], ends[:, 2 : 2 + GRID.size], ends[:, 2 + GRID.size :]


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


@house_style
def draw_rankings(
    networks: Sequence[ScoredNetwork], *, draws: int = DRAWS, seed: int = 0
) -> Picture:
    """Returns ROC and precision-recall curves, each in its bootstrap band.

    Args:
        networks: One or more, scored on the same images.
        draws: How many draws the bootstrap has.
        seed: The seed of the bootstrap.

    Raises:
        DataError: A class is missing.
    """
    _require_both_classes(networks[0])
    lines = sum(1 + len(fold(network.name, _LEGEND_LETTERS).splitlines()) for network in networks)
    legend_in = 0.3 + 0.24 * lines
    figure = new_figure(5.9 + legend_in)
    (roc, recall), below = figure.subplots(2, 2, height_ratios=[5, legend_in])
    for index, network in enumerate(networks):
        _draw_ranking(roc, recall, network, index, bands(network, draws=draws, seed=seed))
    chance: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": DOTS}
    roc.plot([0, 1], [0, 1], label="by chance", **chance)
    recall.axhline(float(networks[0].malignant.mean()), label="by chance", **chance)
    roc.set(xlabel="1 - specificity", ylabel="sensitivity")
    recall.set(xlabel="recall (sensitivity)", ylabel="precision")
    for axes, empty in zip((roc, recall), below, strict=True):
        axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        hide(empty)
        empty.legend(*axes.get_legend_handles_labels(), loc="upper left", handlelength=3)
    return encode(figure, basis_of(networks), "rankings", draws=draws, seed=seed)


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
def draw_decision_curves(networks: Sequence[ScoredNetwork]) -> Picture:
    """Returns the net benefit over the threshold probability, with treat-all and treat-none.

    Args:
        networks: One or more, scored on the same images.

    Raises:
        DataError: A class is missing.
    """
    _require_both_classes(networks[0])
    figure = new_figure(5.8)
    axes = figure.subplots()
    for index, network in enumerate(networks):
        benefit = net_benefit(network.malignant, network.scores, THRESHOLDS)
        style = {**line_style(index), "marker": ""}
        axes.plot(THRESHOLDS, benefit, label=fold(network.name, _LEGEND_LETTERS), **style)
    malignant = networks[0].malignant
    everyone = net_benefit(malignant, np.ones(malignant.size), THRESHOLDS)
    axes.plot(THRESHOLDS, everyone, color=INK, linewidth=1.4, label="treat all")
    axes.axhline(0, color=INK, linewidth=1.4, linestyle=DOTS, label="treat none")
    prevalence = float(malignant.mean())
    axes.set(
        xlabel="threshold probability",
        ylabel="net benefit per patient",
        xlim=(0, 1),
        ylim=(-0.35 * prevalence, 1.1 * prevalence),
    )
    axes.legend(loc="upper right")
    return encode(figure, basis_of(networks), "decision_curves")


@house_style
def draw_reliability(networks: Sequence[ScoredNetwork]) -> Picture:
    """Returns a reliability diagram with the count of each bin, per network.

    Do 30 % of the images with score 0.3 turn out malignant?

    Args:
        networks: One or more, scored on the same images.
    """
    down, across = panel_grid(len(networks))
    figure = new_figure(5.2 * down + 0.7)
    pairs = panel_pairs(figure, len(networks), heights=(3, 1))
    for (upper, lower), network in zip(pairs, networks, strict=True):
        _draw_bins(upper, lower, network)
        error = expected_calibration_error(network.malignant, network.scores)
        upper.set_title(f"{fold(network.name, 96 // across)}\nECE {error:.3f}")
    return encode(figure, basis_of(networks), "reliability", bins=CALIBRATION_BINS)


def _draw_lines(axes: Axes, run: RunSource, lines: Mapping[str, str]) -> None:
    epochs = run.columns["epoch"]
    unmarked = {"marker": ""} if len(epochs) > _FEW_EPOCHS else {}
    for index, (column, label) in enumerate(lines.items()):
        style = {**line_style(index), **unmarked}
        axes.plot(epochs, run.columns[column], label=label, markersize=5, **style)
    axes.axvline(run.best_epoch, color=INK, linewidth=1, linestyle=":", zorder=0)
    room = max(0.5, 0.03 * (epochs[-1] - epochs[0]))
    axes.set_xlim(epochs[0] - room, epochs[-1] + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best", handlelength=2.6)


def _metric_lines(run: RunSource) -> dict[str, str]:
    """Returns the columns to draw and their names in the legend."""
    return {
        f"{prefix}{metric}": f"{_NAMES[metric]}, {where}"
        for metric in run.metrics
        for prefix, where in (("train_", "training"), ("", "validation"))
        if f"{prefix}{metric}" in run.columns
    }


def _draw_ranking(
    roc: Axes,
    recall: Axes,
    network: ScoredNetwork,
    index: int,
    ends: tuple[Values, Values, Values],
) -> None:
    malignant, scores = network.malignant, network.scores
    ranking = ResampledRanking(malignant, scores, np.ones((1, malignant.size)))
    style = {**line_style(index), "marker": ""}
    name = fold(network.name, _LEGEND_LETTERS)
    area = Estimate(auc(malignant, scores), *ends[0][:, 0])
    precise = Estimate(average_precision(malignant, scores), *ends[0][:, 1])
    (false_rate,), (found,) = ranking.roc()
    roc.plot(false_rate, found, label=f"{name}\nAUC {area:.3f}", **style)
    (reached,), (precision,) = ranking.precision_recall()
    first = int(np.argmax(reached > 0))  # its precision stands from recall 0 on
    reached = np.append(0.0, reached[first:])
    precision = np.append(precision[first], precision[first:])
    label = f"{name}\nAP {precise:.3f}"
    recall.plot(reached, precision, label=label, drawstyle="steps-pre", **style)
    for axes, band in ((roc, ends[1]), (recall, ends[2])):
        axes.fill_between(GRID, *band, color=style["color"], alpha=0.15, linewidth=0)


def _require_both_classes(network: ScoredNetwork) -> None:
    if not network.malignant.any() or network.malignant.all():
        raise DataError(
            f"the images of {network.name} are of one class",
            expected="benign and malignant ones",
        )


def _draw_bins(upper: Axes, lower: Axes, network: ScoredNetwork) -> None:
    bins = calibration_bins(network.scores)
    count, total, found = (
        np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (None, network.scores, network.malignant)
    )
    full = count > 0
    share, mean = found[full] / count[full], total[full] / count[full]
    pairs = zip(found[full].astype(int).tolist(), count[full].tolist(), strict=True)
    ends = np.array([binomtest(*pair).proportion_ci(method="wilson") for pair in pairs]).T
    upper.plot([0, 1], [0, 1], color=INK, linestyle=DOTS, linewidth=1.2, label="calibrated")
    line: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 5, "linewidth": 1.5}
    error = np.clip([share - ends[0], ends[1] - share], 0, None)
    upper.errorbar(mean, share, yerr=error, elinewidth=1, capsize=2, label="measured", **line)
    upper.set(ylabel="malignant fraction", xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.tick_params(labelbottom=False)
    upper.legend(loc="upper left")
    edges = np.arange(CALIBRATION_BINS) / CALIBRATION_BINS
    bar: dict[str, Any] = {"width": edges[1], "align": "edge", "edgecolor": "white"}
    benign = count - found
    lower.bar(edges, benign, color=BLUE, label="benign", **bar)
    lower.bar(edges, found, bottom=benign, color=VERMILLION, hatch="////", label="malignant", **bar)
    lower.set(xlabel="score", ylabel="images", xlim=(0, 1), ylim=(0, 1.1 * count.max()))
    lower.legend(loc="upper right")
