import re
from collections import defaultdict

import pytest

from dermfuse.config import load_preset, preset_names
from dermfuse.reproduction.assembly import measure_size
from dermfuse.reproduction.paper import FUSIONS, METRIC_NAMES, TABLES

ROWS = [(table.number, row) for table in TABLES for row in table.rows]
BY_NUMBER = {table.number: table for table in TABLES}


def test_the_tables_are_iii_to_xi_in_order_with_columns_as_the_paper_has_them() -> None:
    assert list(BY_NUMBER) == ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"]
    dc = next(row for row in BY_NUMBER["V"].rows if row.source == "dc-mobilenetv1")
    assert list(dc.values.items()) == [
        ("accuracy", 0.865), ("average_precision", 0.665), ("auc", 0.832),
    ]  # fmt: skip
    quoted = {n: [r.label for r in BY_NUMBER[n].rows if not r.source] for n in ("VII", "XI")}
    assert quoted["VII"] == ["BL-CNN", "CUMED", "M-CNN", "DCNN-FV", "MC-CNN", "M-CNN-FV"]
    assert len(quoted["XI"]) == 8
    assert BY_NUMBER["VII"].rows[0].values.get("auc") is None, "the paper has a dash"


def test_every_preset_of_the_paper_is_a_row_and_every_row_has_its_preset() -> None:
    sources = {row.source for _, row in ROWS if row.source}
    assert sources == {
        source for source in sources if source in preset_names() or source in FUSIONS
    }
    of_the_paper = {
        name for name in preset_names() if load_preset(name).summary.startswith("Table")
    }
    assert of_the_paper == sources - FUSIONS.keys()


def test_a_row_has_the_same_numbers_in_every_table_it_stands_in() -> None:
    seen: dict[tuple[str, str], set[float | None]] = defaultdict(set)
    for _, row in ROWS:
        for metric, value in row.values.items():
            seen[row.source or row.label, metric].add(value)
        if row.parameters:
            seen[row.source, "parameters"].add(row.parameters)
    assert {key: values for key, values in seen.items() if len(values) > 1} == {}


def test_numbers_agree_with_the_presets_that_state_them() -> None:
    names = {"AUC": "auc", "AP": "average_precision", "JA": "jaccard"}
    stated = 0
    for name in preset_names():
        for label, text in re.findall(r"\b(AUC|AP|JA) (\.\d{3})", load_preset(name).summary):
            for row in [row for _, row in ROWS if row.source == name]:
                assert row.values[names[label]] == float(text), name  # type: ignore[index]
                stated += 1
    assert stated >= 20


def test_mean_dice_is_at_most_what_mean_jaccard_allows() -> None:
    for _, row in ROWS:
        jaccard, dice = row.values.get("jaccard"), row.values.get("dice")
        if row.source and jaccard is not None and dice is not None:
            # D = 2 J / (1 + J) is concave; both are rounded to three places
            assert jaccard < dice < 2 * (jaccard + 0.0005) / (1.0005 + jaccard) + 0.0005, row.label


def test_published_parameters_are_those_of_our_networks_and_files_of_what_is_deployed() -> None:
    rows = {row.source: row for _, row in ROWS if row.parameters}
    assert len(rows) == 7
    for source, row in rows.items():
        ours, _ = measure_size(load_preset(source).model)
        # of shufflenet the paper does not name the configuration
        assert row.parameters == pytest.approx(ours, rel=0.01 if source == "shufflenet" else 0)
    for name in ("mobilenetv1", "dc-mobilenetv1"):  # the discriminant branch is dropped
        assert measure_size(load_preset(name).model)[1] == pytest.approx(4 * 3_230_914 / 2**20)
    assert [row.file_mb for row in BY_NUMBER["VIII"].rows] == [120, 125, 73, 48, 32, 80]


def test_contrasts_name_rows_of_their_table() -> None:
    for table in TABLES:
        for contrast in table.contrasts:
            assert {contrast.treated, contrast.control} <= set(table.sources)
        assert set(table.metrics) <= METRIC_NAMES.keys()
    first = BY_NUMBER["V"].contrasts[0]  # dc-mobilenetv1 against mobilenetv1
    assert BY_NUMBER["V"].published_difference(first, "auc") == pytest.approx(0.832 - 0.830)
    assert BY_NUMBER["III"].published_difference(first, "auc") is None, "one row is elsewhere"
