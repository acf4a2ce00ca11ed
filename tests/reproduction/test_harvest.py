import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.folders import load_truth
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability
from dermfuse.predictions.folder import MANIFEST_NAME, Predictions, read_predictions
from dermfuse.reproduction.harvest import (
    TEST,
    VALIDATION,
    Harvest,
    parts_to_predict,
    tasks_with_test_truth,
)
from dermfuse.reproduction.plan import make_plan
from dermfuse.reproduction.reproduce import Request, plan_request, reproduce
from dermfuse.training.jobs import Run

from .conftest import plant_here, request_for

CLASSES, MASKS, OTHER = "dc-mobilenetv1", "u-mobilenetv1", "u-densenet121"
QUICK = (
    "dc-densenet121:model.backbone=shufflenet_v1",
    "dc-mobilenetv1:model.backbone=squeezenet1_1",
    "u-densenet121:model.backbone=mobilenet_v2",
)


def _harvest(request: Request, runs: list[Run]) -> Harvest:
    return Harvest(plan_request(request), request, frozenset(run.name for run in runs))


def _scores(folder: Path) -> dict[str, float]:
    return dict(read_predictions(folder).score_by_id())


def _levels(predicted: Predictions, image_id: str) -> np.ndarray:
    return np.rint(read_probability(predicted.probabilities[image_id]) * 255).astype(int)


def test_two_seeds_are_reported_with_more_looks_and_their_mean(
    without_test_truth: Path, tmp_path: Path
) -> None:
    options = {"seeds": 2, "folds": 2, "mask_folds": 0}
    out = tmp_path / "out"
    request = request_for(without_test_truth, out, ["beyond"], *QUICK, **options)
    request = replace(request, blind=False)
    assert len(plant_here(request, (CLASSES, MASKS))) == 2 * (2 + 1)
    report = reproduce(request, report_only=True)
    rows = {row.source: row for table in report.outcome.tables for row in table.rows}
    shown = (CLASSES, f"{CLASSES}+tta", f"{CLASSES}+seeds", MASKS, f"{MASKS}+tta")
    counts = {s: p.image_count for s in shown if (p := rows[s].provenance) and p.seeds == 2}
    assert counts == dict(zip(shown, (30, 30, 30, 6, 6), strict=True))
    assert set(report.outcome.failures) == {f"{MASKS}+seeds, validation"}, "other images held out"
    assert rows["dc-mobilenetv1-ema"].provenance is None, "it was not trained"
    seeds = [_scores(out / f"predictions/{CLASSES}-seed{n}/validation") for n in (0, 1)]
    mean = _scores(out / f"predictions/{CLASSES}+seeds/validation")
    assert seeds[0] != seeds[1]
    assert mean == pytest.approx({i: (seeds[0][i] + seeds[1][i]) / 2 for i in mean}, abs=1e-6)
    tests = {(t.treated, t.control) for table in report.outcome.tables for t in table.tests}
    base = f"{CLASSES}, as in the paper"
    assert (f"{CLASSES} with the mean of 2 seeds", base) in tests


def test_masks_are_fused_by_the_mean_of_both_maps(without_test_truth: Path, tmp_path: Path) -> None:
    request = request_for(without_test_truth, tmp_path / "out", ["XI"], *QUICK, folds=0)
    harvest = _harvest(request, plant_here(request, (MASKS, OTHER)))
    report = reproduce(request, report_only=True)
    row = report.outcome.tables[0].rows[-1]
    assert (row.source, row.cell("jaccard").paper) == ("fusion-u", pytest.approx(0.87, abs=0.05))
    assert row.cell("jaccard").ours is not None
    (fused,) = harvest.replicates("fusion-u", VALIDATION)
    parts = (request.out / f"predictions/{p}-seed0-holdout/validation" for p in (MASKS, OTHER))
    both, a, b = map(read_predictions, (fused, *parts))
    image_id = next(iter(both.masks))
    levels = _levels(a, image_id) + _levels(b, image_id)  # 0 to 2 * 255
    assert np.array_equal(read_mask(both.masks[image_id]), levels >= 255)
    packed = {folder.name: folder for folder in harvest.pack_tests()}
    assert "fusion-u-seed0" in packed
    assert {path.name for path in packed["fusion-u-seed0"].iterdir()} == {"masks.zip", "run.json"}
    assert harvest.failures == {}


