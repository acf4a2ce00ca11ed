"""Draws, intervals and p-values of the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.evaluation import bootstrap
from dermfuse.evaluation.bootstrap import draw_counts, paired_p_value, percentile_interval, resample

STRATA = np.array([0, 1, 0, 1, 1, 0, 0])


def first_image(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts[:, :1]


def test_every_draw_keeps_the_size_of_every_stratum() -> None:
    (counts,) = draw_counts(STRATA, draws=50, seed=0)
    assert counts.shape == (50, 7)
    assert (counts[:, STRATA == 0].sum(axis=1) == 4).all()
    assert (counts[:, STRATA == 1].sum(axis=1) == 3).all()


def test_images_are_drawn_equally_often_and_with_replacement() -> None:
    (counts,) = draw_counts(STRATA, draws=4000, seed=0)
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    # Binomial(4, 1/4) and Binomial(3, 1/3): variances 3/4 and 2/3.
    assert counts.var(axis=0) == pytest.approx(np.where(STRATA == 0, 3 / 4, 2 / 3), abs=0.06)


def test_equal_seeds_give_equal_draws() -> None:
    a, b, c = (resample(first_image, STRATA, draws=20, seed=seed) for seed in (3, 3, 4))
    assert a.tolist() == b.tolist()
    assert a.tolist() != c.tolist()


def test_many_images_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 21)
    parts = list(draw_counts(STRATA, draws=8, seed=0))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert resample(first_image, STRATA, draws=8, seed=0).shape == (8, 1)


def test_a_bootstrap_without_draws_or_images_is_refused() -> None:
    with pytest.raises(DataError, match="draws is 0"):
        resample(first_image, STRATA, draws=0)
    with pytest.raises(DataError, match="no images to draw from"):
        resample(first_image, np.zeros(0, dtype=np.int64))


def test_the_interval_holds_the_middle_95_percent() -> None:
    interval = percentile_interval(np.arange(1001.0))
    assert interval.low == pytest.approx(25)
    assert interval.high == pytest.approx(975)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    drawn = resample(lambda c: (c @ values[:, None]) / 400, np.zeros(400, dtype=np.int64))
    interval = percentile_interval(drawn[:, 0])
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0] * 99, 2 / 100),  # no draw against: 2 (0 + 1) / (99 + 1)
        ([-1.0] * 99, 2 / 100),
        ([1.0] * 95 + [-1.0] * 4, 2 * 5 / 100),
        ([1.0] * 95 + [0.0] * 4, 2 * 5 / 100),  # reaching zero counts against
        ([1.0] * 50 + [-1.0] * 49, 1.0),
        ([0.0] * 99, 1.0),
    ],
)
def test_p_values_by_hand(differences: list[float], expected: float) -> None:
    assert paired_p_value(np.array(differences)) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_a_p_value_is_above_zero_at_most_one_and_knows_no_direction(values: list[float]) -> None:
    differences = np.array(values)
    assert 0 < paired_p_value(differences) <= 1
    assert paired_p_value(differences) == paired_p_value(-differences)
