from pathlib import Path

import pytest

from dermfuse.folders import write_json
from dermfuse.jobs.trainings import (
    RunProgress,
    State,
    duration_in_words,
    read_progress,
    seconds_left,
)
from dermfuse.reproduction.plan import make_plan

RUN = make_plan(["V"], folds=0, overrides=["train.epochs=10"]).runs[0]


def _run(state: State, left: float | None, rate: float | None = None) -> RunProgress:
    return RunProgress("run", state, 0, 10, rate, left)


def test_a_folder_that_is_not_there_has_come_nowhere(tmp_path: Path) -> None:
    progress = read_progress(RUN, tmp_path / "none", state="running")
    assert (progress.epoch, progress.epochs) == (0, 10)
    assert progress.seconds_left is None


def test_the_rate_is_the_mean_over_the_epochs_so_far(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"epochs": 4, "seconds": 20.0})
    progress = read_progress(RUN, tmp_path, state="running")
    assert progress.seconds_per_epoch == 5.0
    assert progress.seconds_left == 30.0
    assert read_progress(RUN, tmp_path, state="trained").seconds_left == 0.0
    assert read_progress(RUN, tmp_path, state="failed").seconds_left is None


def test_a_damaged_record_is_the_trainings_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert read_progress(RUN, tmp_path, state="waiting").epoch == 0


def test_what_is_left_is_shared_by_the_jobs_but_no_run_is_split() -> None:
    runs = [_run("running", 60, 6), _run("running", 20, 6), _run("reused", 0)]
    assert seconds_left(runs, jobs=1) == 80
    assert seconds_left(runs, jobs=2) == 60


def test_a_run_of_unknown_rate_takes_as_long_as_the_known_ones() -> None:
    assert seconds_left([_run("running", 30, 5), _run("waiting", None)], jobs=1) == 30 + 50
    assert seconds_left([_run("waiting", None)], jobs=1) is None
    assert seconds_left([_run("failed", None)], jobs=1) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h"), (3725, "1 h 2 min")],
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words
