import re
from collections import defaultdict

import pytest

from dermfuse.config import load_preset, preset_names
from dermfuse.reproduction.assembly import measure_size
from dermfuse.reproduction.paper import FUSIONS, METRIC_NAMES, TABLES, TESTED, PaperRow, fusion_of

ROWS = [(table.number, row) for table in TABLES for row in table.rows]
BY_NUMBER = {table.number: table for table in TABLES}


def test_the_tables_are_iii_to_xi_in_order_with_columns_as_the_paper_has_them() -> None:
    assert list(BY_NUMBER) == ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"]
    dc = next(row for row in BY_NUMBER["V"].rows if row.source == "dc-mobilenetv1")
    assert dict(dc.values) == {"accuracy": 0.865, "average_precision": 0.665, "auc": 0.832}
    baseline = next(row for row in BY_NUMBER["III"].rows if row.source == "mobilenetv1")
    assert dict(baseline.values) == {"accuracy": 0.829, "auc": 0.83, "average_precision": 0.645}
    quoted = {n: [r.label for r in BY_NUMBER[n].rows if not r.source] for n in ("VII", "XI")}
    assert quoted["VII"] == ["BL-CNN", "CUMED", "M-CNN", "DCNN-FV", "MC-CNN", "M-CNN-FV"]
    assert len(quoted["XI"]) == 8
    assert BY_NUMBER["VII"].rows[0].values["auc"] is None, "the paper has a dash"


def test_every_preset_of_the_paper_is_a_row_and_every_row_has_its_preset() -> None:
    sources = {row.source for _, row in ROWS if row.source}
    assert sources == {
        source for source in sources if source in preset_names() or fusion_of(source)
    }
    of_the_paper = {
        name for name in preset_names() if load_preset(name).summary.startswith("Table")
    }
    assert of_the_paper == sources - {fusion.name for fusion in FUSIONS}


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


@pytest.mark.parametrize(
    "row", [row for _, row in ROWS if row.parameters], ids=lambda row: row.label
)
def test_published_parameters_are_those_of_our_networks(row: PaperRow) -> None:
    ours, _ = measure_size(load_preset(row.source).model)
    if row.source == "shufflenet":  # the paper does not name its configuration
        assert row.parameters == pytest.approx(ours, rel=0.01)
    else:
        assert row.parameters == ours


def test_sizes_are_those_of_what_is_deployed_and_near_what_the_paper_states() -> None:
    pair, single = (
        measure_size(load_preset(name).model) for name in ("dc-mobilenetv1", "mobilenetv1")
    )
    assert pair[1] == single[1], "the discriminant branch is dropped"
    assert single[1] == pytest.approx(4 * 3_230_914 / 2**20)
    stated = {row.source: row.file_mb for row in BY_NUMBER["VIII"].rows}
    assert list(stated.values()) == [120, 125, 73, 48, 32, 80]
    assert stated["fusion-u"] == 48 + 32
    assert BY_NUMBER["VII"].rows[-1].file_mb == 42


def test_mean_dice_is_at_most_what_mean_jaccard_allows() -> None:
    for _, row in ROWS:
        jaccard, dice = row.values.get("jaccard"), row.values.get("dice")
        if row.source and jaccard is not None and dice is not None:
            # D = 2 J / (1 + J) is concave; both are rounded to three places
            assert jaccard < dice < 2 * (jaccard + 0.0005) / (1.0005 + jaccard) + 0.0005, row.label


def test_accuracy_lies_between_sensitivity_and_specificity() -> None:
    """The pixels' accuracy is no mean of the two over images, but lies near their span."""
    for _, row in ROWS:
        if row.source and "sensitivity" in row.values:
            sensitivity, accuracy, specificity = (
                row.values[metric] for metric in ("sensitivity", "accuracy", "specificity")
            )
            assert sensitivity < accuracy < specificity  # type: ignore[operator]


def test_the_fusion_is_best_in_every_score_the_paper_ranks_by() -> None:
    for number, source in (("VIII", "fusion-u"), ("XI", "fusion-u")):
        for metric in ("jaccard", "dice"):
            best = max(BY_NUMBER[number].rows, key=lambda row: row.values[metric] or 0)  # type: ignore[index]
            assert best.source == source
    best_precision = max(BY_NUMBER["VII"].rows, key=lambda r: r.values["average_precision"] or 0)
    assert best_precision.source == "fusion-dc"


def test_contrasts_name_rows_of_their_table() -> None:
    for table in TABLES:
        for contrast in table.contrasts:
            assert {contrast.treated, contrast.control} <= set(table.sources)
            for metric in TESTED[table.task]:
                assert table.published_difference(contrast, metric) == pytest.approx(
                    (table.published(contrast.treated, metric) or 0)
                    - (table.published(contrast.control, metric) or 0)
                )
        assert set(table.metrics) <= METRIC_NAMES.keys()
    assert BY_NUMBER["III"].published("no such row", "auc") is None
