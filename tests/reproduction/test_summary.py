"""The summary, from tables small enough to check by hand."""

from dataclasses import replace

from dermfuse.reproduction.outcome import Leakage, Outcome
from dermfuse.reproduction.page import (
    build_page,
    claim_table,
    count_rows,
    headline_table,
    render_block,
)

from .test_words import TEST, _row, _table

RUN_ROW, LOST, QUOTED = _row("Fusion", 0.62, 0.72), _row("lost", None, 0.8), _row("x", None, 1)


def _outcome() -> Outcome:
    table = replace(_table(RUN_ROW, LOST, QUOTED, tests=(TEST,)), number="VII")
    beyond = replace(_table(_row("other", 0.7, None)), number="beyond, classes")
    leakage = Leakage("net", "auc", 0.98, 900, 0.80, 100, 0.70, 0.90, 20)
    return Outcome("data", 1, 0, 0, (), 2000, {}, (table, beyond), (leakage,), (), {}, ())


def test_rows_of_the_paper_are_counted_without_what_it_quotes() -> None:
    assert count_rows(_outcome()) == (1, 2)


def test_headline_numbers_stand_beside_ours() -> None:
    numbers = ("0.720", "0.620\n0.620 to 0.620", "-0.100\nbeyond noise")
    assert headline_table(_outcome()).rows == (
        ("Fusion, AP\nTable VII", *numbers),
        ("Fusion, AUC\nTable VII", *numbers),
    )


def test_each_claim_is_a_line_with_its_verdict() -> None:
    assert claim_table(_outcome()).rows == (
        ("augmentation helps classes\nTable VII", "holds", "1 of 1 gain, p 0.008"),
        (
            "splitting after augmentation inflates validation\nnet",
            "yes",
            "AUC 0.98 against 0.80\n0.70 to 0.90",
        ),
    )


def test_a_loss_and_a_network_s_second_metric_are_no_lines_of_their_own() -> None:
    outcome = _outcome()
    lost = replace(TEST, difference=-0.03)
    (first, *others), (leak,) = outcome.tables, outcome.leakage
    tables = (replace(first, tests=(TEST, lost)), *others)
    leaks = (leak, replace(leak, metric="average_precision"), replace(leak, preset="other"))
    rows = claim_table(replace(outcome, tables=tables, leakage=leaks)).rows
    assert rows[0][2] == "1 of 2 gain, p 0.008, 1 lose"
    assert [label.splitlines()[1] for label, _, _ in rows[1:]] == ["net", "other"]
    assert all(found.startswith("AUC 0.98 against 0.80") for _, _, found in rows[1:])


def test_what_holds_for_all_tables_is_said_once_even_where_no_headline_row_was_run() -> None:
    outcome = replace(_outcome(), leakage=())
    few = replace(outcome, tables=tuple(replace(t, number="III", tests=()) for t in outcome.tables))
    for each in (outcome, few):
        page = build_page(each)
        notes = [table.note for table in (*page.summary, *page.tables)]
        assert sum("bootstrap of 2000 draws" in note for note in notes) == 1
        assert "bootstrap of 2000 draws" in notes[0]


def test_the_block_names_data_seed_and_count() -> None:
    said = render_block(_outcome())
    assert said.startswith("**1 of 2 rows of Tables III to XI have a number of ours.**")
    assert "Data: data, images (n = 100, 20 malignant), seed 0." in said
