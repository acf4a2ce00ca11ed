from dataclasses import replace

from dermfuse.reproduction.measurement import Measurement
from dermfuse.reproduction.outcome import (
    Comparison,
    ContrastResult,
    Leakage,
    Provenance,
    RowResult,
    TableResult,
)
from dermfuse.reproduction.page import say_leakage, say_table
from dermfuse.reproduction.paper import Metric

MADE = Provenance((), 1, (3, 3), 3, "imagenet", (), (), (), 1.0, 100, 20)
TEST = ContrastResult(
    "augmentation", "with", "without", "auc", 0.011, 0.03, 0.01, 0.05, 0.004, corrected=0.008
)


def _row(label: str, ours: float | None, paper: float | None) -> RowResult:
    cells = []
    for metric in ("average_precision", "auc"):
        value = None if ours is None else Measurement(ours, ours, ours, 0.01, 0.01, None, 1)
        known = ours is not None and paper is not None
        difference = ours - paper if known else None  # type: ignore[operator]
        within = abs(difference) <= 0.05 if difference is not None else None
        name: Metric = metric  # type: ignore[assignment]
        cells.append(Comparison(name, paper, value, difference, 0.01, 0.05, within))
    source = label if ours is not None or label == "lost" else ""
    return RowResult(label, source, tuple(cells), provenance=MADE if ours is not None else None)


def _table(*rows: RowResult, tests: tuple[ContrastResult, ...] = ()) -> TableResult:
    metrics: tuple[Metric, ...] = ("average_precision", "auc")
    return TableResult("IV", "A table", "classification", metrics, "images", rows, tests)


def test_values_within_noise_are_counted_and_the_others_have_a_side() -> None:
    said = say_table(_table(_row("a", 0.80, 0.82), _row("b", 0.60, 0.70)))
    assert said[0] == (
        "Within noise of ours: 2 of the 4 published values that were measured here, too; of the "
        "others ours is lower in 2 and higher in 0."
    )


def test_the_best_row_is_named_here_and_in_the_paper() -> None:
    agreed = say_table(_table(_row("a", 0.80, 0.82), _row("b", 0.60, 0.70)))
    assert agreed[1] == "By AP, a is highest here (0.800), as in the paper (0.820)."
    other = say_table(_table(_row("a", 0.50, 0.82), _row("b", 0.60, 0.70)))
    assert other[1] == "By AP, b is highest here (0.600); in the paper it is a (0.820)."
    absent = say_table(_table(_row("a", 0.5, 0.6), _row("b", 0.6, 0.7), _row("c", None, 0.9)))
    assert "in the paper it is c (0.900), which has no number here." in absent[1]


def test_rows_without_a_number_of_ours_are_named() -> None:
    said = say_table(_table(_row("a", 0.8, 0.8), _row("lost", None, 0.8), _row("quoted", None, 1)))
    assert said[-1] == "Without a number of ours: lost."


def test_a_claim_holds_where_the_difference_is_found_beyond_noise() -> None:
    said = say_table(_table(tests=(TEST,)))
    assert "AUC, with against without: +0.030 (+0.010 to +0.050), corrected p 0.008" in said[0]
    assert said[0].startswith("Augmentation helps beyond noise in 1 of 1 comparisons, harms in 0")
    assert "The paper's claim holds here: of its 1 gains 1 are found beyond noise." in said[0]


def test_a_claim_is_not_shown_where_noise_explains_the_difference() -> None:
    said = say_table(_table(tests=(replace(TEST, corrected=0.3),)))
    assert "makes no difference that can be told from noise in 1" in said[0]
    assert "The paper's claim is not shown here" in said[0]


def test_a_claim_may_be_the_other_way_round_or_hold_in_part() -> None:
    loses = replace(TEST, difference=-0.03)
    assert "Here it is the other way round" in say_table(_table(tests=(loses,)))[0]
    assert "holds here in part" in say_table(_table(tests=(TEST, loses)))[0]


def test_what_the_paper_does_not_claim_is_not_called_its_claim() -> None:
    own = replace(TEST, paper_difference=None)
    said = say_table(_table(tests=(own,)))[0]
    assert "Augmentation helps beyond noise in 1 of 1 comparisons, harms in 0" in said
    assert "claim" not in said
    assert "in the paper" not in said


def test_inflation_is_called_so_only_beyond_noise() -> None:
    leak = Leakage("dc", "auc", 0.99, 886, 0.83, 178, low=0.76, high=0.90, epochs=3)
    assert "a difference of +0.160" in say_leakage([leak])[0]
    assert say_leakage([leak])[0].endswith("inflates the validation score beyond noise.")
    assert "not shown here" in say_leakage([replace(leak, paper_split=0.88)])[0]
