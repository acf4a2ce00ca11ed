from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import Config, load_preset
from dermfuse.folders import write_json, write_text
from dermfuse.jobs import estimate as module
from dermfuse.jobs.estimate import Counts, Pace, estimate_runs, order_runs, passes_per_epoch
from dermfuse.jobs.trainings import Run, Workplace
from dermfuse.reproduction.assembly import measure_size
from dermfuse.reproduction.plan import make_plan
from dermfuse.reproduction.reproduce import estimate

ISIC = Counts(benign=727, malignant=173, masks=900)
SMALL = ["data.input_size=32", "train.threads=1", "train.precision=float32", "train.epochs=10"]


def test_an_epoch_passes_the_papers_samples() -> None:
    # 4 of 5 of the 4,430, and a third of the 180 validation images
    single = passes_per_epoch(load_preset("mobilenetv1"), ISIC)
    assert single == pytest.approx(4430 * 0.8 + 180 / 3)
    paired = passes_per_epoch(load_preset("dc-mobilenetv1"), ISIC)
    assert paired == pytest.approx(4430 * 0.8 * 1.8 + 180 / 3), "Method 2 shows twice as many"
    masks = passes_per_epoch(load_preset("u-mobilenetv1"), ISIC)
    assert masks == pytest.approx(6900 * 0.8 + 180 / 3)
    plain = passes_per_epoch(load_preset("mobilenetv1-noaug"), ISIC)
    assert plain == pytest.approx(900 * 0.8 + 180 / 3)
    folded = load_preset("u-mobilenetv1").override(["data.folds=5"])
    assert passes_per_epoch(folded, ISIC) == pytest.approx(masks)
    whole = load_preset("dc-mobilenetv1-cosine").override(["data.split=all"])
    copies = 727 * whole.augment.benign_copies + 173 * whole.augment.malignant_copies
    assert passes_per_epoch(whole, ISIC) == pytest.approx(copies * 1.8), "nothing is held back"


def test_a_plan_is_estimated_and_nothing_is_written(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    plan = make_plan(["IV"], folds=0, overrides=SMALL)
    place = Workplace(tmp_path / "out", drawn, None)
    found = estimate(plan, place, jobs=2)
    assert not (tmp_path / "out").exists()
    assert [each.basis for each in found.runs] == ["timed steps"] * 4
    assert found.runs[0].disk_mb == 16.0
    a, b, c, d = sorted((each.seconds for each in found.runs), reverse=True)
    assert found.seconds == pytest.approx(max(a + d, b + c), abs=0.1)  # the longest first
    assert found.to_dict()["notice"]


def test_a_finished_run_tells_how_long_an_epoch_takes(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    plan = make_plan(["V"], seeds=2, folds=0, overrides=SMALL)
    place = Workplace(tmp_path / "out", drawn, None)
    done = place.run_folder(plan.runs[0])
    write_text(done / "config.toml", plan.runs[0].config.to_toml())
    (done / "best.safetensors").write_bytes(b"")
    write_json(done / "run.json", {"status": "finished", "epochs": 10, "seconds": 70.0})
    runs = {each.name: each for each in estimate(plan, place).runs}
    assert runs["mobilenetv1-seed0-holdout"].seconds == 0.0
    again = runs["mobilenetv1-seed1-holdout"]
    assert (again.seconds, again.basis) == (70.0, "a finished run")
    assert runs["densenet121-seed0-holdout"].basis == "timed steps"


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1"])
def test_a_step_is_timed_on_this_machine(preset: str) -> None:
    pace = module._time_steps(load_preset(preset).override(SMALL), threads=1)
    assert 0 < pace.least <= pace.most < 60
    assert pace.parameters > 3_000_000


def test_the_fastest_and_the_slowest_of_several_steps_make_a_range(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0.0, 50.0, 50.0, 58.0, 60.0, 64.0])  # 50 s to warm up, then 8 s and 4 s
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(module, "_TIMED_SECONDS", 60.0)
    config = load_preset("mobilenetv1").override([*SMALL, "train.batch_size=8"])
    shapes = []
    build = module.build_network

    def watched(model: Any) -> Any:
        network = build(model)
        network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[0]))
        return network

    monkeypatch.setattr(module, "build_network", watched)
    found = estimate_runs(
        [Run("a", "mobilenetv1", config)], Workplace(tmp_path / "out", drawn, None)
    )
    passes = passes_per_epoch(config, module._counts(drawn))
    assert shapes == [8, 8, 8]
    assert found.seconds == pytest.approx(config.train.epochs * passes * 4 / 8, abs=0.1)
    assert found.most_seconds == pytest.approx(config.train.epochs * passes * 8 / 8, abs=0.1)


def test_sizes_are_those_of_what_is_deployed() -> None:
    pair = measure_size(load_preset("dc-mobilenetv1").model)
    single = measure_size(Config().model)
    assert pair.parameters == 3_736_902
    assert pair.file_mb == single.file_mb, "the discriminant branch is dropped"
    assert single.file_mb == pytest.approx(4 * 3_230_914 / 2**20)


def _run(name: str, *after: str) -> Run:
    return Run(name, "mobilenetv1", load_preset("mobilenetv1"), after)


def test_runs_that_the_longest_work_hangs_on_begin_first() -> None:
    runs = [_run("pupil", "teacher"), _run("long"), _run("teacher"), _run("short")]
    seconds = {"pupil": 5.0, "long": 6.0, "teacher": 2.0, "short": 1.0}
    assert [run.name for run in order_runs(runs, seconds)] == ["teacher", "long", "pupil", "short"]


def test_a_pupil_waits_for_its_teachers_in_the_estimate(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    place = Workplace(tmp_path / "out", drawn, None)
    chained = [_run("a"), _run("b", "a"), _run("c", "b")]
    each = estimate_runs(chained[:1], place).seconds
    assert estimate_runs(chained, place, jobs=3).seconds == pytest.approx(3 * each)
    side = [_run("a"), _run("b"), _run("c")]
    assert estimate_runs(side, place, jobs=3).seconds == pytest.approx(each)


def test_processes_on_one_card_do_not_all_run_at_full_speed(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_time_steps", lambda *_, **__: Pace(0.01, 0.01, 1_000_000))
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    place = Workplace(tmp_path / "out", drawn, None)
    runs = [_run(name) for name in "abcdefgh"]
    each = estimate_runs(runs[:1], place).seconds
    assert estimate_runs(runs, place, jobs=8).seconds == pytest.approx(8 * each / 2)
