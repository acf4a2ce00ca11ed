import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.errors import DataError, RunError
from dermfuse.predictions.folder import read_predictions
from dermfuse.records.folders import NOTICE, RunFolder, write_json
from dermfuse.report.page import Picture
from dermfuse.reproduction.page import JSON_NAME, MARKDOWN_NAME
from dermfuse.reproduction.reproduce import ReproductionReport, plan_request, reproduce
from dermfuse.training import prediction, queue
from dermfuse.training.jobs import Run, Workplace
from dermfuse.training.queue import Pace

from .conftest import plant_here, request_for, train_here

_PNG = b"\x89PNG\r\n\x1a\n"
QUICK = "dc-densenet121:model.backbone=shufflenet_v1"


@pytest.fixture(scope="module")
def folded(
    without_test_truth: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ReproductionReport]:
    """Table VII in two folds, with a quicker backbone for DC-DenseNet121."""
    out = tmp_path_factory.mktemp("folded") / "out"
    request = request_for(without_test_truth, out, ["VII"], QUICK, folds=2)
    train_here(request)

    def draw(runs: Sequence[Path], predictions: Sequence[Path]) -> list[Picture]:
        # of each network one fold, as two folds have validated on no image in common
        assert [run.name for run in runs] == [
            "dc-mobilenetv1-seed0-fold1of2",
            "dc-densenet121-seed0-fold1of2",
        ]
        assert len(predictions) == 3, "both networks and their fusion"
        return [Picture("fig-08", "Training", "Two networks.", _PNG)]

    return out, reproduce(request, report_only=True, draw=draw)


def test_every_row_that_was_run_stands_beside_the_papers_and_is_tested(
    folded: tuple[Path, ReproductionReport],
) -> None:
    out, report = folded
    record = json.loads((out / JSON_NAME).read_text())
    assert (record["notice"], record["failures"], report.failed) == (NOTICE, {}, 0)
    rows = {row["label"]: row for row in record["tables"][0]["rows"]}
    assert rows["BL-CNN"]["provenance"] is None
    for label in ("DC-MobileNetV1", "DC-DenseNet121", "Fusion"):
        provenance = rows[label]["provenance"]
        assert provenance["image_count"] == 30, "every training image, out of fold"
        assert provenance["epochs"] == [1, 1]
        for cell in rows[label]["cells"]:
            ours = cell["ours"]
            assert ours["low"] <= ours["value"] <= ours["high"]
            assert cell["difference"] == pytest.approx(ours["value"] - cell["paper"])
            assert cell["within_noise"] == (abs(cell["difference"]) <= cell["margin"])
    assert rows["Fusion"]["file_mb"] > 12, "measured on the networks that were fused"
    tests = report.outcome.tables[0].tests
    assert [(test.control, test.metric) for test in tests] == [
        (control, metric)
        for control in ("DC-MobileNetV1", "DC-DenseNet121")
        for metric in ("average_precision", "auc")
    ]
    assert all(test.p_value <= test.corrected <= 1 for test in tests)
    assert tests[0].paper_difference == pytest.approx(0.724 - 0.665)


def test_a_fusion_is_weighed_on_the_other_folds_and_test_predictions_are_packed(
    folded: tuple[Path, ReproductionReport],
) -> None:
    out, report = folded
    for fold, other in ((1, 2), (2, 1)):
        fused, fitted_on = (
            read_predictions(out / "predictions" / name / "validation")
            for name in (f"fusion-dc-seed0-fold{fold}", f"dc-mobilenetv1-seed0-fold{other}of2")
        )
        assert fused.manifest.details["fit"]["image_count"] == len(fitted_on.score_by_id())
        assert not fused.score_by_id().keys() & fitted_on.score_by_id().keys()
    networks = ("dc-mobilenetv1-seed0", "dc-densenet121-seed0")
    assert set(report.outcome.blind) == {
        "fusion-dc-seed0",
        *(f"{name}{part}" for name in networks for part in ("", "-fold1of2", "-fold2of2")),
    }
    for name in report.outcome.blind:
        files = {path.name for path in (out / "blind" / name).iterdir()}
        assert files == {"scores.csv", "run.json"}
        assert len((out / "blind" / name / "scores.csv").read_text().splitlines()) == 7


