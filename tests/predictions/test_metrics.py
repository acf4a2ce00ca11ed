"""Metrics on masks drawn by hand, expected values as fractions; rankings against brute force."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.predictions import metrics
from dermfuse.predictions.metrics import Counts, count


def mask(text: str) -> NDArray[np.bool_]:
    return np.array([[c == "#" for c in row] for row in text.split()])


EMPTY = mask(".... .... .... ....")
FULL = ~EMPTY
LEFT = mask("##.. ##.. ##.. ##..")
TOP = mask("#### #### .... ....")
CORNER = mask("##.. ##.. .... ....")


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        # AC, SE, SP, JA, DI
        (LEFT, TOP, (8 / 16, 4 / 8, 4 / 8, 4 / 12, 8 / 16)),
        (CORNER, LEFT, (12 / 16, 4 / 8, 8 / 8, 4 / 8, 8 / 12)),
        (LEFT, CORNER, (12 / 16, 4 / 4, 8 / 12, 4 / 8, 8 / 12)),
        (LEFT, LEFT, (1, 1, 1, 1, 1)),
        (EMPTY, EMPTY, (1, 1, 1, 1, 1)),
        (EMPTY, CORNER, (12 / 16, 0, 1, 0, 0)),
        (CORNER, EMPTY, (12 / 16, 1, 12 / 16, 0, 0)),
        (CORNER, FULL, (4 / 16, 4 / 16, 1, 4 / 16, 8 / 20)),
    ],
)
def test_masks_drawn_by_hand_score_their_fractions(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], expected: Any
) -> None:
    counts = count(predicted, truth)
    scored = (
        metrics.accuracy,
        metrics.sensitivity,
        metrics.specificity,
        metrics.jaccard,
        metrics.dice,
    )
    assert tuple(metric(counts) for metric in scored) == pytest.approx(expected)


def test_counts_say_which_pixels_are_which_and_need_equal_shapes() -> None:
    assert count(CORNER, TOP) == Counts(tp=4, fp=0, tn=8, fn=4)
    with pytest.raises(DataError, match=r"shape \(4, 4\) for a truth of shape \(2, 8\)"):
        count(LEFT, LEFT.reshape(2, 8))


def test_the_pooled_jaccard_weighs_images_by_their_lesions() -> None:
    images = [Counts(tp=1, fp=1, tn=0, fn=0), Counts(tp=98, fp=0, tn=0, fn=0)]
    assert metrics.pooled_jaccard(images) == 99 / 100
    assert metrics.pooled_jaccard([]) == 1


@pytest.mark.parametrize(("tp", "expected"), [(64, 0.0), (65, 0.65)])
def test_an_image_below_a_jaccard_of_65_percent_counts_nothing(tp: int, expected: Any) -> None:
    assert metrics.thresholded_jaccard(Counts(tp=tp, fp=100 - tp, tn=7, fn=0)) == expected


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(bool, (4, 4)), hnp.arrays(bool, (4, 4)))
def test_jaccard_never_exceeds_dice_and_both_are_symmetric(
    a: NDArray[np.bool_], b: NDArray[np.bool_]
) -> None:
    counts = count(a, b)
    assert 0 <= metrics.jaccard(counts) <= metrics.dice(counts) <= 1
    assert metrics.dice(counts) == pytest.approx(
        2 * metrics.jaccard(counts) / (1 + metrics.jaccard(counts))
    )
    assert metrics.jaccard(counts) == metrics.jaccard(count(b, a))
    assert metrics.sensitivity(counts) == metrics.specificity(count(~a, ~b))


LABELS = [0, 0, 1, 1, 0, 1]
SCORES = [0.1, 0.4, 0.35, 0.8, 0.8, 0.8]


def at(target: float) -> Callable[..., float]:
    return lambda labels, scores: metrics.specificity_at_sensitivity(labels, scores, target)


@pytest.mark.parametrize(
    ("metric", "labels", "scores", "expected"),
    [
        # pairs: 0.35 over 0.1 (1 of 3); each 0.8 over 0.1, 0.4 and level with 0.8 (2.5 of 3)
        (metrics.auc, LABELS, SCORES, (1 + 2.5 + 2.5) / 9),
        (metrics.auc, LABELS, [0.5] * 6, 1 / 2),
        # at 0.8: 2 found of 3 called, recall 2/3; at 0.4: nothing gained; at 0.35: 3 of 5
        (metrics.average_precision, LABELS, SCORES, 2 / 3 * 2 / 3 + 1 / 3 * 3 / 5),
        (metrics.average_precision, LABELS, [0.5] * 6, 1 / 2),
        (metrics.average_precision, [1, 1], [0.1, 0.2], 1),
        *[(at(target), LABELS, SCORES, 2 / 3) for target in (0.01, 0.66)],
        *[(at(target), LABELS, SCORES, 1 / 3) for target in (0.67, 1.0)],
        # 55 of 100 are 0.55: rounding asks for no other image
        (at(0.55), [1] * 100 + [0], [1.0] * 55 + [0.0] * 45 + [0.5], 1),
        (metrics.brier_score, [0, 1], [0.0, 1.0], 0),
        (metrics.brier_score, [0, 1], [0.5, 0.8], (0.25 + 0.04) / 2),
        # 0.50 and 0.52 share bin 7 (7/15 to 8/15): mean score 0.51, half malignant; 1.0 is alone
        (metrics.expected_calibration_error, [0, 1, 0], [0.50, 0.52, 1.0], 2 / 3 * 0.01 + 1 / 3),
    ],
)
def test_rankings_and_calibration_by_hand(
    metric: Callable[..., float], labels: list[int], scores: list[float], expected: float
) -> None:
    assert metric(labels, scores) == pytest.approx(expected)


def test_calibration_bins_are_closed_below_and_the_last_holds_one() -> None:
    scores = np.array([0.0, 1 / 15, 0.0666, 14 / 15, 1.0])
    assert metrics.calibration_bins(scores).tolist() == [0, 1, 0, 14, 14]


ranked = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(max_examples=25, deadline=None)
@given(ranked, st.sampled_from([0.5, 0.82, 0.95, 1.0]))
def test_rankings_are_what_their_definitions_say(
    pairs: list[tuple[bool, int]], target: float
) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    malignant, benign = scores[labels][:, None], scores[~labels]
    order = (malignant > benign) + (malignant == benign) / 2
    assert metrics.auc(labels, scores) == pytest.approx(order.mean())
    area, recall, best = 0.0, 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        counts = count(scores >= threshold, labels)
        area += (metrics.sensitivity(counts) - recall) * counts.tp / (counts.tp + counts.fp)
        recall = metrics.sensitivity(counts)
        best = max(best, metrics.specificity(counts) if recall >= target else 0.0)
    assert metrics.average_precision(labels, scores) == pytest.approx(area)
    assert metrics.specificity_at_sensitivity(labels, scores, target) == pytest.approx(best)


@pytest.mark.parametrize(
    ("metric", "labels", "scores", "message"),
    [
        *[(metric, [0, 0], [0.1, 0.2], "no malignant image") for metric in (metrics.auc, at(0.95))],
        *[(metric, [1, 1], [0.1, 0.2], "no benign image") for metric in (metrics.auc, at(0.95))],
        (metrics.average_precision, [0, 0], [0.1, 0.2], "no malignant image"),
        *[(at(target), LABELS, SCORES, "sensitivity") for target in (0.0, 1.1, np.nan)],
        (metrics.brier_score, [], [], r"shape \(0,\)"),
        (metrics.brier_score, [0, 1], [0.5], r"scores of shape \(1,\)"),
        (metrics.brier_score, [[0, 1]], [[0.5, 0.5]], r"labels of shape \(1, 2\)"),
        (metrics.brier_score, [0, 2], [0.5, 0.5], "labels other than 0 and 1"),
        (metrics.brier_score, [0, 1], [0.5, np.nan], "not finite"),
    ],
)
def test_what_has_no_meaning_is_refused(
    metric: Callable[..., float], labels: list[Any], scores: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        metric(labels, scores)
