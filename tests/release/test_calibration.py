import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.release.folder import Calibration, logit_of, probability_of


def test_temperature_divides_the_logit_and_the_bias_moves_it() -> None:
    calibrated = Calibration(temperature=2.0, bias=-math.log(4.0))
    # odds 16 -> sqrt(16) = 4 -> 4 / 4 = 1
    assert calibrated([16 / 17])[0] == pytest.approx(0.5)
    assert Calibration(1.0, 0.0)([0.25]).tolist() == pytest.approx([0.25])


@given(st.floats(-700, 700))
def test_no_logit_overflows(logit: float) -> None:
    assert 0.0 <= probability_of(logit) <= 1.0


@given(st.floats(0.001, 0.999), st.floats(0.5, 10), st.floats(-5, 5))
def test_the_order_of_scores_is_kept(score: float, temperature: float, bias: float) -> None:
    low, high = Calibration(temperature, bias)([score * 0.99, score])
    assert low < high


def test_certain_scores_have_finite_logits() -> None:
    assert np.isfinite(logit_of([0.0, 1.0])).all()
    assert logit_of(0.5) == pytest.approx(0.0)