def test_page_csv_and_markdown_say_what_a_number_must_name(
    folded: tuple[Path, ReproductionReport],
) -> None:
    out, report = folded
    page, markdown = report.page.read_text(), (out / MARKDOWN_NAME).read_text()
    assert NOTICE in page
    assert NOTICE in markdown
    for said in (
        "data:image/png;base64,", "1 epoch; the paper trains 50", "n = 30",
        "cross-validated in 2 folds by source image", "random weights to start from",
        "model.backbone = shufflenet_v1", "stratified bootstrap of 50 draws",
    ):  # fmt: skip
        assert said in page, said
    ours = report.outcome.tables[0].rows[-1].cell("auc").ours
    assert ours
    with (out / "tables" / "VII.csv").open(newline="") as file:
        rows = {(row["row"], row["metric"]): row for row in csv.DictReader(file)}
    found = rows["Fusion", "auc"]
    assert (float(found["ours"]), found["paper"], found["epochs"]) == (ours.value, "0.854", "1")
    assert f"{ours.value:.3f}<br>{ours.low:.3f} to {ours.high:.3f}<br>paper 0.854" in markdown


def test_what_is_there_is_not_predicted_again(
    folded: tuple[Path, ReproductionReport], without_test_truth: Path
) -> None:
    out, first = folded
    made = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")}
    request = request_for(without_test_truth, out, ["VII"], QUICK, folds=2)
    again = reproduce(request)  # all runs are reused: nothing is trained either
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predictions.json")} == made
    assert {run.state for run in again.outcome.runs} == {"reused"}
    assert again.outcome.tables == first.outcome.tables


def test_a_hold_out_is_measured_on_the_test_set_where_that_has_truth(
    drawn: Path, without_test_truth: Path, tmp_path: Path
) -> None:
    request = request_for(drawn, tmp_path / "out", ["V", "leakage"])
    assert plan_request(request).folds == 0
    assert plan_request(replace(request, data=without_test_truth)).folds == 5
    others = ("densenet121", "dc-densenet121", "u-mobilenetv1")
    train_here(request, leave_out=others)
    report = reproduce(request, report_only=True)
    table = report.outcome.tables[0]
    assert table.measured_on == "the test set"
    rows = {row.source: row for row in table.rows}
    made = {source: row.provenance.image_count for source, row in rows.items() if row.provenance}
    assert made == {"mobilenetv1": 6, "dc-mobilenetv1": 6}
    assert rows["densenet121"].parameters == 7_039_554, "counted though it was not run"
    assert {test.control for test in table.tests} == {"MobileNetV1"}
    assert report.outcome.blind == ()
    leaks = [
        (x.preset, x.paper_split_images, x.source_split_images) for x in report.outcome.leakage
    ]
    assert leaks == [("dc-mobilenetv1", 6, 6)] * 2
    page = report.page.read_text()
    assert "Without a number of ours: DenseNet-121, DC-DenseNet121." in page
    assert "split after augmenting" in page


