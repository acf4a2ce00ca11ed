"""Which training begins when, and how many side by side; steps are timed by a table."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.config import Config, load_preset
from dermfuse.errors import ConfigError, TrainingError
from dermfuse.jobs import estimate as module
from dermfuse.jobs.estimate import Pace
from dermfuse.jobs.queue import make_queue, require_time, train_queue
from dermfuse.jobs.trainings import Jobs, Run, Workplace

PACES = {"squeezenet1_1": 0.01, "mobilenet_v1": 0.02, "densenet121": 0.05}
PRESETS = ("squeezenet", "densenet121", "mobilenetv1")
FINISH = """
import pathlib, sys
config, run, order = map(pathlib.Path, sys.argv[1:])
run.mkdir(parents=True)
(run / "config.toml").write_text(config.read_text())
(run / "best.safetensors").write_bytes(b"")
(run / "run.json").write_text('{"status": "finished", "epochs": 50, "seconds": 2.0}')
with order.open("a") as file: file.write(run.name + " ")
"""


@pytest.fixture
def place(drawn: Path, tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "out", drawn, None)


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that steps were timed with; no network is built for it."""
    threads_of: list[int] = []

    def time_steps(config: Config, *, threads: int) -> Pace:
        threads_of.append(threads)
        pace = PACES[config.model.backbone]
        return Pace(pace, pace, 1_000_000, step_mb=2000)

    monkeypatch.setattr(module, "_time_steps", time_steps)
    monkeypatch.setattr(module, "default_jobs", lambda: 4)
    monkeypatch.setattr(module, "free_ram_mb", lambda: 100_000)
    return threads_of


def _runs() -> list[Run]:
    return [Run(name, name, load_preset(name)) for name in PRESETS]


def _with_gpu(monkeypatch: pytest.MonkeyPatch, free_mb: float) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "mem_get_info", lambda: (int(free_mb * 1e6), 10**12))
    monkeypatch.setattr(module, "accelerator_of", lambda _: "cuda")


def test_the_longest_runs_begin_first(place: Workplace) -> None:
    queue = make_queue(_runs(), place)
    expected = ["densenet121", "mobilenetv1", "squeezenet"]
    assert [run.name for run in queue.runs] == expected
    assert [each.name for each in queue.estimate.runs] == expected
    order = place.out / "order"

    def command(run: Run, place: Workplace) -> list[str]:
        files = [place.config_file(run), place.run_folder(run), order]
        return [sys.executable, "-S", "-c", FINISH, *map(str, files)]

    ended = train_queue(queue, place, command=command)
    assert {run.state for run in ended} == {"trained"}
    assert order.read_text().split() == expected


@pytest.mark.parametrize(("jobs", "on_cpu", "expected"), [(None, 1, 1), (None, 4, 4), (3, 1, 3)])
def test_on_a_cpu_the_number_is_the_usual_or_the_asked(
    jobs: Jobs, on_cpu: int, expected: int, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "free_ram_mb", lambda: 100)
    assert make_queue(_runs(), place, jobs=jobs, on_cpu=on_cpu).estimate.jobs == expected


@pytest.mark.parametrize(("free", "expected"), [(100_000, 3), (8000, 2), (2000, 1)])
def test_auto_is_what_fits_the_memory(
    free: float, expected: int, place: Workplace, monkeypatch: pytest.MonkeyPatch, timed: list[int]
) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "free_ram_mb", lambda: free)
    queue = make_queue(_runs(), place, jobs="auto")
    assert queue.estimate.jobs == expected
    # a process, five copies of the weights, a step, the pixels of 30 images
    ram = 900 + 5 * 4 + 2000 + 30 * 224 * 224 * 5 / 1e6
    assert queue.estimate.runs[0].ram_mb == pytest.approx(ram, abs=0.1)
    assert set(timed) == {1}, "as many as there are cores are timed with a thread each"


@pytest.mark.parametrize(("free_mb", "expected"), [(80_000, 3), (8000, 2), (3500, 1)])
def test_on_a_gpu_as_many_as_fit_is_what_is_usual(
    free_mb: float, expected: int, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_gpu(monkeypatch, free_mb)
    queue = make_queue(_runs(), place)
    assert queue.estimate.jobs == expected
    assert queue.estimate.runs[0].gpu_mb > 3000 > queue.estimate.runs[0].disk_mb


def test_pairs_take_twice_the_memory(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    names = ("mobilenetv1", "dc-mobilenetv1")
    runs = [Run(name, name, load_preset(name)) for name in names]
    taken = {each.name: each.ram_mb for each in make_queue(runs, place).estimate.runs}
    assert taken["dc-mobilenetv1"] == pytest.approx(taken["mobilenetv1"] + 2000)


def test_a_run_that_cannot_be_timed_is_begun_last_and_leaves_the_rest_alone(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(config: Config, **_: Any) -> Pace:
        if config.model.backbone == "densenet121":
            raise TrainingError("memory ran out")
        return Pace(0.01, 0.01, 1_000_000)

    monkeypatch.setattr(module, "_time_steps", no_memory)
    queue = make_queue(_runs(), place, jobs="auto")
    assert queue.runs[-1].name == "densenet121"
    assert queue.estimate.runs[-1].basis == "not timed: memory ran out."


def test_a_deadline_must_leave_time_for_one_epoch_after_the_timing(place: Workplace) -> None:
    queue = make_queue(_runs(), place)
    shortest = min(run.seconds / run.epochs for run in queue.estimate.runs) / 60
    require_time(queue, None)
    require_time(queue, shortest + 0.01)
    with pytest.raises(ConfigError, match="minutes leaves no time for one epoch"):
        require_time(queue, shortest * 0.9)
    with pytest.raises(ConfigError, match="leaves no time"):
        require_time(replace(queue, spent=600.0), shortest + 5)
    require_time(replace(queue, spent=600.0), shortest + 10.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs is 0"),
        ({"minutes": 0.0}, "the deadline is 0 minutes"),
        ({"minutes": float("nan")}, "the deadline is nan minutes"),
    ],
)
def test_nothing_and_no_time_are_refused(
    options: dict[str, Any], message: str, place: Workplace
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_queue(_runs(), place, **options)
    assert not place.out.exists()
