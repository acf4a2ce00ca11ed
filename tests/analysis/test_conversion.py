import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths
from dermfuse.analysis.conversion import convert_results, pack_results
from dermfuse.errors import PredictionsError, RunError
from dermfuse.imaging.masks import read_mask
from dermfuse.predictions.folder import read_predictions

from ..small_release import skin
from .conftest import PAGE, lines_of, save_png

PICTURES = BulkOptions(masks=True, overlays=True)


@pytest.fixture(scope="module")
def gate(gated: Path) -> Analyzer:
    return Analyzer(gated, isolate=True)


@pytest.fixture(scope="module")
def analysed(gate: Analyzer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the images a, b and what is withheld."""
    folder = tmp_path_factory.mktemp("analysed")
    for name, pixels in (("a", skin(30)), ("b", skin(10)), ("page", PAGE)):
        save_png(folder / "images" / f"{name}.png", pixels)
    analyze_paths(gate, [folder / "images"], folder / "results", options=PICTURES)
    return folder / "results"


@pytest.fixture
def results(analysed: Path, tmp_path: Path) -> Path:
    """Results of a and b, which may be changed."""
    copy = shutil.copytree(analysed, tmp_path / "results")
    _rewrite(copy, lines_of(copy)[:2])
    return copy


def _rewrite(results: Path, records: list[Any]) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (results / "results.jsonl").write_text(lines)


def test_results_become_predictions_with_the_same_numbers_and_masks(
    gate: Analyzer, results: Path, tmp_path: Path, out: Path
) -> None:
    manifest = convert_results(results, out)
    assert (manifest.task, manifest.calibrated, manifest.source) == ("joint", True, "release small")
    assert manifest.details["operating_point"] == gate.operating_point.name
    predicted = read_predictions(out)
    assert predicted.manifest.details["analysis"]["networks"] == gate.digests
    alone = gate.analyze(skin(30))
    assert list(predicted.score_by_id()) == ["a", "b"]
    assert predicted.score_by_id()["a"] == pytest.approx(alone.malignant_probability, abs=1e-6)
    assert np.array_equal(read_mask(predicted.masks["a"]), alone.mask)
    (results / "masks" / "b.png.png").unlink()
    with pytest.raises(PredictionsError, match=r"1 of 2 images .* have no mask \(b\)"):
        convert_results(results, tmp_path / "again")
    (results / "masks" / "a.png.png").unlink()
    assert convert_results(results, tmp_path / "again").task == "classification"


@pytest.mark.parametrize(
    ("threshold", "shown", "called"),
    [
        (0.25, 0.25, "malignant"),  # at the threshold
        (0.2499996, 0.249999, "malignant"),  # rounded to below it
        (0.2499996, 0.25, "benign"),  # rounded to above it
        (1.0, 1.0, "malignant"),
    ],
)
def test_rounding_moves_no_image_over_the_threshold(
    results: Path, out: Path, threshold: float, shown: float, called: str
) -> None:
    changed = {"threshold": threshold, "malignant_probability": shown, "predicted": called}
    _rewrite(results, [record | changed for record in lines_of(results)])
    manifest = convert_results(results, out)
    scores = read_predictions(out).score_by_id()
    assert {score > manifest.threshold for score in scores.values()} == {called == "malignant"}
    assert scores["a"] == pytest.approx(shown, abs=1e-6)


def test_names_of_every_kind_have_pictures_and_become_ids(
    gate: Analyzer, tmp_path: Path, out: Path
) -> None:
    names = ["line\nbreak", "return\rhere", " space ", 'comma,quote"', "x" * 251, "\x1b[31m"]
    odd = [os.fsdecode(b"\xff"), rb"\xff".decode(), "line\nbreak.png.png/below"]
    for name in names + odd:
        save_png(tmp_path / "images" / f"{name}.png", skin(10))
    results = tmp_path / "results"
    done = analyze_paths(gate, [tmp_path / "images"], results, options=PICTURES)
    assert (done.analysed, done.failed) == (9, 0)
    assert len(list(results.rglob("*.png"))) == 3 * 9
    convert_results(results, out)
    predicted = read_predictions(out)
    assert set(predicted.masks) == set(predicted.score_by_id()) > {name.strip() for name in names}
    assert pack_results(results, tmp_path / "packed").images == 9


def test_what_is_withheld_is_listed_and_not_packed(
    analysed: Path, tmp_path: Path, out: Path
) -> None:
    assert convert_results(analysed, out).withheld == ("page",)
    predicted = read_predictions(out, allow_withheld=True)
    assert predicted.manifest.withheld == ("page",)
    assert list(predicted.masks) == list(predicted.score_by_id()) == ["a", "b"]
    with pytest.raises(PredictionsError, match=r"page of .*results was withheld.*--score-all"):
        pack_results(analysed, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_what_has_no_score_for_each_image_is_refused(results: Path, out: Path) -> None:
    a, b = lines_of(results)
    for records, said in (
        ([a, b | {"name": "more/a.png"}], "two images called a"),
        ([a, {"name": "c.jpg", "error": "cut off"}], r"c\.jpg of .* could not be analysed"),
        ([a | {"malignant_probability": None}], "a of .* was withheld"),
        ([a, b | {"operating_point": "another"}], "holds 2 operating points"),
        ([{"name": "a.png"}], r"the line of a\.png lacks what"),
        ([a, []], r"results\.jsonl, line 2 is damaged or cut off"),
    ):
        _rewrite(results, records)
        with pytest.raises((PredictionsError, RunError), match=said):
            convert_results(results, out)
    with pytest.raises(RunError, match="holds no results"):
        convert_results(results / "masks", out)
    assert not out.exists()
