"""Draws, intervals and p-values; metrics of all draws at once against the plain ones of each."""

from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dermfuse.errors import ConfigError, DataError
from dermfuse.evaluation import bootstrap
from dermfuse.evaluation.bootstrap import AucEstimate, draw_counts, draw_ranking
from dermfuse.predictions import metrics
from dermfuse.predictions.metrics import SENSITIVITIES, Counts, count

STRATA = np.array([0, 1, 0, 1, 1, 0, 0])
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def first_image(counts: Numbers) -> Numbers:
    return counts[:, :1]


def test_every_draw_keeps_the_size_of_every_stratum_and_draws_images_equally_often() -> None:
    (counts,) = draw_counts(STRATA, draws=4000, seed=0)
    assert (counts[:, STRATA == 0].sum(axis=1) == 4).all()
    assert (counts[:, STRATA == 1].sum(axis=1) == 3).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    # Binomial(4, 1/4) and Binomial(3, 1/3): variances 3/4 and 2/3.
    assert counts.var(axis=0) == pytest.approx(np.where(STRATA == 0, 3 / 4, 2 / 3), abs=0.06)


def test_equal_seeds_give_equal_draws_and_many_images_are_drawn_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b, c = (bootstrap.resample(first_image, STRATA, draws=20, seed=seed) for seed in (3, 3, 4))
    assert a.tolist() == b.tolist() != c.tolist()
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 21)
    assert [len(part) for part in draw_counts(STRATA, draws=8, seed=0)] == [3, 3, 2]
    assert bootstrap.resample(first_image, STRATA, draws=8, seed=0).shape == (8, 1)


def test_a_bootstrap_without_draws_or_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="draws is 0"):
        bootstrap.resample(first_image, STRATA, draws=0)
    with pytest.raises(ConfigError, match=r"seed is -1\. Expected: 0 or more"):
        bootstrap.resample(first_image, STRATA, draws=1, seed=-1)
    with pytest.raises(DataError, match="no images to draw from"):
        bootstrap.resample(first_image, np.zeros(0, dtype=np.int64))


def test_the_interval_holds_the_middle_95_percent() -> None:
    draws = np.stack([np.arange(1001.0), 2 * np.arange(1001.0)], axis=1)
    assert bootstrap.percentile_interval(draws) == pytest.approx(np.array([[25, 50], [975, 1950]]))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0] * 99, 2 / 100),  # no draw against: 2 (0 + 1) / (99 + 1)
        ([1.0] * 95 + [-1.0] * 4, 2 * 5 / 100),
        ([1.0] * 95 + [1e-17] * 4, 2 * 5 / 100),  # reaching zero counts against
        ([1.0] * 50 + [-1.0] * 49, 1.0),
        ([0.0] * 99, 1.0),
    ],
)
def test_p_values_by_hand(differences: list[float], expected: float) -> None:
    assert bootstrap.paired_p_value(np.array(differences)) == pytest.approx(expected)
    assert bootstrap.paired_p_value(-np.array(differences)) == pytest.approx(expected)


@st.composite
def two_models(draw: st.DrawFn) -> tuple[Flags, Numbers, Numbers]:
    """Labels, two or more of each class, and two models' scores with ties."""
    malignant = np.array(draw(st.lists(st.booleans(), min_size=4, max_size=25)))
    malignant[:4] = [True, True, False, False]
    levels = st.lists(st.integers(0, 10), min_size=malignant.size, max_size=malignant.size)
    return malignant, np.array(draw(levels)) / 10, np.array(draw(levels)) / 10


@settings(max_examples=25, deadline=None)
@given(two_models(), st.integers(0, 99))
def test_metrics_of_a_draw_are_those_of_its_images(
    data: tuple[Flags, Numbers, Numbers], seed: int
) -> None:
    malignant, scores, _ = data
    ranking = draw_ranking(malignant, scores, sensitivities=SENSITIVITIES, draws=5, seed=seed)
    calls = bootstrap.draw_calls(malignant, scores, scores > 0.5, draws=5, seed=seed)
    (counts,) = draw_counts(malignant.astype(np.int64), draws=5, seed=seed)
    times = [np.ones(malignant.size, dtype=int), *counts.astype(int)]  # the images, then each draw
    draws = [(np.repeat(malignant, row), np.repeat(scores, row)) for row in times]
    names = ("average_precision", "auc", "brier_score", "expected_calibration_error")
    plain = {name: getattr(metrics, name) for name in names} | {
        name: lambda m, s, name=name: getattr(metrics, name)(count(s > 0.5, m))
        for name in ("accuracy", "sensitivity", "specificity")
    }
    for one in SENSITIVITIES:
        plain[f"specificity_at_{one}"] = lambda m, s, one=one: metrics.specificity_at_sensitivity(
            m, s, one
        )
    assert set(ranking.names + calls.names) == set(plain)
    for found in (ranking, calls):
        for name in found.names:
            value, in_draws = found.column(name)
            assert [value, *in_draws] == pytest.approx([plain[name](*each) for each in draws])


