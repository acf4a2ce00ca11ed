import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.ranking import ScoredNetwork, draw_reliability, reliability, wilson_interval
from dermfuse.figures.style import DPI, WIDTH_IN, Basis
from dermfuse.predictions.metrics import expected_calibration_error

BASIS = Basis("test", 5, ("a",), malignant=3)
MALIGNANT = np.array([False, True, True, False, True])
SCORES = np.array([0.02, 0.04, 0.5, 0.95, 1.0])


def test_bins_are_as_by_hand() -> None:
    bins = reliability(MALIGNANT, SCORES)  # bins of 1/15: 0, 0, 7, 14, 14
    full = [0, 7, 14]
    assert bins.count[full].tolist() == [2, 1, 2]
    assert bins.count.sum() == 5
    assert bins.malignant[full].tolist() == [1, 1, 1]
    assert bins.mean_score[full] == pytest.approx([0.03, 0.5, 0.975])
    assert bins.fraction[full] == pytest.approx([0.5, 1.0, 0.5])
    assert np.isnan(bins.fraction[1:7]).all()


def test_the_bins_make_up_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    malignant, scores = rng.random(200) < 0.3, rng.random(200)
    bins = reliability(malignant, scores)
    gaps = bins.count / 200 * np.abs(bins.mean_score - bins.fraction)
    assert np.nansum(gaps) == pytest.approx(expected_calibration_error(malignant, scores))


def test_the_interval_of_a_share_is_as_tabled() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 15 of 148 and 0 of 20
    low, high = wilson_interval(np.array([15, 0]), np.array([148, 20]))
    assert low == pytest.approx([0.0624, 0.0], abs=5e-5)
    assert high == pytest.approx([0.1605, 0.1611], abs=5e-5)


def test_a_reliability_diagram_is_a_picture() -> None:
    picture = draw_reliability([ScoredNetwork("a", MALIGNANT, SCORES)], basis=BASIS)
    assert Image.open(io.BytesIO(picture.png)).size == (WIDTH_IN * DPI, round(5.9 * DPI))
    assert "n = 5 images (3 malignant)" in picture.caption


def test_no_scores_are_refused() -> None:
    with pytest.raises(DataError, match="there are no scores to draw"):
        draw_reliability([], basis=BASIS)
