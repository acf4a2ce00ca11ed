import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermfuse.data.augment import match_same_class, pairing_method

labels_of_a_batch = st.lists(st.integers(0, 1), max_size=40).map(lambda x: np.array(x, np.int64))


@pytest.mark.parametrize(
    ("labels", "partner"),
    [
        ([], []),
        ([1], [0]),
        ([0, 0], [1, 0]),
        ([0, 1], [1, 0]),
        ([0, 0, 0], [1, 0, 2]),
        ([0, 1, 0, 1], [2, 3, 0, 1]),
        ([0, 1, 0, 0], [2, 3, 0, 1]),
        ([1, 0, 0, 1, 1], [3, 2, 1, 0, 4]),
    ],
)
def test_method_1_matches_as_by_hand(labels: list[int], partner: list[int]) -> None:
    assert match_same_class(np.array(labels, np.int64)).tolist() == partner


@settings(deadline=None)
@given(labels_of_a_batch)
def test_method_1_is_an_involution(labels: np.ndarray) -> None:
    partner = match_same_class(labels)
    assert partner.dtype == np.int64
    assert (partner[partner] == np.arange(len(labels))).all()


@settings(deadline=None)
@given(labels_of_a_batch)
def test_method_1_leaves_at_most_one_different_class_pair(labels: np.ndarray) -> None:
    partner = match_same_class(labels)
    unequal = int((labels != labels[partner]).sum())
    assert unequal in (0, 2)  # one matched pair stands at two indices
    both_odd = labels.sum() % 2 == 1 and (1 - labels).sum() % 2 == 1
    assert (unequal == 2) == both_odd


@settings(deadline=None)
@given(labels_of_a_batch)
def test_method_1_leaves_an_index_alone_only_in_an_odd_batch(labels: np.ndarray) -> None:
    alone = int((match_same_class(labels) == np.arange(len(labels))).sum())
    assert alone == len(labels) % 2


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.array([0, 2])])
def test_labels_that_are_not_binary_vectors_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a vector of 0"):
        match_same_class(labels)


def test_the_methods_alternate_one_to_four() -> None:
    assert [pairing_method(i) for i in range(11)] == [1, 2, 2, 2, 2, 1, 2, 2, 2, 2, 1]


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_five_iterations_in_a_row_hold_method_1_once(start: int) -> None:
    assert [pairing_method(start + i) for i in range(5)].count(1) == 1