def test_on_the_test_set_every_network_counts_and_folds_and_seeds_have_a_mean(
    drawn: Path, tmp_path: Path
) -> None:
    request = request_for(drawn, tmp_path / "out", ["beyond", "VII"], *QUICK, seeds=2, folds=2)
    assert tasks_with_test_truth(load_truth(drawn)) == {"classification", "segmentation"}
    harvest = _harvest(request, plant_here(request, (CLASSES, "dc-densenet121")))
    single = harvest.replicates(CLASSES, TEST)
    assert len(single) == 4
    of = [_scores(folder) for folder in single]  # seed 0 folds 1 and 2, seed 1 folds 1 and 2
    for how, members in (("folds", ((0, 1), (2, 3))), ("seeds", ((0, 2), (1, 3)))):
        means = harvest.replicates(f"{CLASSES}+{how}", TEST)
        for folder, (a, b) in zip(means, members, strict=True):
            expected = {i: (of[a][i] + of[b][i]) / 2 for i in of[a]}
            assert _scores(folder) == pytest.approx(expected, abs=1e-6)
    assert harvest.replicates(f"{CLASSES}+folds", VALIDATION) == (), "one fold alone is blind to it"
    assert harvest.replicates(MASKS, TEST) == ()
    fused = [read_predictions(folder) for folder in harvest.replicates("fusion-dc", TEST)]
    assert [len(one.score_by_id()) for one in fused] == [6] * 4
    assert all(one.manifest.details["fit"]["image_count"] for one in fused)
    assert harvest.failures == {}


def test_a_row_that_lacks_a_run_is_no_failure_damaged_weights_are_and_new_ones_predict_anew(
    without_test_truth: Path, tmp_path: Path
) -> None:
    request = request_for(without_test_truth, tmp_path / "out", ["VII"], *QUICK, folds=0)
    (run,) = plant_here(request, (CLASSES,))
    harvest = _harvest(request, [run])
    assert [harvest.replicates("fusion-dc", part) for part in (VALIDATION, TEST)] == [(), ()]
    assert [folder.name for folder in harvest.pack_tests()] == [run.name]
    assert harvest.failures == {}
    weights = request.run_folder(run) / "best.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"damaged")
    assert harvest.replicates(CLASSES, VALIDATION) == ()
    assert harvest.pack_tests() == ()
    assert set(harvest.failures) == {
        f"{CLASSES}, validation",
        f"{run.name}, test, packed",
        "fusion-dc-seed0, test, packed",
    }
    assert all("is damaged" in why for why in harvest.failures.values())
    weights.write_bytes(whole)
    (folder,) = harvest.replicates(CLASSES, VALIDATION)
    assert folder == harvest.of_run(run)
    made = (folder / MANIFEST_NAME).stat().st_mtime_ns
    os.utime(weights, ns=(made + 1, made + 1))
    harvest.of_run(run)
    assert (folder / MANIFEST_NAME).stat().st_mtime_ns > made


def test_every_run_predicts_what_its_rows_are_measured_on() -> None:
    plan = make_plan(["V", "VIII", "leakage", "beyond"], folds=0)
    measured = parts_to_predict(plan, test_tasks={"classification", "segmentation"}, tests=False)
    assert measured[f"{MASKS}-seed0-holdout"] == ("validation", "test", "test-tta")
    assert measured["densenet121-seed0-holdout"] == ("validation", "test")
    assert measured[f"{CLASSES}-seed0-papersplit"] == (), "it is read off the run's record"
    blind = parts_to_predict(plan, test_tasks=frozenset(), tests=True)
    assert blind[f"{MASKS}-seed0-holdout"] == ("validation", "test", "validation-tta")
    assert blind[f"{CLASSES}-seed0-papersplit"] == ("test",)
    unasked = parts_to_predict(plan, test_tasks=frozenset(), tests=False)
    assert unasked["densenet121-seed0-holdout"] == ("validation",)
