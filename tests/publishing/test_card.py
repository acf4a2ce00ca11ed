import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ConfigError, DermfuseError, ReleaseError, RunError
from dermfuse.folders import NOTICE, write_json
from dermfuse.publishing.card import (
    CardSources,
    flatten,
    gather_card,
    render_card,
    render_summary,
    write_card_page,
)
from dermfuse.publishing.stress import StressReport, StressRow
from dermfuse.release.folder import read_release, write_release

from ..measured_release import write_measured_release
from ..small_release import write_small_release

STRESS = StressReport(
    "small",
    12,
    2,
    0.102,
    0,
    8,
    (StressRow("hair", "hair", 10, 0.1, 0.021, 0.113, 0.01, 0.2, 0.914, 1.1),),
)


def _render(release: Path, **sources: Path) -> str:
    return render_card(gather_card(CardSources(release=release, **sources)))


def _section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_looks_are_said_where_there_are_several(tmp_path: Path) -> None:
    folder = write_measured_release(tmp_path / "release")
    assert "orientations" not in _section(_render(folder), "What it is")
    write_release(folder, replace(read_release(folder), looks=8))
    path = tmp_path / "stress.json"
    write_json(path, STRESS.to_dict())
    page = _render(folder, stress=path)
    assert "looks at 8 orientations of it" in _section(page, "What it is")
    assert "Each network looked at 8 orientations of an image." in _section(page, "Robustness")


def test_a_card_holds_the_numbers_of_the_release(tmp_path: Path) -> None:
    page = _render(write_measured_release(tmp_path / "release"))
    assert page.startswith("# Model card: small\n")
    for row in (
        "| all together | 0.812 (0.772 to 0.842) | 0.562 (0.522 to 0.592) |",
        "| reds-a | 0.791 (0.751 to 0.821) |",
        "| calibrated | 0.029 | 0.192 | 0.192 |",
        "| balanced (default) | 0.500 | 0.900 (0.800 to 0.950) | 0.600 (0.500 to 0.700) |",
        "| greens | 0.843 (0.803 to 0.873) |",
        "| photographs | 105 | 95.2 % | 4.8 % |",
        "| epochs | 7 |",
        "| energy kwh | 0.25 |",
        "| versions, numpy | 2.4.6 |",
    ):
        assert row in page
    assert "reds-fold1of3, reds-fold2of3" in page
    assert page.count(NOTICE) == 2


def test_what_the_shipped_precision_costs_stands_beside_float32(tmp_path: Path) -> None:
    release = write_measured_release(tmp_path / "release")
    record = json.loads((release / "release.json").read_text())
    scoring, outlining = record["classes"]["measured"], record["masks"]["measured"]
    exact = json.loads(json.dumps(scoring["fusion"]))
    exact["auc"]["value"] = 0.8141
    scoring["fusion_in_float32"] = exact
    outlining["fusion_in_float32"] = outlining["fusion"]
    write_json(release / "release.json", record)
    said = _section(_render(release), "How it was measured")
    assert "| AUC | 0.814 (0.772 to 0.842) | 0.812 (0.772 to 0.842) | -0.0018 |" in said
    assert "| Jaccard | 0.843 (0.803 to 0.873) | 0.843 (0.803 to 0.873) | +0.0000 |" in said
    assert "what the precision that ships costs beside float32" not in said


def test_the_card_of_the_packages_release_has_every_table_of_what_was_measured() -> None:
    page = render_card(gather_card(CardSources()))
    for head in (
        "| together | one look | as shipped | gain |",
        "| together | float32 | as shipped | change |",
        "| dermoscopy | n | withheld |",
        "| withheld as not called | sensitivity | specificity |",
        "| images with a true mask | n | in the lesion | out of it | nothing speaks for it |",
    ):
        assert f"\n\n{head}\n| --- |" in page
    assert not re.search(r"\| (None|\{)", page)


def test_a_summary_is_the_first_table_with_its_sources(tmp_path: Path) -> None:
    card = gather_card(CardSources(release=write_measured_release(tmp_path / "release")))
    said = render_summary(card)
    assert "| Jaccard of outlines | 0.843 (0.803 to 0.873) |" in said
    assert "| calibration error | 0.029 |" in said
    assert "Scores: 895 images (172 malignant)" in said


def test_every_network_stands_with_its_size_and_its_sum(tmp_path: Path) -> None:
    card = gather_card(CardSources(release=write_measured_release(tmp_path / "release")))
    said = _section(render_card(card), "What it is")
    assert list(card.networks) == ["reds-a", "reds-b", "greens"]
    for network in card.networks.values():
        assert f"| {network.file} | `{network.sha256}` |" in said
    assert "| reds-b | classification | none | 32 x 32 | float32 | 1 | 0.00 MB | 0.750 |" in said