def test_segmentation_metrics_of_a_draw_are_those_of_its_images() -> None:
    images = [Counts(4, 0, 8, 4), Counts(0, 0, 16, 0), Counts(1, 3, 10, 2), Counts(0, 5, 11, 0)]
    found = bootstrap.draw_masks(images, draws=6)
    (counts,) = draw_counts(np.zeros(4, dtype=np.int64), draws=6, seed=0)
    columns = [found.column(name)[1] for name in ("jaccard", "dice", "pooled_jaccard")]
    for row, *values in zip(counts, *columns, strict=True):
        drawn = [image for image, times in zip(images, row, strict=True) for _ in range(int(times))]
        means = [np.mean([metric(c) for c in drawn]) for metric in (metrics.jaccard, metrics.dice)]
        assert values == pytest.approx([*means, metrics.pooled_jaccard(drawn)])
    empty = bootstrap.draw_masks([Counts(0, 0, 16, 0)], draws=2)
    assert empty.column("pooled_jaccard")[1].tolist() == [1.0, 1.0]


def test_the_curves_of_a_ranking_are_as_by_hand() -> None:
    malignant = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.7])  # the last two are one threshold
    ranking = bootstrap.ResampledRanking(malignant, scores, np.ones((1, 4)))
    false_rate, found = ranking.roc()
    assert false_rate.tolist() == [[0.0, 0.0, 0.5, 1.0]]
    assert found.tolist() == [[0.0, 0.5, 0.5, 1.0]]
    recall, precision = ranking.precision_recall()
    assert recall.tolist() == [[0.5, 0.5, 1.0]]
    assert precision.tolist() == [[1.0, 0.5, 0.5]]


def test_delongs_variance_by_hand() -> None:
    # Malignant 3, 1; benign 2, 0. Malignant placements 1, 1/2; benign placements 1/2, 1.
    # Variance of each is 1/8, so that of the AUC 1/8 / 2 + 1/8 / 2.
    estimate = bootstrap.delong_interval([1, 1, 0, 0], [3.0, 1.0, 2.0, 0.0])
    assert estimate.value == 0.75
    assert estimate.standard_error == pytest.approx(sqrt(1 / 8))
    assert estimate.low == pytest.approx(0.75 - 1.959964 * sqrt(1 / 8))
    assert estimate.high == 1.0


def covariance_of_all_pairs(malignant: Flags, *models: Numbers) -> Numbers:
    parts = []
    for scores in models:
        found, left_out = scores[malignant][:, None], scores[~malignant]
        order = (found > left_out) + (found == left_out) / 2  # (m, n)
        parts.append((order.mean(axis=1), order.mean(axis=0)))
    found, left_out = (np.stack([part[at] for part in parts]) for at in (0, 1))
    return np.atleast_2d(np.cov(found) / found.shape[1] + np.cov(left_out) / left_out.shape[1])


@settings(max_examples=25, deadline=None)
@given(two_models())
def test_the_fast_variance_is_that_of_all_pairs(data: tuple[Flags, Numbers, Numbers]) -> None:
    malignant, a, b = data
    covariance = covariance_of_all_pairs(malignant, a, b)
    error = bootstrap.delong_interval(malignant, a).standard_error
    assert error**2 == pytest.approx(covariance[0, 0], abs=1e-12)
    test, swapped = bootstrap.delong_test(malignant, a, b), bootstrap.delong_test(malignant, b, a)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = test.difference
    assert isinstance(difference, AucEstimate)
    assert difference.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if difference.standard_error:
        assert test.p_value == pytest.approx(erfc(abs(difference.value) / sqrt(2 * variance)))
    assert difference.value == -swapped.difference.value
    assert difference.low == pytest.approx(-swapped.difference.high)
    assert test.p_value == swapped.p_value


def test_like_and_perfect_models_are_decided_and_a_lone_image_of_a_class_is_refused() -> None:
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    same, reversed_ = (
        bootstrap.delong_test([1, 1, 0, 0], scores, other) for other in (scores, 1 - scores)
    )
    assert (same.difference, same.p_value) == (AucEstimate(0.0, 0.0, 0.0, 0.0), 1.0)
    assert (reversed_.difference.value, reversed_.p_value) == (1.0, None)
    for labels in ([1, 0, 0, 0], [1, 1, 1, 0]):
        with pytest.raises(DataError, match="two or more of each"):
            bootstrap.delong_interval(labels, scores)


@pytest.mark.parametrize(
    ("groups", "p_value"),
    [
        # 3 hits of 3 + 3: 1, 9, 9, 1 of 20 ways; all three in one group are 2 of them
        ((3, 3, 0, 3), 2 / 20),
        ((2, 3, 1, 3), 1.0),
        ((0, 5, 0, 100), 1.0),
        ((1, 1, 0, 9), 1 / 10),  # one of ten ways
        ((8, 172, 12, 723), pytest.approx(0.036, abs=0.002)),
    ],
)
def test_fishers_p_value_sums_what_is_no_likelier(
    groups: tuple[int, int, int, int], p_value: float
) -> None:
    assert bootstrap.fisher_p_value(*groups) == pytest.approx(p_value)
