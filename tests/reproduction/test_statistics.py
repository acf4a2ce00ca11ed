from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import delong_interval
from dermfuse.reproduction.measurement import (
    Z,
    auc_error,
    holm,
    noise_margin,
    rescaled_error,
    share_error,
)


def test_holm_by_hand() -> None:
    # ordered .01 .02 .03 .04: x 4 = .04, x 3 = .06, x 2 = .06, x 1 = .04 -> not below .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))


def test_holm_leaves_a_single_test_alone_and_never_exceeds_one() -> None:
    assert holm([0.03]) == (0.03,)
    assert holm([0.6, 0.7, 0.8]) == (1.0, 1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_raises_every_value(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_hanley_and_mcneil_by_hand() -> None:
    # A = 1/2, one image of each class: Q1 = Q2 = 1/3 have weight 0, variance A (1 - A) = 1/4
    assert auc_error(0.5, malignant=1, benign=1) == pytest.approx(0.5)
    # three of each: (1/4 + 2 (1/3 - 1/4) + 2 (1/3 - 1/4)) / 9 = (7 / 12) / 9
    assert auc_error(0.5, malignant=3, benign=3) == pytest.approx(sqrt(7 / 108))
    assert auc_error(1.0, malignant=5, benign=5) == 0.0


def test_the_papers_test_set_leaves_an_auc_uncertain_by_about_six_hundredths() -> None:
    assert 1.96 * auc_error(0.845, malignant=75, benign=304) == pytest.approx(0.056, abs=0.002)


def test_hanley_and_mcneil_come_near_delong_on_normal_scores() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [2000, 500])
    delong = delong_interval(labels, rng.normal(labels * 1.2, 1.0))
    # their exponential model is on the safe side of normal scores, by less than a quarter
    ratio = auc_error(delong.value, malignant=500, benign=2000) / delong.standard_error
    assert 1.0 < ratio < 1.25


def test_an_empty_class_has_no_auc() -> None:
    with pytest.raises(DataError, match="0 malignant and 4 benign"):
        auc_error(0.8, malignant=0, benign=4)


def test_errors_shrink_with_the_root_of_the_count() -> None:
    assert share_error(0.8, 400) == pytest.approx(0.02)
    assert share_error(1.0, 400) == 0.0
    assert rescaled_error(0.03, 150, 600) == pytest.approx(0.015)


def test_noise_is_the_root_of_the_sum_of_squares() -> None:
    assert noise_margin(0.3, 0.4, None) == pytest.approx(Z * 0.5)
    assert noise_margin() == 0.0
