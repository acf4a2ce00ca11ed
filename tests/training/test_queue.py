"""Which training begins when, how many side by side, and at what cost; a table times steps."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import Config, load_preset
from dermfuse.data.splits import Split, write_split
from dermfuse.errors import ConfigError, DataError, RunError, TrainingError
from dermfuse.records.folders import RunFolder, write_json, write_text
from dermfuse.training import queue as module
from dermfuse.training.jobs import Jobs, Run, Workplace
from dermfuse.training.queue import Memory, Pace, TrainingImages, make_queue, require_images

from ..two_folders import IMAGES, LABELS, MASKS

ISIC = TrainingImages(benign=727, malignant=173, masks=900)
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


def _finish(run: Run, place: Workplace, seconds: float = 1.0) -> None:
    folder = place.run_folder(run)
    write_text(folder / "config.toml", run.config.to_toml())
    (folder / "best.safetensors").write_bytes(b"")
    epochs = run.config.train.epochs
    write_json(folder / "run.json", {"status": "finished", "epochs": epochs, "seconds": seconds})


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
    ],
)
def test_as_many_fit_as_cores_and_memory_allow(
    needs: list[tuple[int, int]], free: tuple[int, int], cores: int, jobs: int
) -> None:
    wanted = [Memory(*need) for need in needs]
    assert module.fitting_jobs(wanted, Memory(*free), cores=cores) == jobs


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    for limit, free_mb in (("max", 8.192), ("3000000", 2.0)):
        (tmp_path / "memory.max").write_text(limit)
        assert module.free_ram_mb(meminfo, tmp_path) == pytest.approx(free_mb)
    assert module.free_ram_mb(tmp_path / "none", tmp_path / "none") > 0


@pytest.mark.parametrize(
    ("preset", "more", "passes"),
    [
        ("mobilenetv1", [], 4430 * 0.8 + 180 / 3),  # 4 of 5; a third of a validation image
        ("dc-mobilenetv1", [], 4430 * 0.8 * 1.8 + 180 / 3),  # Method 2 shows twice as many
        ("u-mobilenetv1", ["data.folds=5"], 6900 * 0.8 + 180 / 3),
        ("mobilenetv1-noaug", [], 900 * 0.8 + 180 / 3),
        ("mobilenetv1-noaug", ["data.split=all", "train.schedule=cosine"], 900),  # none held back
    ],
)
def test_an_epoch_passes_the_papers_samples(preset: str, more: list[str], passes: float) -> None:
    config = load_preset(preset).override(more)
    assert module.passes_per_epoch(config, ISIC) == pytest.approx(passes)


def test_the_longest_runs_begin_first(place: Workplace, timed: list[int]) -> None:
    queue, order = make_queue(RUNS, place), place.out / "order"
    expected = ["densenet121", "mobilenetv1", "squeezenet"]
    assert [run.name for run in queue.runs] == [each.name for each in queue.estimates] == expected
    assert {each.basis for each in queue.estimates} == {"timed steps"}
    assert queue.estimates[0].disk_mb == 16.0
    assert queue.seconds == pytest.approx(sum(each.seconds for each in queue.estimates))
    assert queue.to_dict()["notice"]
    assert not place.out.exists()

    def command(run: Run, place: Workplace) -> list[str]:
        files = [place.config_file(run), place.run_folder(run), order]
        return [sys.executable, "-S", "-c", FINISH, *map(str, files)]

    ended = module.train_queue(queue, place, command=command)
    assert {run.state for run in ended} == {"trained"}
    assert order.read_text().split() == expected


@pytest.mark.parametrize(
    ("jobs", "on_cpu", "free_mb", "expected"),
    [(None, 4, 1, 4), (3, 1, 1, 3), ("auto", 1, 99_000, 3), ("auto", 1, 8000, 2)],
)
def test_on_a_cpu_the_number_is_the_usual_the_asked_or_what_fits(
    jobs: Jobs, on_cpu: int, free_mb: int, expected: int, place: Workplace, timed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "free_ram_mb", lambda: free_mb)
    queue = make_queue(RUNS, replace(place, jobs=jobs), on_cpu=on_cpu)
    assert queue.jobs == expected
    # a process, five copies of the weights, a step, the pixels of 30 images
    ram = 900 + 5 * 4 + 2000 + 30 * 224 * 224 * 5 / 1e6
    assert queue.estimates[0].ram_mb == pytest.approx(ram, abs=0.1)
    pair = make_queue([_run("pair", "dc-mobilenetv1")], place).estimates[0]
    assert pair.ram_mb == pytest.approx(ram + 2000, abs=0.1), "a step of two images"
    assert timed[0] == 1, "as many as there are cores are timed with a thread each"


def test_on_a_gpu_as_many_as_fit_are_usual_and_share_its_speed(
    place: Workplace, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "accelerator_of", lambda _: "cuda")
    for free_mb, jobs in ((80_000, 3), (8000, 2), (3500, 1)):
        free = (free_mb * 10**6, 10**12)
        monkeypatch.setattr(module.torch.cuda, "mem_get_info", lambda free=free: free)
        assert make_queue(RUNS, place).jobs == jobs
    runs = [_run(name) for name in "abcdefgh"]
    each = make_queue(runs[:1], place).seconds
    assert make_queue(runs, replace(place, jobs=8)).seconds == pytest.approx(8 * each / 2)


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
    place, three = replace(place, jobs=3), [_run("b"), _run("c"), _run("a")]
    queue = make_queue([_run("b", after="a"), _run("c", after="b"), _run("a")], place)
    assert [run.name for run in queue.runs] == ["a", "b", "c"]
    each = queue.estimates[0].seconds
    assert queue.seconds == pytest.approx(3 * each)
    assert make_queue(three, place).seconds == pytest.approx(each)
    assert make_queue(three, replace(place, jobs=2)).seconds == pytest.approx(1.5 * each)


def test_a_deadline_must_leave_time_for_one_epoch_after_the_timing(
    place: Workplace, timed: list[int]
) -> None:
    queue = replace(make_queue(RUNS, place), spent=600.0)
    shortest = min(run.seconds / run.epochs for run in queue.estimates) / 60
    for enough in (None, shortest + 10.01):
        module.require_time(queue, enough)
    with pytest.raises(ConfigError, match="minutes leaves no time for one epoch"):
        module.require_time(queue, shortest * 0.9 + 10)


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1"])
def test_a_step_is_timed_and_the_fastest_and_the_slowest_make_a_range(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0.0, 50.0, 50.0, 58.0, 60.0, 64.0])  # 50 s to warm up, then 8 s and 4 s
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(module, "_TIMED_SECONDS", 60.0)
    small = ["data.input_size=32", "train.batch_size=8", "train.precision=float32"]
    pace = module._time_steps(load_preset(preset).override(small), threads=1)
    assert (pace.least, pace.most) == (4 / 8, 8 / 8), "seconds per image"
    assert pace.parameters > 3_000_000
    assert pace.step_mb > 0


def test_a_fold_without_one_of_the_classes_is_refused_before_any_run_begins(
    place: Workplace, drawn: Path, tmp_path: Path
) -> None:
    for name in (IMAGES, MASKS):
        (tmp_path / name).symlink_to(drawn / name)
    first, *ids = (line.split(",")[0] for line in (drawn / LABELS).read_text().splitlines())
    (tmp_path / LABELS).write_text("\n".join([f"{first},1", *(f"{name},0" for name in ids)]))
    place = replace(place, data=tmp_path)
    runs, masks = (
        [
            Run(
                f"{preset}-{k}",
                preset,
                load_preset(preset).override([f"data.fold={k}", "data.folds=3"]),
            )
            for k in range(3)
        ]
        for preset in ("mobilenetv1", "u-mobilenetv1")
    )
    with pytest.raises(DataError, match=r"mobilenetv1-\d: none of the \d+ images that are"):
        make_queue(runs, place)
    assert not place.out.exists()
    require_images(masks, place)
    for run in runs:
        _finish(run, place)
    require_images(runs, place)
    write_split(RunFolder(place.run_folder(runs[0])).split, Split(("ISIC_1",), ()))
    with pytest.raises(
        RunError, match=r"mobilenetv1-0 saw 1 images that are now left out.*\(ISIC_1"
    ):
        make_queue(runs, place)
    (tmp_path / LABELS).unlink()  # what else is wrong is left to the run
    require_images(runs, replace(place, out=tmp_path / "other"))