def test_what_a_release_does_not_say_is_said_to_be_not_measured(tmp_path: Path) -> None:
    page = _render(write_small_release(tmp_path / "release"))
    for title, how in {
        "Training data": "dermfuse card --data DIR",
        "Skin tone": "dermfuse card --data DIR",
        "How it was trained": "dermfuse release PLAN --data DIR --out DIR",
        "How it was measured": "dermfuse release PLAN --data DIR --out DIR",
        "Robustness": "dermfuse stress DIR --out DIR, then dermfuse card --stress FILE",
        "Speed": "python -m benchmarks analyze --out FILE, then dermfuse card --bench FILE",
    }.items():
        said = _section(page, title)
        assert "**Not measured:**" in said
        assert f"To measure: `{how}`." in said
    assert "| AUC | not measured |" in page
    assert "has no gate for such images" in page
    assert "| robustness analysis | CLAIM |" in page


def test_reports_and_images_fill_what_is_missing(tmp_path: Path, drawn: Path) -> None:
    stress, bench = tmp_path / "stress.json", tmp_path / "bench.json"
    write_json(stress, STRESS.to_dict())
    write_json(bench, {"image_ms": {"median": 41.2}, "ratio": 2.27, "notice": NOTICE})
    release = write_measured_release(tmp_path / "release")
    page = _render(release, data=drawn, stress=stress, bench=bench)
    assert "| hair | 0.021 | 0.113 | +0.010 | 20.0 % | 0.914 | 10.0 % |" in page
    assert "| ratio | 2.27 |" in _section(page, "Speed")
    assert "41.2" not in page, "a time of one machine"
    assert "| images | 30 |" in _section(page, "Training data")
    assert "| very light | above 55 |" in _section(page, "Skin tone")
    assert "| robustness analysis | CLAIM |" not in page
    assert "dermfuse card --release DIR --data DIR --stress FILE --bench FILE --out FILE" in page
    assert str(tmp_path) not in page


def test_a_page_lies_beside_its_content_from_which_it_can_be_made_again(
    tmp_path: Path, drawn: Path
) -> None:
    release = write_measured_release(tmp_path / "release")
    card = gather_card(CardSources(release=release, data=drawn))
    beside = write_card_page(card, tmp_path / "docs" / "model-card.md")
    assert beside == tmp_path / "docs" / "model-card.json"
    record = json.loads(beside.read_text())
    assert record["release"]["classes"]["measured"]["images"] == 895
    assert gather_card(CardSources(release=release, data=beside)) == card
    assert (tmp_path / "docs" / "model-card.md").read_text() == render_card(card)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: r["classes"]["measured"].pop("fusion"), ReleaseError, "fusion is missing"),
        (lambda r: r["classes"]["measured"]["fusion"].pop("auc"), ReleaseError, "lacks a number"),
        (lambda r: r["masks"]["measured"].update(images="x"), ReleaseError, "images is 'x'"),
        (lambda r: r["gate"]["measured"].update(noise=1), ReleaseError, "gate.measured.noise is 1"),
        (lambda r: r["facts"].update(fold_runs=[1]), ReleaseError, "fold_runs.0 is 1"),
        (lambda r: r["facts"]["recipes"]["reds"].update(x={}), ConfigError, 'no key "x"'),
    ],
)
def test_a_release_that_says_something_else_is_refused(
    change: Callable[[Any], object], error: type[DermfuseError], message: str, tmp_path: Path
) -> None:
    path = write_measured_release(tmp_path / "release") / "release.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(error, match=message):
        _render(path.parent)


def test_a_file_that_is_no_stress_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stress.json"
    write_json(path, {"rows": []})
    with pytest.raises(RunError, match="is missing"):
        _render(write_small_release(tmp_path / "release"), stress=path)


def test_a_bar_in_a_name_does_not_break_a_table(tmp_path: Path) -> None:
    card = gather_card(CardSources(release=write_small_release(tmp_path / "release")))
    odd = replace(card.networks["greens"], weights_licence="a | b")
    page = render_card(replace(card, networks={**card.networks, "greens": odd}))
    assert "| greens | a \\| b |" in page


@pytest.mark.parametrize("name", ["card.md", "card_summary.md", "card_tables.md", "checklists.md"])
def test_no_number_is_typed_into_the_words(name: str) -> None:
    words = (resources.files("dermfuse.publishing") / "templates" / name).read_text(
        encoding="utf-8"
    )
    words = re.sub(r"\{[{%].*?[%}]\}", "", words, flags=re.DOTALL)
    for known in (
        r"\b(19|20)\d\d\b", r"arXiv \d+\.\d+", r"Part \d", r"Apache-2\.0", r"CC0", r"D65",
        r"L\* - 50", r"sha256", r"SHA-256", r"float32", r"int8", r"95 %", r"5th, 50th and 95th",
        r"b\* is not above 0", r"average of 0 is none",
    ):  # fmt: skip
        words = re.sub(known, "", words)
    assert re.findall(r"\S*\d\S*", words) == []


def test_any_json_becomes_names_and_values() -> None:
    record = {"a": [1, 2.5], "b_c": [{"d": True}, {"d": None}], "e": {}, "notice": "x"}
    assert flatten(record) == (("a", "1, 2.5"), ("b c, 1, d", "yes"), ("b c, 2, d", ""))
