import pytest

from dermfuse.evaluation.bootstrap import fisher_p_value


def test_the_p_value_sums_what_is_no_likelier() -> None:
    # 3 hits of 3 + 3: 1, 9, 9, 1 of 20 ways; all three in one group are 2 of them
    assert fisher_p_value(3, 3, 0, 3) == pytest.approx(2 / 20)
    assert fisher_p_value(2, 3, 1, 3) == 1.0
    assert fisher_p_value(0, 3, 3, 3) == pytest.approx(2 / 20)


def test_groups_of_unequal_size_and_no_hits_at_all() -> None:
    assert fisher_p_value(0, 5, 0, 100) == 1.0
    # 1 of 1 against 0 of 9: one of ten ways
    assert fisher_p_value(1, 1, 0, 9) == pytest.approx(1 / 10)


def test_what_a_release_withheld_of_both_classes_differed_by_more_than_chance() -> None:
    assert fisher_p_value(8, 172, 12, 723) == pytest.approx(0.036, abs=0.002)
