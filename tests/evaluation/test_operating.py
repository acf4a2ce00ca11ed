import numpy as np
import pytest

from dermfuse.errors import DataError
from dermfuse.evaluation.calibrate import choose_points

LABELS = [0, 0, 0, 1, 0, 1, 1, 1, 1, 1]
VALUES = [0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9]


def test_a_threshold_lies_between_the_image_it_keeps_and_the_next_below() -> None:
    points = {point.name: point for point in choose_points(LABELS, VALUES, draws=50)}
    assert list(points) == [
        "balanced",
        "sensitivity80",
        "sensitivity90",
        "sensitivity95",
        "sensitivity98",
    ]
    # 5 of 6 malignant reach 0.8, the fifth is 0.4, below it stands 0.3
    assert points["sensitivity80"].threshold == pytest.approx(0.35)
    assert points["sensitivity80"].sensitivity.value == pytest.approx(5 / 6)
    assert points["sensitivity80"].specificity.value == pytest.approx(1.0)
    # 0.95 needs all six: 0.25, below it 0.2
    assert points["sensitivity95"].threshold == pytest.approx(0.225)
    assert points["sensitivity95"].specificity.value == pytest.approx(3 / 4)
    # sensitivity + specificity: at 0.4 it is 5/6 + 1, at 0.25 it is 1 + 3/4
    assert points["balanced"].threshold == pytest.approx(0.35)


def test_intervals_hold_what_new_images_would_see() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [400, 100])
    values = np.clip(0.3 + 0.25 * labels + rng.normal(0, 0.15, 500), 0, 1)
    for point in choose_points(labels, values, draws=200):
        for rate in (point.sensitivity, point.specificity):
            assert 0 <= rate.low <= rate.value <= rate.high <= 1
    point = choose_points(labels, values, draws=200)[1]
    assert point.sensitivity.low < 0.8, "a new image is found less surely than one chosen on"


def test_perfect_scores_cost_nothing() -> None:
    points = choose_points([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], draws=20)
    assert {(p.sensitivity.value, p.specificity.value) for p in points} == {(1.0, 1.0)}
    assert {p.threshold for p in points} == {0.5}


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(DataError, match="one class is missing"):
        choose_points([0, 0], [0.1, 0.2])
