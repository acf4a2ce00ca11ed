import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import DermfuseError
from dermfuse.publishing import card as module
from dermfuse.publishing.card import CardSources, gather_card, render_card
from dermfuse.publishing.stress import StressReport, StressRow
from dermfuse.records.folders import NOTICE, write_json

from ..measured_release import write_measured_release
from ..small_release import write_small_release

HAIR = StressRow("hair", "hair", 10, 0.1, 0.021, 0.113, 0.01, 0.2, 0.914, 1.1)
STRESS = StressReport("small", 12, 2, 0.102, 0, 8, (HAIR,))


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    return write_measured_release(tmp_path / "release")


def _change(release: Path, change: Callable[[Any], object]) -> None:
    record = json.loads((release / "release.json").read_text())
    change(record)
    write_json(release / "release.json", record)


def _section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_a_card_holds_the_numbers_of_the_release(measured: Path) -> None:
    card = gather_card(CardSources(release=measured))
    odd = replace(card.networks["greens"], weights_licence="a | b")
    page = render_card(replace(card, networks={**card.networks, "greens": odd}))
    assert page.startswith("# Model card: small\n")
    for row in (
        "| all together | 0.812 (0.772 to 0.842) | 0.562 (0.522 to 0.592) |",
        "| reds-b | classification | none | 32 x 32 | float32 | 1 | 0.00 MB | 0.750 |",
        "| calibrated | 0.029 | 0.192 | 0.192 |",
        "| balanced (default) | 0.500 | 0.900 (0.800 to 0.950) | 0.600 (0.500 to 0.700) |",
        "| greens | 0.843 (0.803 to 0.873) |",
        "| greens | a \\| b |",
        "| photographs | 105 | 95.2 % | 4.8 % |",
        "| energy kwh | 0.25 |",
        "reds-fold1of3, reds-fold2of3",
        *(f"| {one.file} | `{one.sha256}` |" for one in card.networks.values()),
    ):
        assert row in page
    assert page.count(NOTICE) == 2
    summary = module.render_summary(card)
    assert "| Jaccard of outlines | 0.843 (0.803 to 0.873) |" in summary
    assert "Scores: 895 images (172 malignant)" in summary


def test_what_is_withheld_comes_first_and_precision_and_looks_have_their_cost(
    measured: Path,
) -> None:
    def change(record: Any) -> None:
        scoring, missed = record["classes"]["measured"], {"value": 0.85, "low": 0.8, "high": 0.9}
        counts, rates = {"images": 9, "withheld": 1}, {"sensitivity": missed, "specificity": missed}
        scoring["withheld"] = {"malignant": counts, "benign": counts, "p_value": 0.5}
        scoring["withheld"]["operating_points"] = {"balanced": rates}
        scoring["calibration_error_if_perfect"] = {"value": 0.032, "low": 0.02, "high": 0.046}
        scoring["fusion_in_float32"] = json.loads(json.dumps(scoring["fusion"]))
        scoring["fusion_in_float32"]["auc"]["value"] = 0.8141
        record["looks"] = 8

    _change(measured, change)
    page = render_card(gather_card(CardSources(release=measured)))
    row = "| the same, withheld malignant images counted as missed | 0.850 (0.800 to 0.900) |"
    assert row in page.split("\n## ")[0]
    assert "| malignant | 9 | 1 (11.1 %) |" in _section(page, "Images unlike those learnt from")
    cost = "| AUC | 0.814 (0.772 to 0.842) | 0.812 (0.772 to 0.842) | -0.0018 |"
    assert cost in _section(page, "How it was measured")
    assert "looks at 8 orientations of it" in page
    shown = "| calibration error | 0.029; perfect calibration would show 0.032 (0.020 to 0.046) |"
    assert shown in page
    said = "perfectly\ncalibrated probabilities would show 0.032 (0.020 to 0.046) on so many images"
    assert said in _section(page, "How it was measured")


def test_the_card_of_the_packages_release_has_every_table_of_what_was_measured() -> None:
    page = render_card(gather_card(CardSources()))
    for head in (
        "| together | one look | as shipped | gain |",
        "| together | float32 | as shipped | change |",
        "| withheld as not called | sensitivity | specificity |",
        "| images with a true mask | n | in the lesion | out of it | nothing speaks for it |",
    ):
        assert f"\n\n{head}\n| --- |" in page
    assert not re.search(r"\| (None|\{)", page)


def test_what_a_release_does_not_say_is_said_to_be_not_measured(tmp_path: Path) -> None:
    page = render_card(gather_card(CardSources(release=write_small_release(tmp_path))))
    for title, how in {
        "Training data": "dermfuse card --data DIR",
        "How it was measured": "dermfuse release PLAN --data DIR --out DIR",
        "Robustness": "dermfuse stress DIR --out DIR, then dermfuse card --stress FILE",
    }.items():
        assert f"To measure: `{how}`." in _section(page, title)
    assert "| AUC | not measured |" in page
    assert "has no gate for such images" in page


def test_reports_and_images_fill_what_is_missing_and_the_page_can_be_made_again(
    measured: Path, tmp_path: Path, drawn: Path
) -> None:
    stress, bench = tmp_path / "stress.json", tmp_path / "bench.json"
    write_json(stress, STRESS.to_dict())
    write_json(bench, {"image_ms": {"median": 41.2}, "ratio": 2.27, "notice": NOTICE})
    sources = CardSources(release=measured, data=drawn, stress=stress, bench=bench)
    card, out = gather_card(sources), tmp_path / "docs" / "model-card.md"
    beside = module.write_card_page(card, out)
    page = out.read_text()
    assert page == render_card(card)
    assert "| hair | 0.021 | 0.113 | +0.010 | 20.0 % | 0.914 | 10.0 % |" in page
    assert "Each network looked at 8 orientations of an image." in _section(page, "Robustness")
    assert "| ratio | 2.27 |" in _section(page, "Speed")
    assert "41.2" not in page, "a time of one machine"
    assert "| images | 30 |" in _section(page, "Training data")
    assert "| very light | above 55 |" in _section(page, "Skin tone")
    assert "dermfuse card --release DIR --data DIR --stress FILE --bench FILE --out FILE" in page
    assert str(tmp_path) not in page
    assert json.loads(beside.read_text())["release"]["classes"]["measured"]["images"] == 895
    assert gather_card(replace(sources, data=beside)) == card
    write_json(stress, {"rows": []})
    with pytest.raises(DermfuseError, match="is missing"):
        gather_card(sources)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["classes"]["measured"]["fusion"].pop("auc"), "lacks a number"),
        (lambda r: r["gate"]["measured"].update(noise=1), "gate.measured.noise is 1"),
        (lambda r: r["facts"]["recipes"]["reds"].update(x={}), 'no key "x"'),
    ],
)
def test_a_release_that_says_something_else_is_refused(
    change: Callable[[Any], object], message: str, measured: Path
) -> None:
    _change(measured, change)
    with pytest.raises(DermfuseError, match=message):
        render_card(gather_card(CardSources(release=measured)))
