"""DeLong's variance by hand, against brute force over all pairs, and against the bootstrap."""

from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import ResampledRanking, delong_interval, delong_test, resample

Numbers = NDArray[np.float64]


def placements(malignant: Numbers, benign: Numbers) -> tuple[Numbers, Numbers]:
    order = (malignant[:, None] > benign) + (malignant[:, None] == benign) / 2  # (m, n)
    return order.mean(axis=1), order.mean(axis=0)


def covariance_of_all_pairs(labels: NDArray[np.bool_], *models: Numbers) -> Numbers:
    parts = [placements(scores[labels], scores[~labels]) for scores in models]
    found, left_out = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])
    return np.atleast_2d(np.cov(found) / found.shape[1] + np.cov(left_out) / left_out.shape[1])


def test_the_variance_by_hand() -> None:
    # Malignant 3, 1; benign 2, 0. Malignant placements 1, 1/2; benign placements 1/2, 1.
    # Variance of each is 1/8, so that of the AUC 1/8 / 2 + 1/8 / 2.
    estimate = delong_interval([1, 1, 0, 0], [3.0, 1.0, 2.0, 0.0])
    assert estimate.value == 0.75
    assert estimate.standard_error == pytest.approx(sqrt(1 / 8))
    assert estimate.low == pytest.approx(0.75 - 1.959964 * sqrt(1 / 8))
    assert estimate.high == 1.0


@st.composite
def two_models(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Numbers, Numbers]:
    labels = np.array(draw(st.lists(st.booleans(), min_size=4, max_size=25)))
    labels[:4] = [True, True, False, False]
    levels = st.lists(st.integers(0, 12), min_size=labels.size, max_size=labels.size)
    return labels, np.array(draw(levels)) / 12, np.array(draw(levels)) / 12


@settings(max_examples=25, deadline=None)
@given(two_models())
def test_the_fast_variance_is_that_of_all_pairs(
    data: tuple[NDArray[np.bool_], Numbers, Numbers],
) -> None:
    labels, a, b = data
    covariance = covariance_of_all_pairs(labels, a, b)
    error = delong_interval(labels, a).standard_error
    assert error**2 == pytest.approx(covariance[0, 0], abs=1e-12)
    test = delong_test(labels, a, b)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert test.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if test.standard_error:
        assert test.p_value == pytest.approx(erfc(abs(test.difference) / sqrt(2 * variance)))


@settings(max_examples=25, deadline=None)
@given(two_models())
def test_swapping_the_models_turns_the_sign_only(
    data: tuple[NDArray[np.bool_], Numbers, Numbers],
) -> None:
    labels, a, b = data
    test, swapped = delong_test(labels, a, b), delong_test(labels, b, a)
    assert test.difference == -swapped.difference
    assert test.p_value == swapped.p_value
    assert test.low == pytest.approx(-swapped.high)


def test_a_model_does_not_differ_from_itself() -> None:
    scores = np.random.default_rng(0).random(30)
    test = delong_test(np.arange(30) < 10, scores, scores)
    assert (test.difference, test.standard_error, test.p_value) == (0.0, 0.0, 1.0)


def test_perfect_and_reversed_rankings_leave_the_test_without_an_answer() -> None:
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    test = delong_test([1, 1, 0, 0], scores, 1 - scores)
    assert test.difference == 1.0
    assert test.p_value is None
    assert delong_interval([1, 1, 0, 0], scores).standard_error == 0.0


def test_delong_and_the_bootstrap_agree_on_the_error() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(379) < 75
    scores = rng.normal(size=379) + 1.3 * labels
    drawn = resample(
        lambda c: ResampledRanking(labels, scores, c).auc()[:, None], labels.astype(np.int64)
    )
    error = delong_interval(labels, scores).standard_error
    assert float(drawn.std()) == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 0]])
def test_a_class_of_one_image_has_no_variance(labels: list[int]) -> None:
    with pytest.raises(DataError, match="two or more of each"):
        delong_interval(labels, [0.1, 0.2, 0.3])
