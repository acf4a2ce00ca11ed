"""Calibration, operating points, and the weights of networks."""

import numpy as np
import pytest

from dermfuse.errors import DataError
from dermfuse.evaluation.calibrate import (
    calibrate,
    choose_points,
    error_if_perfect,
    fit_calibration,
    fit_weights,
)
from dermfuse.records import Estimate
from dermfuse.release.folder import probability_of


def _drawn(temperature: float, bias: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and scores that are over-confident and off balance."""
    rng = np.random.default_rng(1)
    logits = rng.normal(-1.5, 1.5, n)
    labels = (rng.random(n) < probability_of(logits)).astype(int)
    return labels, probability_of((logits - bias) * temperature)


def test_two_scores_are_calibrated_to_the_fractions_they_hold() -> None:
    # 1 of 4 malignant at score 0.5, 3 of 4 at 0.9: logits 0 and ln 9 must become -ln 3 and ln 3
    fitted = fit_calibration([1, 0, 0, 0, 1, 1, 1, 0], [0.5] * 4 + [0.9] * 4)
    assert fitted.bias == pytest.approx(-np.log(3), abs=1e-3)
    assert fitted.temperature == pytest.approx(np.log(9) / (2 * np.log(3)), abs=1e-3)
    assert fitted([0.5, 0.9]).tolist() == pytest.approx([0.25, 0.75], abs=1e-3)


@pytest.mark.parametrize("bias", [-1.0, 0.0])
def test_the_line_that_spoilt_the_scores_is_found(bias: float) -> None:
    labels, scores = _drawn(temperature=3.0, bias=bias)
    fitted = fit_calibration(labels, scores, bias=bias != 0)
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    assert fitted.bias == pytest.approx(bias, abs=0.15 * abs(bias))  # temperature alone: exactly 0


def test_calibration_lowers_the_error_and_temperature_alone_does_less() -> None:
    labels, scores = _drawn(temperature=3.0, bias=-1.5)
    out_of_fold = fit_calibration(labels[:2000], scores[:2000])(scores)
    report = calibrate(labels, scores, out_of_fold)
    assert report.calibration == fit_calibration(labels, scores)
    assert report.error_after < 0.03 < report.error_of_temperature < report.error_before
    assert report.mean_after == pytest.approx(labels.mean(), abs=0.01)
    assert (report.images, report.malignant) == (4000, int(labels.sum()))


def test_perfect_probabilities_show_an_error_by_chance_that_falls_with_more_images() -> None:
    assert error_if_perfect([0.0, 1.0, 1.0]) == Estimate(0.0, 0.0, 0.0), "they leave no chance"
    assert error_if_perfect([0.5]) == Estimate(0.5, 0.5, 0.5)
    # One in each of two bins: (0.5 + 0.2) / 2 or (0.5 + 0.8) / 2, the latter 1 time in 5.
    found = error_if_perfect([0.5, 0.8])
    assert (found.low, found.high) == pytest.approx((0.35, 0.65))
    assert found.value == pytest.approx(0.8 * 0.35 + 0.2 * 0.65, abs=0.01)
    # |k - 2| / 4 with k of 4 coins: 3/8 x 0 + 4/8 x 1/4 + 1/8 x 1/2
    found = error_if_perfect([0.5] * 4)
    assert (found.low, found.high) == (0.0, 0.5)
    assert found.value == pytest.approx(3 / 16, abs=0.01)
    assert error_if_perfect([0.5] * 400).high < 0.06, "about 2 x 0.5 / sqrt(400)"
    assert error_if_perfect([0.5] * 4) == found, "a seed"
    assert error_if_perfect([0.5] * 4, seed=1) != found


def test_what_cannot_be_fitted_is_refused_and_separable_scores_give_a_finite_line() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    for labels in ([0] * 4, [1] * 4):
        for fit, values in (
            *[(fit_calibration, scores), (choose_points, scores)],
            (fit_weights, scores[:, None]),
        ):
            with pytest.raises(DataError, match="one class is missing"):
                fit(labels, values)
    with pytest.raises(DataError, match="do not go with malignancy"):
        fit_calibration([1, 1, 0, 0], [0.1, 0.8, 0.2, 0.9])
    with pytest.raises(DataError, match="3 malignant and 12 benign"):
        calibrate([1] * 3 + [0] * 12, np.linspace(0.1, 0.9, 15)[::-1], np.full(15, 0.5))
    assert 0 < fit_calibration([0, 0, 1, 1], scores).temperature < 1


def test_a_threshold_lies_between_the_image_it_keeps_and_the_next_below() -> None:
    labels = [0, 0, 0, 1, 0, 1, 1, 1, 1, 1]
    values = [0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9]
    found = {
        point.name: (point.threshold, point.sensitivity.value, point.specificity.value)
        for point in choose_points(labels, values, draws=50)
    }
    # 5 of 6 malignant reach 0.8, the fifth is 0.4, below it stands 0.3; all six reach 0.25, below
    # it 0.2. The sum of both is largest at 0.4: 5/6 + 1 against 1 + 3/4.
    five, six = pytest.approx((0.35, 5 / 6, 1.0)), pytest.approx((0.225, 1.0, 3 / 4))
    targets = dict.fromkeys(("sensitivity90", "sensitivity95", "sensitivity98"), six)
    assert found == {"balanced": five, "sensitivity80": five} | targets


def test_intervals_hold_what_new_images_would_see() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [400, 100])
    values = np.clip(0.3 + 0.25 * labels + rng.normal(0, 0.15, 500), 0, 1)
    points = choose_points(labels, values, draws=200)
    for point in points:
        for rate in (point.sensitivity, point.specificity):
            assert 0 <= rate.low <= rate.value <= rate.high <= 1
    low = points[1].sensitivity.low
    assert low < 0.8, "a new image is found less surely than one chosen on"


def _scores(rng: np.random.Generator, labels: np.ndarray, separation: float) -> np.ndarray:
    return probability_of(separation * (labels - 0.5) + rng.normal(0.0, 1.0, labels.size))


def test_equal_networks_share_alike_and_one_has_the_whole_weight() -> None:
    labels = np.arange(60) % 2
    scores = _scores(np.random.default_rng(0), labels, 2.0)
    for count in (1, 4):
        weights = fit_weights(labels, np.stack([scores] * count, axis=1))
        assert weights.tolist() == [1 / count] * count


def test_no_weights_on_a_fine_grid_make_the_labels_likelier() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(400) < 0.3).astype(int)
    columns = np.stack([_scores(rng, labels, s) for s in (1.5, 1.0)], axis=1)

    def loss(weight: float) -> float:
        mean = columns @ [weight, 1 - weight]
        chance = fit_calibration(labels, mean)(mean)
        return float(-np.log(np.where(labels == 1, chance, 1 - chance)).mean())

    found = fit_weights(labels, columns)
    assert loss(found[0]) <= min(loss(w) for w in np.linspace(0, 1, 101)) + 1e-6
