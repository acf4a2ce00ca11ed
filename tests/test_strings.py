"""A folder may be named by a string wherever a path is taken; mypy holds what is annotated."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dermfuse import Analyzer
from dermfuse.analysis import batch, conversion
from dermfuse.data import audit, folders, isic2016
from dermfuse.evaluation import evaluate, tables
from dermfuse.imaging import masks, preprocess
from dermfuse.predictions import folder, fusion, scores
from dermfuse.publishing.card import CardSources
from dermfuse.publishing.release import MakeRequest, ReleaseRequest
from dermfuse.reproduction.reproduce import Request
from dermfuse.training import prediction
from dermfuse.training.prediction import predict
from dermfuse.training.train import train

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(Analyzer, batch.analyze_paths, batch.read_results, masks.read_mask, preprocess.read_image),
    *(conversion.convert_results, conversion.pack_results, audit.audit, audit.verify_isic2016),
    *(folders.load_dataset, isic2016.load_isic2016, evaluate.evaluate, evaluate.compare),
    *(tables.measure, tables.measure_steps, folder.read_predictions, scores.read_scores),
    *(fusion.average, fusion.fuse, fusion.join, train, predict, prediction.submit),
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_that_takes_a_path_takes_a_string(function: Callable[..., Any]) -> None:
    hints = [str(each.annotation) for each in inspect.signature(function).parameters.values()]
    paths = [hint for hint in hints if "Path" in hint]
    assert paths
    assert all("str" in hint for hint in paths), paths


def test_what_is_asked_for_in_a_record() -> None:
    name: Any = "a"
    assert Request(data="d", out=name, imagenet=name).out == Path("a")
    made = MakeRequest(plan="p", data="d", out=name, leave_out=name, report_on=[name])
    assert (made.out, made.leave_out, made.report_on) == (Path("a"), Path("a"), [Path("a")])
    asked = ReleaseRequest(runs=[name], folds=[name], data="d", out=name, name="n")
    assert (asked.runs, asked.folds, asked.out) == ([Path("a")], [Path("a")], Path("a"))
    fit = fusion.FitOn(validation_a=name, validation_b=name, truth="d")
    assert (fit.validation_a, fit.validation_b) == (Path("a"), Path("a"))
    assert CardSources(release=name, stress=name).release == Path("a")
