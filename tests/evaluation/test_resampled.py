"""Metrics of all draws at once equal the plain metrics of each draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dermfuse.evaluation.bootstrap import (
    ResampledRanking,
    draw_counts,
    per_image,
    resampled_brier_score,
    resampled_calibration_error,
    resampled_means,
    resampled_pooled_jaccard,
    resampled_rates,
)
from dermfuse.predictions.metrics import (
    SENSITIVITIES,
    Counts,
    accuracy,
    auc,
    average_precision,
    brier_score,
    count,
    dice,
    expected_calibration_error,
    jaccard,
    pooled_jaccard,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
)

Scored = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]


@st.composite
def scored_draws(draw: st.DrawFn) -> Scored:
    """Labels of both classes, scores with ties, and counts of five draws."""
    malignant = np.array(draw(st.lists(st.booleans(), min_size=2, max_size=20)))
    malignant[:2] = [True, False]
    levels = st.lists(st.integers(0, 10), min_size=malignant.size, max_size=malignant.size)
    scores = np.array(draw(levels)) / 10
    (counts,) = draw_counts(malignant.astype(np.int64), draws=5, seed=draw(st.integers(0, 99)))
    return malignant, scores, counts


def repeated(images: NDArray[np.generic], counts: NDArray[np.float64]) -> NDArray[np.generic]:
    return np.repeat(images, counts.astype(int))


@settings(max_examples=25, deadline=None)
@given(scored_draws())
def test_rankings_of_a_draw_are_those_of_its_images(data: Scored) -> None:
    malignant, scores, counts = data
    ranking = ResampledRanking(malignant, scores, counts)
    draws = [(repeated(malignant, row), repeated(scores, row)) for row in counts]
    assert ranking.average_precision() == pytest.approx([average_precision(*d) for d in draws])
    assert ranking.auc() == pytest.approx([auc(*d) for d in draws])
    for target in SENSITIVITIES:
        expected = [specificity_at_sensitivity(*d, target) for d in draws]
        assert ranking.specificity_at_sensitivity(target) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(scored_draws())
def test_rates_and_errors_of_a_draw_are_those_of_its_images(data: Scored) -> None:
    malignant, scores, counts = data
    draws = [(repeated(malignant, row), repeated(scores, row)) for row in counts]
    rates = resampled_rates(malignant, scores > 0.5, counts)
    for metric, values in zip((accuracy, sensitivity, specificity), rates, strict=True):
        assert values == pytest.approx([metric(count(s > 0.5, m)) for m, s in draws])
    assert resampled_brier_score(malignant, scores, counts) == pytest.approx(
        [brier_score(*d) for d in draws]
    )
    assert resampled_calibration_error(malignant, scores, counts) == pytest.approx(
        [expected_calibration_error(*d) for d in draws]
    )


def test_rates_of_a_class_that_is_not_there_are_one() -> None:
    benign = np.zeros(3, dtype=bool)
    rates = resampled_rates(benign, np.array([True, False, False]), np.ones((2, 3)))
    assert [rate.tolist() for rate in rates] == [[2 / 3] * 2, [1.0] * 2, [2 / 3] * 2]


def test_segmentation_metrics_of_a_draw_are_those_of_its_images() -> None:
    images = [Counts(4, 0, 8, 4), Counts(0, 0, 16, 0), Counts(1, 3, 10, 2), Counts(0, 5, 11, 0)]
    (counts,) = draw_counts(np.zeros(4, dtype=np.int64), draws=6, seed=0)
    means = resampled_means(per_image(images), counts)
    pooled = resampled_pooled_jaccard(images, counts)
    for row, mean, whole in zip(counts, means, pooled, strict=True):
        drawn = [image for image, times in zip(images, row, strict=True) for _ in range(int(times))]
        assert mean[0] == pytest.approx(np.mean([jaccard(c) for c in drawn]))
        assert mean[1] == pytest.approx(np.mean([dice(c) for c in drawn]))
        assert whole == pytest.approx(pooled_jaccard(drawn))


def test_a_draw_of_empty_masks_alone_agrees_fully() -> None:
    assert resampled_pooled_jaccard([Counts(0, 0, 16, 0)], np.ones((2, 1))).tolist() == [1.0, 1.0]


def test_the_curves_of_a_ranking_are_as_by_hand() -> None:
    malignant = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.7])  # the last two are one threshold
    ranking = ResampledRanking(malignant, scores, np.ones((1, 4)))
    false_rate, found = ranking.roc()
    assert false_rate.tolist() == [[0.0, 0.0, 0.5, 1.0]]
    assert found.tolist() == [[0.0, 0.5, 0.5, 1.0]]
    recall, precision = ranking.precision_recall()
    assert recall.tolist() == [[0.5, 0.5, 1.0]]
    assert precision.tolist() == [[1.0, 0.5, 0.5]]


@settings(max_examples=25, deadline=None)
@given(scored_draws())
def test_the_areas_below_the_curves_of_a_draw_are_its_metrics(data: Scored) -> None:
    ranking = ResampledRanking(*data)
    false_rate, found = ranking.roc()
    area = (np.diff(false_rate, axis=1) * (found[:, 1:] + found[:, :-1]) / 2).sum(axis=1)
    assert area == pytest.approx(ranking.auc())
    recall, precision = ranking.precision_recall()
    area = (np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1)
    assert area == pytest.approx(ranking.average_precision())
