import json
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


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, red in (("b.png", 10), ("a.png", 30)):
        Image.fromarray(skin(red)).save(folder / name)
    return folder


def _grey(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((48, 64, 3), 255, np.uint8)).save(path)


def test_results_become_predictions_with_the_same_numbers_and_masks(
    release: Path, images: Path, tmp_path: Path
) -> None:
    analyzer = Analyzer(release)
    results = tmp_path / "results"
    analyze_paths(analyzer, [images], results, options=BulkOptions(masks=True))
    manifest = convert_results(results, tmp_path / "out")
    assert (manifest.task, manifest.calibrated, manifest.source) == ("joint", True, "release small")
    predicted = read_predictions(tmp_path / "out")
    assert predicted.manifest.details["analysis"]["networks"] == analyzer.digests
    alone = analyzer.analyze(images / "a.png")
    assert list(predicted.score_by_id()) == ["a", "b"]
    assert predicted.score_by_id()["a"] == pytest.approx(alone.malignant_probability, abs=1e-6)
    assert np.array_equal(read_mask(predicted.masks["a"]), alone.mask)


@pytest.mark.parametrize("malignant", ["a", "b"])
def test_an_evaluation_calls_malignant_what_the_analysis_called_so(
    release: Path, images: Path, tmp_path: Path, malignant: str
) -> None:
    results = tmp_path / "results"
    analyze_paths(Analyzer(release), [images], results)
    called = [record["predicted"] for record in read_results(results)]
    (tmp_path / "labels.csv").write_text(
        "".join(f"{i},{int(i == malignant)}\n" for i in ("a", "b"))
    )
    manifest = convert_results(results, tmp_path / "out")
    point = Analyzer(release).operating_point
    assert manifest.threshold == pytest.approx(point.threshold)
    assert manifest.details["operating_point"] == point.name
    found = evaluate(tmp_path / "out", tmp_path, draws=2).classification
    assert found is not None
    right = [
        (word == "malignant") == (i == malignant) for i, word in zip("ab", called, strict=True)
    ]
    assert found.accuracy.value == sum(right) / 2


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
    release: Path, images: Path, tmp_path: Path, threshold: float, shown: float, called: str
) -> None:
    results = tmp_path / "results"
    analyze_paths(Analyzer(release), [images], results)
    lines = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"threshold": threshold, "malignant_probability": shown, "predicted": called}
    (results / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = convert_results(results, tmp_path / "out")
    scores = read_predictions(tmp_path / "out").score_by_id()
    assert {score > manifest.threshold for score in scores.values()} == {called == "malignant"}
    assert scores["a"] == pytest.approx(shown, abs=1e-6)


def test_results_of_two_operating_points_are_refused(
    release: Path, images: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    analyze_paths(Analyzer(release), [images], results)
    text = (results / "results.jsonl").read_text()
    name = Analyzer(release).operating_point.name
    (results / "results.jsonl").write_text(text.replace(name, "another", 1))
    with pytest.raises(PredictionsError, match="holds 2 operating points"):
        convert_results(results, tmp_path / "out")


def test_a_damaged_line_is_named_and_an_analysis_mends_it(
    release: Path, images: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    analyze_paths(Analyzer(release), [images], results)
    whole = (results / "results.jsonl").read_bytes()
    first, second, _ = whole.split(b"\n")
    for damaged, number in ((first[:50] + b"\n" + second + b"\n", 1), (whole[:-9], 2)):
        (results / "results.jsonl").write_bytes(damaged)
        with pytest.raises(RunError, match=rf"results\.jsonl, line {number} is damaged or cut off"):
            convert_results(results, tmp_path / "out")
        assert analyze_paths(Analyzer(release), [images], results).analysed == 1
        assert len(list(read_results(results))) == 2
    (results / "results.jsonl").write_bytes(b'{"name": "a.png"}\n')
    with pytest.raises(PredictionsError, match=r"the line of a\.png lacks what"):
        convert_results(results, tmp_path / "out")


def test_names_of_every_kind_become_ids(release: Path, tmp_path: Path) -> None:
    names = ["line\nbreak", "return\rhere", " space ", 'comma,quote"', "x" * 251, "\x1b[31m"]
    (tmp_path / "images").mkdir()
    for name in names:
        Image.fromarray(skin(10)).save(tmp_path / "images" / f"{name}.png")
    results = tmp_path / "results"
    options = BulkOptions(masks=True, overlays=True)
    done = analyze_paths(Analyzer(release), [tmp_path / "images"], results, options=options)
    assert (done.analysed, done.failed) == (len(names), 0)
    convert_results(results, tmp_path / "out")
    predicted = read_predictions(tmp_path / "out")
    assert set(predicted.masks) == set(predicted.score_by_id()) == {name.strip() for name in names}
    assert pack_results(results, tmp_path / "packed").images == len(names)


def test_without_masks_they_are_scores_alone(release: Path, images: Path, tmp_path: Path) -> None:
    analyze_paths(Analyzer(release), [images], tmp_path / "results")
    assert convert_results(tmp_path / "results", tmp_path / "out").task == "classification"
    assert read_predictions(tmp_path / "out").masks == {}


def test_what_is_withheld_is_listed_and_counted_by_evaluate_alone(
    release: Path, images: Path, tmp_path: Path
) -> None:
    _grey(images / "page.png")
    options = BulkOptions(masks=True)
    analyze_paths(Analyzer(release), [images], tmp_path / "results", options=options)
    manifest = convert_results(tmp_path / "results", tmp_path / "out")
    assert (manifest.task, manifest.withheld) == ("joint", ("page",))
    predicted = read_predictions(tmp_path / "out", allow_withheld=True)
    assert predicted.manifest.withheld == ("page",)
    assert list(predicted.masks) == list(predicted.score_by_id()) == ["a", "b"]
    with pytest.raises(PredictionsError, match=r"page of .*out was withheld.*--score-all"):
        read_predictions(tmp_path / "out")
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "labels.csv").write_text("image_id,label\na,benign\nb,malignant\npage,malignant\n")
    found = evaluate(tmp_path / "out", truth, draws=50).classification
    assert found is not None
    assert found.withheld is not None
    assert (found.withheld.malignant, found.withheld.benign) == (1, 0)


def test_what_is_packed_for_scoring_elsewhere_needs_every_image(
    release: Path, images: Path, tmp_path: Path
) -> None:
    _grey(images / "page.png")
    analyze_paths(Analyzer(release), [images], tmp_path / "results")
    with pytest.raises(PredictionsError, match=r"page of .*results was withheld.*--score-all"):
        pack_results(tmp_path / "results", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    everything = Analyzer(release, score_all=True)
    options = BulkOptions(masks=True)
    analyze_paths(everything, [images], tmp_path / "all", options=options)
    assert pack_results(tmp_path / "all", tmp_path / "out").images == 3
    assert (tmp_path / "out" / "masks.zip").is_file()


def test_results_of_which_all_are_withheld_are_no_predictions(
    release: Path, tmp_path: Path
) -> None:
    _grey(tmp_path / "images" / "page.png")
    analyze_paths(Analyzer(release), [tmp_path / "images"], tmp_path / "results")
    with pytest.raises(PredictionsError, match="was withheld"):
        convert_results(tmp_path / "results", tmp_path / "out")


def test_failures_doubles_and_missing_masks_are_refused(
    release: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="holds no results"):
        convert_results(images, tmp_path / "out")
    masked = tmp_path / "masked"
    analyze_paths(Analyzer(release), [images], masked, options=BulkOptions(masks=True))
    (masked / "masks" / "b.png.png").unlink()
    with pytest.raises(PredictionsError, match=r"1 of 2 images .* have no mask \(b\)"):
        convert_results(masked, tmp_path / "out")
    (images / "b.jpg").write_bytes(b"\xff\xd8 cut off")
    analyze_paths(Analyzer(release), [images], tmp_path / "failed")
    with pytest.raises(PredictionsError, match="could not be analysed"):
        convert_results(tmp_path / "failed", tmp_path / "out")
    (images / "b.jpg").unlink()
    (images / "more").mkdir()
    (images / "b.png").rename(images / "more" / "a.png")
    analyze_paths(Analyzer(release), [images], tmp_path / "twice")
    with pytest.raises(PredictionsError, match="two images called a"):
        convert_results(tmp_path / "twice", tmp_path / "out")
