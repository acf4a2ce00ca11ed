"""A folder may be named by a string wherever a path is taken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse import Analyzer
from dermfuse.analysis.batch import analyze_paths, read_results
from dermfuse.analysis.conversion import convert_results, pack_results
from dermfuse.config import load_config, load_preset
from dermfuse.data.audit import audit, verify_isic2016
from dermfuse.data.folders import list_folders, load_dataset
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.evaluation.evaluate import compare, evaluate
from dermfuse.evaluation.tables import measure, measure_steps
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image
from dermfuse.predictions.folder import read_predictions
from dermfuse.predictions.fusion import FitOn, average, fuse, join
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores
from dermfuse.publishing.card import CardSources
from dermfuse.publishing.release import MakeRequest, ReleaseRequest
from dermfuse.release.folder import read_release
from dermfuse.reproduction.reproduce import Request
from dermfuse.training import predict, train
from dermfuse.training.prediction import submit

from .small_release import skin, write_small_release


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_library_of_analyses(at: Path) -> None:
    write_small_release(at / "release")
    (at / "images").mkdir()
    Image.fromarray(skin(10)).save(at / "images" / "a.png")
    analyzer = Analyzer("release")
    assert analyzer.folder == Path("release")
    assert analyzer.analyze("images/a.png").name
    assert read_release("release").name == analyzer.release.name
    assert analyze_paths(analyzer, ["images"], "results").folder == Path("results")
    assert len(list(read_results("results"))) == 1
    convert_results("results", "converted")
    pack_results("results", "packed")
    assert read_image("images/a.png").ndim == 3


def test_evaluation_fusion_and_ensembles(at: Path) -> None:
    for name, scores in (("a", [0.2, 0.9]), ("b", [0.4, 0.8])):
        (at / name).mkdir()
        write_scores(f"{name}/scores.csv", ScoreTable(("x", "y"), np.array(scores)))
    (at / "truth").mkdir()
    (at / "truth" / "labels.csv").write_text("x,0\ny,1\n")
    assert read_scores("a/scores.csv").image_ids == ("x", "y")
    assert read_predictions("a").folder == Path("a")
    for truth in ("truth", ["truth"]):
        assert evaluate("a", truth, draws=2).classification
    assert compare("a", "b", "truth", draws=2).classification
    assert measure(["a"], truth="truth", draws=2)
    assert measure_steps([("a", "a"), ("b", "b")], "truth", within="truth", draws=2).steps
    fuse("a", "b", "fused")
    average(["a", "b"], "mean")
    (at / "c").mkdir()
    write_scores("c/scores.csv", ScoreTable(("z",), np.array([0.5])))
    join(["a", "c"], "joined")
    assert set(read_predictions("joined").score_by_id()) == {"x", "y", "z"}


def test_datasets_trainings_and_predictions(
    drawn: Path, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (at / "data").symlink_to(drawn)
    assert list_folders("data") == (Path("data"),)
    lesions = load_dataset("data", "train").lesions
    assert len(load_isic2016("data", "train").lesions) == len(lesions) == 30
    assert read_mask(str(lesions[0].mask_path)).any()
    assert verify_isic2016("data").folder == Path("data")
    assert audit("data").image_count == 36
    (at / "config.toml").write_text(load_preset("mobilenetv1").to_toml())
    tiny = ["model.init=random", "data.input_size=32", "train.epochs=1", "augment.enabled=false"]
    config = load_config("config.toml").override([*tiny, "train.threads=1"])
    assert train(config, data="data", run="run").run == Path("run")
    predict("run", data="data", split="validation", out="validation")
    submit("run", data="data", out="test")
    assert (at / "test" / "scores.csv").is_file()


def test_what_is_asked_for_in_a_record() -> None:
    name: Any = "a"
    assert Request(data="d", out=name, imagenet=name).out == Path("a")
    made = MakeRequest(plan="p", data="d", out=name, leave_out=name, report_on=[name])
    assert (made.out, made.leave_out, made.report_on) == (Path("a"), Path("a"), [Path("a")])
    asked = ReleaseRequest(runs=[name], folds=[name], data="d", out=name, name="n")
    assert (asked.runs, asked.folds, asked.out) == ([Path("a")], [Path("a")], Path("a"))
    fit = FitOn(validation_a=name, validation_b=name, truth="d")
    assert (fit.validation_a, fit.validation_b) == (Path("a"), Path("a"))
    assert CardSources(release=name, stress=name).release == Path("a")
