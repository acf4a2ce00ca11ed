"""Which training begins when, how many side by side, and at what cost; a table times steps."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import Config, load_preset
from dermfuse.errors import ConfigError, DataError, TrainingError
from dermfuse.folders import write_json, write_text
from dermfuse.jobs import queue as module
from dermfuse.jobs.queue import (
    Memory,
    Pace,
    TrainingImages,
    chains,
    fitting_jobs,
    free_ram_mb,
    make_queue,
    passes_per_epoch,
    require_sides,
    require_time,
    train_queue,
)
from dermfuse.jobs.trainings import Jobs, Run, Workplace

ISIC = TrainingImages(benign=727, malignant=173, masks=900)
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
PACES = {"squeezenet1_1": 0.01, "mobilenet_v1": 0.02, "densenet121": 0.05}
FINISH = """
import pathlib, sys
config, run, order = map(pathlib.Path, sys.argv[1:])
run.mkdir(parents=True)
(run / "config.toml").write_text(config.read_text())
(run / "best.safetensors").write_bytes(b"")
(run / "run.json").write_text('{"status": "finished", "epochs": 50, "seconds": 2.0}')
with order.open("a") as file: file.write(run.name + " ")
"""


def _run(name: str, preset: str = "mobilenetv1", after: str = "") -> Run:
    return Run(name, preset, load_preset(preset), (after,) if after else ())


RUNS = [_run(name, name) for name in ("squeezenet", "densenet121", "mobilenetv1")]


@pytest.fixture
def place(drawn: Path, tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "out", drawn)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that steps were timed with; no network is built for it."""
    threads_of: list[int] = []

    def time_steps(config: Config, *, threads: int) -> Pace:
        threads_of.append(threads)
        pace = PACES[config.model.backbone]
        return Pace(pace, pace, 1_000_000, step_mb=2000)

    monkeypatch.setattr(module, "_time_steps", time_steps)
    monkeypatch.setattr(module, "core_count", lambda: 4)
    monkeypatch.setattr(module, "free_ram_mb", lambda: 100_000)
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    return threads_of


