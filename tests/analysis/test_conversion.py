import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths, read_results
from dermfuse.analysis.conversion import convert_results, pack_results
from dermfuse.errors import PredictionsError, RunError
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.imaging.masks import read_mask
from dermfuse.predictions.folder import read_predictions

from ..small_release import skin, write_small_release

PAGE = np.full((48, 64, 3), 255, np.uint8)
"""What is withheld."""


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    release = write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)
    return Analyzer(release, isolate=True)


def _images(folder: Path, **images: np.ndarray) -> Path:
    for name, pixels in images.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return _images(tmp_path / "images", b=skin(10), a=skin(30))


@pytest.fixture(scope="module")
def analysed(analyzer: Analyzer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a and b without masks."""
    folder = tmp_path_factory.mktemp("analysed")
    analyze_paths(analyzer, [_images(folder / "images", b=skin(10), a=skin(30))], folder / "out")
    return folder / "out"


@pytest.fixture
def results(analysed: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return shutil.copytree(analysed, tmp_path / "results")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _truth(folder: Path, **labels: int) -> Path:
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{image_id},{label}\n" for image_id, label in labels.items())
    (folder / "labels.csv").write_text(rows)
    return folder


def test_results_become_predictions_with_the_same_numbers_and_masks(
    analyzer: Analyzer, images: Path, tmp_path: Path, out: Path
) -> None:
    analyze_paths(analyzer, [images], tmp_path / "masked", options=BulkOptions(masks=True))
    manifest = convert_results(tmp_path / "masked", out)
    assert (manifest.task, manifest.calibrated, manifest.source) == ("joint", True, "release small")
    predicted = read_predictions(out)
    assert predicted.manifest.details["analysis"]["networks"] == analyzer.digests
    alone = analyzer.analyze(images / "a.png")
    assert list(predicted.score_by_id()) == ["a", "b"]
    assert predicted.score_by_id()["a"] == pytest.approx(alone.malignant_probability, abs=1e-6)
    assert np.array_equal(read_mask(predicted.masks["a"]), alone.mask)
    (tmp_path / "masked" / "masks" / "b.png.png").unlink()
    with pytest.raises(PredictionsError, match=r"1 of 2 images .* have no mask \(b\)"):
        convert_results(tmp_path / "masked", tmp_path / "again")


@pytest.mark.parametrize("malignant", ["a", "b"])
def test_an_evaluation_calls_malignant_what_the_analysis_called_so(
    analyzer: Analyzer, results: Path, tmp_path: Path, out: Path, malignant: str
) -> None:
    manifest = convert_results(results, out)
    point = analyzer.operating_point
    assert (manifest.task, read_predictions(out).masks) == ("classification", {})
    assert manifest.threshold == pytest.approx(point.threshold)
    assert manifest.details["operating_point"] == point.name
    labels = {image_id: int(image_id == malignant) for image_id in "ab"}
    found = evaluate(out, _truth(tmp_path / "truth", **labels), draws=2).classification
    assert found is not None
    called = [int(record["predicted"] == "malignant") for record in read_results(results)]
    assert found.accuracy.value == np.mean(np.equal(called, [*labels.values()]))


@pytest.mark.parametrize(
    ("threshold", "shown", "called"),
    [
        (0.25, 0.25, "malignant"),  # at the threshold
        (0.2499996, 0.249999, "malignant"),  # rounded to below it
        (0.2499996, 0.25, "benign"),  # rounded to above it
        (1.0, 1.0, "malignant"),
        (0.7, 0.1, "benign"),
        (0.04, 0.3, "malignant"),
    ],
)
def test_rounding_moves_no_image_over_the_threshold(
    results: Path, out: Path, threshold: float, shown: float, called: str
) -> None:
    changed = {"threshold": threshold, "malignant_probability": shown, "predicted": called}
    lines = [json.dumps(record | changed) + "\n" for record in read_results(results)]
    (results / "results.jsonl").write_text("".join(lines))
    manifest = convert_results(results, out)
    scores = read_predictions(out).score_by_id()
    assert {score > manifest.threshold for score in scores.values()} == {called == "malignant"}
    assert scores["a"] == pytest.approx(shown, abs=1e-6)


def test_a_damaged_line_is_named_and_an_analysis_repairs_it(
    analyzer: Analyzer, images: Path, results: Path, out: Path
) -> None:
    analyze_paths(analyzer, [images], results)
    first, second, _ = (results / "results.jsonl").read_bytes().split(b"\n")
    for damaged, number in ((first[:50] + b"\n" + second + b"\n", 1), (first + b"\n" + second, 2)):
        (results / "results.jsonl").write_bytes(damaged)
        with pytest.raises(RunError, match=rf"results\.jsonl, line {number} is damaged or cut off"):
            convert_results(results, out)
        assert analyze_paths(analyzer, [images], results).analysed == 1
        assert len(list(read_results(results))) == 2


def test_names_of_every_kind_become_ids(analyzer: Analyzer, tmp_path: Path, out: Path) -> None:
    names = ["line\nbreak", "return\rhere", " space ", 'comma,quote"', "x" * 251, "\x1b[31m"]
    images = _images(tmp_path / "images", **dict.fromkeys(names, skin(10)))
    results, options = tmp_path / "results", BulkOptions(masks=True, overlays=True)
    done = analyze_paths(analyzer, [images], results, options=options)
    assert (done.analysed, done.failed) == (len(names), 0)
    convert_results(results, out)
    predicted = read_predictions(out)
    assert set(predicted.masks) == set(predicted.score_by_id()) == {name.strip() for name in names}
    assert pack_results(results, tmp_path / "packed").images == len(names)


def test_what_is_withheld_is_listed_counted_by_evaluate_alone_and_not_packed(
    analyzer: Analyzer, images: Path, tmp_path: Path, out: Path
) -> None:
    results, options = tmp_path / "results", BulkOptions(masks=True)
    analyze_paths(analyzer, [_images(images, page=PAGE)], results, options=options)
    manifest = convert_results(results, out)
    assert (manifest.task, manifest.withheld) == ("joint", ("page",))
    predicted = read_predictions(out, allow_withheld=True)
    assert predicted.manifest.withheld == ("page",)
    assert list(predicted.masks) == list(predicted.score_by_id()) == ["a", "b"]
    with pytest.raises(PredictionsError, match=r"page of .*out was withheld.*--score-all"):
        read_predictions(out)
    found = evaluate(out, _truth(tmp_path / "truth", a=0, b=1, page=1), draws=50).classification
    assert found is not None
    assert found.withheld is not None
    assert (found.withheld.malignant, found.withheld.benign) == (1, 0)

    packed = tmp_path / "packed"
    with pytest.raises(PredictionsError, match=r"page of .*results was withheld.*--score-all"):
        pack_results(results, packed)
    assert not packed.exists()
    everything = Analyzer(analyzer.folder, score_all=True)
    analyze_paths(everything, [images], tmp_path / "all", options=options)
    assert pack_results(tmp_path / "all", packed).images == 3
    assert (packed / "masks.zip").is_file()


@pytest.mark.parametrize("kind", ["twice", "failed", "withheld"])
def test_what_has_no_score_for_each_image_is_refused(
    analyzer: Analyzer, images: Path, tmp_path: Path, out: Path, kind: str
) -> None:
    said = {"twice": "two images called a", "failed": "could not be", "withheld": "was withheld"}
    if kind == "twice":
        _images(images / "more", a=skin(1))
    elif kind == "failed":
        (images / "c.jpg").write_bytes(b"\xff\xd8 cut off")
    else:
        images = _images(tmp_path / "pages", page=PAGE)
    analyze_paths(analyzer, [images], tmp_path / "results")
    with pytest.raises(PredictionsError, match=said[kind]):
        convert_results(tmp_path / "results", out)


def test_what_is_no_result_of_one_analysis_is_refused(
    analyzer: Analyzer, results: Path, tmp_path: Path, out: Path
) -> None:
    with pytest.raises(RunError, match="holds no results"):
        convert_results(tmp_path, out)
    text = (results / "results.jsonl").read_text()
    name = analyzer.operating_point.name
    (results / "results.jsonl").write_text(text.replace(name, "another", 1))
    with pytest.raises(PredictionsError, match="holds 2 operating points"):
        convert_results(results, out)
    (results / "results.jsonl").write_bytes(b'{"name": "a.png"}\n')
    with pytest.raises(PredictionsError, match=r"the line of a\.png lacks what"):
        convert_results(results, out)
