import numpy as np
import pytest

from dermfuse.errors import DataError
from dermfuse.evaluation.calibrate import calibrate, fit_calibration
from dermfuse.release.folder import Calibration, logit_of, probability_of


def _drawn(temperature: float, bias: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and scores that are over-confident and off balance."""
    rng = np.random.default_rng(1)
    logits = rng.normal(-1.5, 1.5, n)
    labels = (rng.random(n) < probability_of(logits)).astype(int)
    return labels, probability_of((logits - bias) * temperature)


def test_two_scores_are_calibrated_to_the_fractions_they_hold() -> None:
    # 1 of 4 malignant at score 0.5, 3 of 4 at 0.9: logits 0 and ln 9 must become -ln 3 and ln 3
    labels = [1, 0, 0, 0, 1, 1, 1, 0]
    scores = [0.5] * 4 + [0.9] * 4
    fitted = fit_calibration(labels, scores)
    assert fitted.bias == pytest.approx(-np.log(3), abs=1e-3)
    assert fitted.temperature == pytest.approx(np.log(9) / (2 * np.log(3)), abs=1e-3)
    assert fitted([0.5, 0.9]).tolist() == pytest.approx([0.25, 0.75], abs=1e-3)


def test_the_line_that_spoilt_the_scores_is_found() -> None:
    labels, scores = _drawn(temperature=3.0, bias=-1.0)
    fitted = fit_calibration(labels, scores)
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    assert fitted.bias == pytest.approx(-1.0, abs=0.15)


def test_temperature_alone_leaves_the_balance() -> None:
    labels, scores = _drawn(temperature=3.0, bias=0.0)
    fitted = fit_calibration(labels, scores, bias=False)
    assert fitted.bias == 0.0
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)


def test_calibration_lowers_the_error_and_temperature_alone_does_less() -> None:
    labels, scores = _drawn(temperature=3.0, bias=-1.5)
    report = calibrate(labels, scores)
    assert report.error_after < 0.03 < report.error_of_temperature < report.error_before
    assert report.mean_after == pytest.approx(labels.mean(), abs=0.01)
    assert (report.images, report.malignant) == (4000, int(labels.sum()))


def test_the_error_after_is_measured_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    scores = np.clip(0.4 + 0.2 * labels + rng.normal(0, 0.2, 20), 0.01, 0.99)
    report = calibrate(labels, scores)
    assert not np.isclose(report.mean_after, report.calibration(scores).mean(), atol=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_alone_is_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="one class is missing"):
        fit_calibration(labels, [0.1, 0.5, 0.9])


def test_scores_that_rank_the_wrong_way_are_refused() -> None:
    with pytest.raises(DataError, match="do not go with malignancy"):
        fit_calibration([1, 1, 0, 0, 1, 0], [0.1, 0.2, 0.8, 0.9, 0.6, 0.5])


def test_too_few_images_to_measure_are_refused() -> None:
    with pytest.raises(DataError, match="3 malignant and 12 benign"):
        calibrate([1] * 3 + [0] * 12, np.linspace(0.1, 0.9, 15)[::-1])


def test_separable_scores_give_a_finite_line() -> None:
    fitted = fit_calibration([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert isinstance(fitted, Calibration)
    assert 0 < fitted.temperature < 1
    assert np.isfinite(logit_of(fitted([0.1, 0.9]))).all()