@pytest.fixture
def gpu(timed: list[int], monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A GPU and what is free of its memory, in 10^6 bytes."""
    free = {"mb": 100_000}
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "mem_get_info", lambda: (free["mb"] * 10**6, 10**12))
    monkeypatch.setattr(module, "accelerator_of", lambda _: "cuda")
    return free


def _finish(run: Run, place: Workplace, seconds: float = 1.0) -> None:
    folder = place.run_folder(run)
    write_text(folder / "config.toml", run.config.to_toml())
    (folder / "best.safetensors").write_bytes(b"")
    epochs = run.config.train.epochs
    record = {"status": "finished", "epochs": epochs, "seconds": seconds}
    write_json(folder / "run.json", record)


@pytest.mark.parametrize(
    ("needs", "free", "cores", "jobs"),
    [
        ([(4000, 3000)] * 22, (140_000, 120_000), 16, 16),  # a core each
        ([(4000, 3000)] * 22, (16_000, 120_000), 16, 3),  # 3 x 4,000 are under 14,400
        ([(4000, 3000)] * 22, (140_000, 10_000), 16, 3),  # 3 x 3,000 are no more than 9,000
        ([(1000, 1000), (12_000, 1000), (1000, 1000)], (15_000, 99_000), 16, 2),  # largest first
        ([(4000, 3000)] * 2, (140_000, 120_000), 16, 2),  # no more than there are
        ([(0, 3000)] * 4, (0, 99_000), 2, 2),  # no GPU
        ([(99_000, 3000)], (16_000, 99_000), 8, 1),  # one is tried
        ([], (0, 99_000), 8, 1),
    ],
)
def test_as_many_fit_as_cores_and_memory_allow(
    needs: list[tuple[int, int]], free: tuple[int, int], cores: int, jobs: int
) -> None:
    assert fitting_jobs([Memory(*need) for need in needs], Memory(*free), cores=cores) == jobs


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    meminfo, cgroups = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    cgroups.mkdir()
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(8.192)
    (cgroups / "memory.current").write_text("1000000\n")
    (cgroups / "memory.max").write_text("max\n")
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(8.192)
    (cgroups / "memory.max").write_text("3000000\n")
    assert free_ram_mb(meminfo, cgroups) == pytest.approx(2.0)
    assert free_ram_mb(tmp_path / "none", tmp_path) > 0


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


def test_the_longest_runs_begin_first(place: Workplace, timed: list[int]) -> None:
    queue = make_queue(RUNS, place)
    expected = ["densenet121", "mobilenetv1", "squeezenet"]
    assert [run.name for run in queue.runs] == expected
    assert [each.name for each in queue.estimates] == expected
    assert [each.basis for each in queue.estimates] == ["timed steps"] * 3
    assert queue.estimates[0].disk_mb == 16.0
    assert queue.seconds == pytest.approx(sum(each.seconds for each in queue.estimates))
    assert queue.to_dict()["notice"]
    assert not place.out.exists()
    order = place.out / "order"

    def command(run: Run, place: Workplace) -> list[str]:
        files = [place.config_file(run), place.run_folder(run), order]
        return [sys.executable, "-S", "-c", FINISH, *map(str, files)]

    ended = train_queue(queue, place, command=command)
    assert {run.state for run in ended} == {"trained"}
    assert order.read_text().split() == expected


@pytest.mark.parametrize(("jobs", "on_cpu", "expected"), [(None, 1, 1), (None, 4, 4), (3, 1, 3)])
def test_on_a_cpu_the_number_is_the_usual_or_the_asked(
    jobs: Jobs, on_cpu: int, expected: int, place: Workplace, timed: list[int]
) -> None:
    assert make_queue(RUNS, replace(place, jobs=jobs), on_cpu=on_cpu).jobs == expected


@pytest.mark.parametrize(("free", "expected"), [(100_000, 3), (8000, 2), (2000, 1)])
def test_auto_is_what_fits_the_memory(
    free: float, expected: int, place: Workplace, monkeypatch: pytest.MonkeyPatch, timed: list[int]
) -> None:
    monkeypatch.setattr(module, "free_ram_mb", lambda: free)
    queue = make_queue(RUNS, replace(place, jobs="auto"))
    assert queue.jobs == expected
    # a process, five copies of the weights, a step, the pixels of 30 images
    ram = 900 + 5 * 4 + 2000 + 30 * 224 * 224 * 5 / 1e6
    assert queue.estimates[0].ram_mb == pytest.approx(ram, abs=0.1)
    assert set(timed) == {1}, "as many as there are cores are timed with a thread each"


@pytest.mark.parametrize(("free_mb", "expected"), [(80_000, 3), (8000, 2), (3500, 1)])
def test_on_a_gpu_as_many_as_fit_is_what_is_usual(
    free_mb: int, expected: int, place: Workplace, gpu: dict[str, int]
) -> None:
    gpu["mb"] = free_mb
    queue = make_queue(RUNS, place)
    assert queue.jobs == expected
    assert queue.estimates[0].gpu_mb > 3000 > queue.estimates[0].disk_mb


def test_processes_on_one_card_do_not_all_run_at_full_speed(
    place: Workplace, gpu: dict[str, int]
) -> None:
    runs = [_run(name) for name in "abcdefgh"]
    each = make_queue(runs[:1], place).seconds
    assert make_queue(runs, replace(place, jobs=8)).seconds == pytest.approx(8 * each / 2)


def test_pairs_take_twice_the_memory(place: Workplace, timed: list[int]) -> None:
    single, pair = (
        make_queue([_run(name, name)], place).estimates[0].ram_mb
        for name in ("mobilenetv1", "dc-mobilenetv1")
    )
    assert pair == pytest.approx(single + 2000)


def test_a_finished_run_tells_how_long_an_epoch_takes(place: Workplace, timed: list[int]) -> None:
    again = replace(RUNS[2], name="again", config=RUNS[2].config.override(["train.seed=1"]))
    _finish(RUNS[2], place, seconds=70.0)
    estimates = {each.name: each for each in make_queue([*RUNS, again], place).estimates}
    assert (estimates["mobilenetv1"].seconds, estimates["mobilenetv1"].basis) == (0.0, "finished")
    assert (estimates["again"].seconds, estimates["again"].basis) == (70.0, "a finished run")


def test_a_run_that_cannot_be_timed_is_begun_last_and_leaves_the_rest_alone(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(config: Config, **_: Any) -> Pace:
        if config.model.backbone == "densenet121":
            raise TrainingError("memory ran out")
        return Pace(0.01, 0.01, 1_000_000)

    monkeypatch.setattr(module, "_time_steps", no_memory)
    queue = make_queue(RUNS, replace(place, jobs="auto"))
    assert queue.runs[-1].name == "densenet121"
    assert queue.estimates[-1].basis == "not timed: memory ran out."


def test_a_pupil_waits_for_its_teachers_in_the_estimate(place: Workplace, timed: list[int]) -> None:
    runs = [_run("pupil", after="teacher"), _run("long"), _run("teacher")]
    seconds = {"pupil": 5.0, "long": 6.0, "teacher": 2.0}
    assert chains(runs, seconds) == {"pupil": 5.0, "long": 6.0, "teacher": 7.0}
    place = replace(place, jobs=3)
    chained = [_run("b", after="a"), _run("c", after="b"), _run("a")]
    queue = make_queue(chained, place)
    assert [run.name for run in queue.runs] == ["a", "b", "c"]
    each = queue.estimates[0].seconds
    assert queue.seconds == pytest.approx(3 * each)
    side = [_run("a"), _run("b"), _run("c")]
    assert make_queue(side, place).seconds == pytest.approx(each)
    assert make_queue(side, replace(place, jobs=2)).seconds == pytest.approx(1.5 * each)


def test_a_deadline_must_leave_time_for_one_epoch_after_the_timing(
    place: Workplace, timed: list[int]
) -> None:
    queue = make_queue(RUNS, place)
    shortest = min(run.seconds / run.epochs for run in queue.estimates) / 60
    require_time(queue, None)
    require_time(queue, shortest + 0.01)
    with pytest.raises(ConfigError, match="minutes leaves no time for one epoch"):
        require_time(queue, shortest * 0.9)
    with pytest.raises(ConfigError, match="leaves no time"):
        require_time(replace(queue, spent=600.0), shortest + 5)
    require_time(replace(queue, spent=600.0), shortest + 10.1)


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1"])
def test_a_step_is_timed_on_this_machine(preset: str) -> None:
    small = ["data.input_size=32", "train.threads=1", "train.precision=float32"]
    pace = module._time_steps(load_preset(preset).override(small), threads=1)
    assert 0 < pace.least <= pace.most < 60
    assert pace.parameters > 3_000_000
    assert pace.step_mb > 0


def test_the_fastest_and_the_slowest_of_several_steps_make_a_range(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0.0, 50.0, 50.0, 58.0, 60.0, 64.0])  # 50 s to warm up, then 8 s and 4 s
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(module, "_TIMED_SECONDS", 60.0)
    small = ["data.input_size=32", "train.threads=1", "train.batch_size=8"]
    config = load_preset("mobilenetv1").override(small)
    shapes = []
    build = module.build_network

    def watched(model: Any) -> Any:
        network = build(model)
        network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[0]))
        return network

    monkeypatch.setattr(module, "build_network", watched)
    queue = make_queue([Run("a", "mobilenetv1", config)], place)
    passes = passes_per_epoch(config, module._count_images(place.data))
    assert shapes == [8, 8, 8]
    assert queue.seconds == pytest.approx(config.train.epochs * passes * 4 / 8, abs=0.1)
    assert queue.most_seconds == pytest.approx(config.train.epochs * passes * 8 / 8, abs=0.1)


@pytest.fixture
def one_malignant(drawn: Path, place: Workplace, tmp_path: Path) -> Workplace:
    """Drawn images of which one alone is malignant."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("ISBI2016_ISIC_Part3_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"):
        (data / name).symlink_to(drawn / name)
    ids = [line.split(",")[0] for line in (drawn / LABELS).read_text().splitlines()]
    (data / LABELS).write_text("\n".join(f"{name},{int(name == ids[0])}" for name in ids))
    return replace(place, data=data)


def _folds(preset: str) -> list[Run]:
    config = load_preset(preset).override(["data.folds=3"])
    return [Run(f"{preset}-{k}", preset, config.override([f"data.fold={k}"])) for k in range(3)]


def test_a_fold_without_one_of_the_classes_is_refused_before_any_run_begins(
    one_malignant: Workplace,
) -> None:
    runs = _folds("mobilenetv1")
    with pytest.raises(DataError, match=r"mobilenetv1-\d: none of the \d+ images that are"):
        make_queue(runs, one_malignant)
    assert not one_malignant.out.exists()
    require_sides(_folds("u-mobilenetv1"), one_malignant)
    for run in runs:
        _finish(run, one_malignant)
    require_sides(runs, one_malignant)


def test_what_else_is_wrong_with_the_data_is_left_to_the_run(one_malignant: Workplace) -> None:
    (Path(str(one_malignant.data)) / LABELS).unlink()
    require_sides(_folds("mobilenetv1"), one_malignant)
