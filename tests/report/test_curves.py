import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.predictions.metrics import auc, average_precision
from dermfuse.report.page import precision_recall_series, roc_series

MALIGNANT = np.array([True, False, True, False])
SCORES = np.array([0.9, 0.8, 0.7, 0.1])

images = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30).filter(
    lambda rows: len({row[0] for row in rows}) == 2
)


def area(y: np.ndarray, x: np.ndarray) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def test_the_roc_line_is_as_by_hand() -> None:
    line = roc_series("a", MALIGNANT, SCORES)
    assert line.x.tolist() == [0, 0, 0.5, 0.5, 1]
    assert line.y.tolist() == [0, 0.5, 0.5, 1, 1]


def test_the_precision_recall_line_is_as_by_hand() -> None:
    line = precision_recall_series("a", MALIGNANT, SCORES)
    assert line.x.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert line.y.tolist() == pytest.approx([1, 1, 1 / 2, 1 / 2, 2 / 3, 2 / 3, 1 / 2, 1 / 2])


@settings(deadline=None)
@given(images)
def test_the_areas_below_the_lines_are_the_metrics(rows: list[tuple[bool, int]]) -> None:
    malignant = np.array([row[0] for row in rows])
    scores = np.array([row[1] / 6 for row in rows])
    roc = roc_series("a", malignant, scores)
    assert area(roc.y, roc.x) == pytest.approx(auc(malignant, scores))
    curve = precision_recall_series("a", malignant, scores)
    assert area(curve.y, curve.x) == pytest.approx(average_precision(malignant, scores))
