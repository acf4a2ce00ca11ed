"""What a reproduction says where the committed page, held whole, has no such case."""

from dataclasses import replace

from dermfuse.reproduction.measurement import Measurement
from dermfuse.reproduction.outcome import (
    Comparison,
    ContrastResult,
    Leakage,
    Outcome,
    Provenance,
    RowResult,
    TableResult,
)
from dermfuse.reproduction.page import (
    build_page,
    claim_table,
    count_rows,
    say_leakage,
    say_table,
)
from dermfuse.reproduction.paper import Metric

METRICS: tuple[Metric, ...] = ("average_precision", "auc")
MADE = Provenance((), 1, (3, 3), 3, "imagenet", (), (), (), 1.0, 100, 20)
TEST = ContrastResult(
    "augmentation", "with", "without", "auc", 0.011, 0.03, 0.01, 0.05, 0.004, corrected=0.008
)
LOSES = replace(TEST, difference=-0.03)
LEAK = Leakage("net", "auc", 0.98, 900, 0.80, 100, 0.70, 0.90, 20)


def row(label: str, ours: float | None, paper: float | None) -> RowResult:
    measured = None if ours is None else Measurement(ours, ours, ours, 0.01, 0.01, None, 1)
    gap = None if ours is None or paper is None else ours - paper
    within = None if gap is None else abs(gap) <= 0.05
    cells = tuple(Comparison(m, paper, measured, gap, 0.01, 0.05, within) for m in METRICS)
    source = label if ours is not None or label == "lost" else ""
    return RowResult(label, source, cells, provenance=MADE if ours is not None else None)


def table(
    *rows: RowResult, number: str = "IV", tests: tuple[ContrastResult, ...] = ()
) -> TableResult:
    return TableResult(number, "A table", "classification", METRICS, "images", rows, tests)


def outcome(*tests: ContrastResult, leakage: tuple[Leakage, ...] = (LEAK,)) -> Outcome:
    rows = row("Fusion", 0.62, 0.72), row("lost", None, 0.8), row("x", None, 1)
    tables = table(*rows, number="VII", tests=tests), table(row("y", 0.7, None), number="beyond")
    return Outcome("data", 1, 0, 0, (), 2000, {}, tables, leakage, (), {}, ())


def test_values_within_noise_are_counted_and_rows_without_a_number_are_named() -> None:
    rows = row("a", 0.80, 0.82), row("b", 0.60, 0.70), row("c", None, 0.9), row("lost", None, None)
    assert say_table(table(*rows)) == (
        "Within noise of ours: 2 of the 4 published values that were measured here, too; of the "
        "others ours is lower in 2 and higher in 0.",
        "By AP, a is highest here (0.800); in the paper it is c (0.900), which has no number here.",
        "Without a number of ours: lost.",
    )
    own = say_table(table(row("a", 0.5, None), row("b", 0.6, None)))
    assert own == ("By AP, b is highest here (0.600).",)


def test_a_claim_may_be_the_other_way_round_or_not_be_the_papers() -> None:
    assert "Here it is the other way round" in say_table(table(tests=(LOSES,)))[0]
    (said,) = say_table(table(tests=(replace(TEST, paper_difference=None, corrected=0.0),)))
    assert said == (
        "Augmentation helps beyond noise in 1 of 1 comparisons, harms in 0, and makes no "
        "difference that can be told from noise in 0. AUC, with against without: +0.030 (+0.010 "
        "to +0.050), corrected p below 0.001."
    )


def test_inflation_is_called_so_only_beyond_noise() -> None:
    near, (said,) = replace(LEAK, paper_split=0.88), say_leakage([LEAK])
    assert "a difference of +0.180. The paper's split inflates the validation score" in said
    assert "not shown here" in say_leakage([near])[0]
    leaks = (LEAK, replace(near, metric="average_precision"), replace(near, preset="other"))
    claim, *inflated = claim_table(outcome(TEST, LOSES, leakage=leaks)).rows
    found = "in part", "1 of 2 gain, p 0.008, 1 lose"
    assert claim == ("augmentation helps classes\nTable VII", *found)
    assert [cells[0].partition("\n")[2] for cells in inflated] == ["net", "other"]
    assert [cells[1] for cells in inflated] == ["yes", "not shown"]
    assert count_rows(outcome()) == (1, 2), "what the paper quotes is no row of ours"


def test_what_holds_for_all_tables_is_said_once_even_where_no_headline_row_was_run() -> None:
    known = outcome(TEST, leakage=())
    few = replace(known, tables=(table(row("a", 0.5, 0.6), number="III"),))
    for each in (known, few):
        page = build_page(each)
        notes = [table.note for table in (*page.summary, *page.tables)]
        assert sum("bootstrap of 2000 draws" in note for note in notes) == 1
        assert "bootstrap of 2000 draws" in notes[0]


def test_a_row_says_what_its_numbers_come_from_and_the_page_how_many_seeds() -> None:
    stopped = replace(MADE, epochs=(7, 9), planned_epochs=50, init="random", settings=("a = 1",))
    rows = replace(row("a", 0.5, 0.6), provenance=stopped), row("b", 0.5, 0.6)
    made = build_page(replace(outcome(), tables=(table(*rows),))).tables[0]
    assert made.note == "All rows: seed 0; n = 100, 20 malignant."
    assert [cells[0] for cells in made.rows] == [
        "a\n7 to 9 of 50 epochs\nrandom weights to start from\na = 1",
        "b\n3 epochs; the paper trains 50",
    ]
    said = build_page(replace(outcome(), seeds=3)).summary[0].note
    assert "Data: data; seeds 0 to 2." in said
    assert "over the images, of the mean over the seeds, whose standard deviation" in said