def test_a_folder_of_something_else_and_one_without_images_are_refused_and_left_alone(
    drawn: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RunError, match="is no reproduction"):
        reproduce(request_for(drawn, tmp_path, ["V"]))
    with pytest.raises(RunError, match="is missing"):
        reproduce(request_for(drawn, tmp_path / "none", ["V"]), report_only=True)
    with pytest.raises(DataError, match="no train images"):
        reproduce(request_for(tmp_path, tmp_path / "out", ["V"]))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_failed_run_marks_its_rows_and_a_stopped_one_is_told_by_its_epochs(
    drawn: Path, tmp_path: Path
) -> None:
    four = "train.epochs=4"
    request = request_for(drawn, tmp_path / "out", ["V", "VII", "leakage"], four)
    planted = plant_here(request, ("mobilenetv1", "dc-mobilenetv1", "dc-densenet121"))
    for run in planted:  # each has trained one epoch
        record = RunFolder(request.run_folder(run)).read_record()
        changed = {"epochs": 4} if run.preset == "dc-densenet121" else {"status": "interrupted"}
        write_json(RunFolder(request.run_folder(run)).record, record | changed)
    failing = RunFolder(request.run_folder(planted[0]))
    why = {"status": "failed", "error": "the loss is nan in epoch 2."}
    write_json(failing.record, failing.read_record() | why)
    report = reproduce(request, report_only=True)
    assert (report.failed, report.left) == (1, ())
    assert report.outcome.leakage == (), "their runs were stopped"
    page, markdown = report.page.read_text(), (request.out / MARKDOWN_NAME).read_text()
    for said in (
        "mobilenetv1-seed0-holdout failed: the loss is nan in epoch 2.",
        "DC-MobileNetV1<br>1 of 4 epochs; the paper trains 50",
        "DenseNet-121<br>no number of ours",
        "1 to 4 epochs; the paper trains 50<br>dc-mobilenetv1 stopped after 1 of 4 epochs",
    ):
        assert said in markdown, said
    assert ">stopped<" in page


def test_a_run_that_fails_leaves_the_rest_alone_and_the_deadline_leaves_what_it_does_not_end(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_time_steps", lambda *_, **__: Pace(1e-4, 1e-4, 1_000_000))
    request = replace(request_for(drawn, tmp_path / "out", ["V"]), minutes=0.08, jobs=3)
    (done,) = plant_here(request, ("mobilenetv1",))
    for part in ("validation", "test"):
        out = request.predictions_folder(done)
        prediction.predict_part(request.run_folder(done), part, data=drawn, out=out)
    scripts = {
        "densenet121": "import sys; print('dermfuse: error: no weights.'); sys.exit(2)",
        "dc-mobilenetv1": "import time; time.sleep(60)",
        "dc-densenet121": "import time; time.sleep(60)",
    }

    def command(run: Run, _: Workplace) -> list[str]:
        return [sys.executable, "-S", "-c", scripts[run.preset]]

    report = reproduce(request, command=command)
    states = {run.preset: run.state for run in report.outcome.runs}
    assert states == {
        "mobilenetv1": "reused", "densenet121": "failed",
        "dc-mobilenetv1": "waiting", "dc-densenet121": "waiting",
    }  # fmt: skip
    assert report.failed == 1
    assert sorted(run.name.split("-seed")[0] for run in report.left) == sorted(scripts)[:2]
    rows = {row.source: report.outcome.why_empty(row) for row in report.outcome.tables[0].rows}
    assert rows["densenet121"] == "densenet121-seed0-holdout failed: no weights."
    assert rows["dc-mobilenetv1"] == "no number of ours"


@pytest.mark.slow
def test_processes_predict_and_a_loss_that_is_no_number_is_one_line(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measuring reads; the runs have predicted")

    monkeypatch.setattr(prediction, "predict", refuse)
    request = request_for(drawn, tmp_path / "out", ["V"], "densenet121:train.learning_rate=10")
    report = reproduce(replace(request, jobs="auto", only=["densenet121", "mobilenetv1"]))
    states = {run.preset: (run.state, run.error) for run in report.outcome.runs if run.state}
    assert states["mobilenetv1"] == ("trained", "")
    state, why = states["densenet121"]
    assert state == "failed"
    assert re.search(r"(is|is not) (nan|finite) in epoch 1.*Lower train.learning_rate", why)
    assert report.outcome.failures == {}
    folder = tmp_path / "out" / "predictions" / "mobilenetv1-seed0-holdout"
    assert {path.name for path in folder.iterdir()} == {"validation", "test"}
    assert report.outcome.tables[0].rows[0].provenance
