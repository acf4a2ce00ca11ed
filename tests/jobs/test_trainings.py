"""Trainings as processes; a script that leaves what a training leaves stands for each."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.config import load_preset
from dermfuse.errors import ConfigError, RunError
from dermfuse.folders import RunFolder, write_json, write_text
from dermfuse.jobs.trainings import (
    Run,
    RunProgress,
    State,
    Workplace,
    duration_in_words,
    identity,
    is_begun,
    is_finished,
    parse_jobs,
    read_progress,
    seconds_left,
    survey,
    train_all,
    train_command,
)

CONFIG = load_preset("mobilenetv1").override(["train.epochs=4"])
RUNS = [Run(name, name, CONFIG) for name in "abcd"]

FINISH = """
import pathlib, sys
run = pathlib.Path(sys.argv[2]); run.mkdir(parents=True, exist_ok=True)
(run / "config.toml").write_text(pathlib.Path(sys.argv[1]).read_text())
(run / "best.safetensors").write_bytes(b"")
(run / "run.json").write_text('{"status": "finished", "epochs": 4, "seconds": 2.0}')
"""
FAIL = "import sys; print('epoch 1'); print('dermfuse: error: no weights.'); sys.exit(2)"
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "out", tmp_path / "data")


def _command(**scripts: str) -> Callable[[Run, Workplace], list[str]]:
    """A training that runs the script of its run; one that ends well without."""

    def command(run: Run, place: Workplace) -> list[str]:
        files = [str(place.config_file(run)), str(place.run_folder(run))]
        return [sys.executable, "-S", "-c", scripts.get(run.name, FINISH), *files]

    return command


def _write_run(run: Run, place: Workplace, status: str, epochs: int) -> RunFolder:
    folder = RunFolder(place.run_folder(run))
    write_text(folder.config, run.config.to_toml())
    folder.weights.write_bytes(b"")
    write_json(folder.record, {"status": status, "epochs": epochs, "seconds": 10.0})
    return folder


def test_jobs_are_a_count_or_auto() -> None:
    assert [parse_jobs(text) for text in ("1", "16", "auto", None)] == [1, 16, "auto", None]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²", "9" * 9])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="1 or more, or auto for as many as fit"):
        parse_jobs(text)


@pytest.mark.parametrize(
    ("jobs", "minutes", "message"),
    [
        (0, None, "jobs is 0"),
        (None, 0.0, "the deadline is 0 minutes"),
        (None, float("nan"), "the deadline is nan minutes"),
    ],
)
def test_nothing_and_no_time_are_refused(
    jobs: int | None, minutes: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Workplace(Path("out"), Path("data"), None, jobs, minutes)


def test_names_threads_and_the_place_of_teachers_are_not_the_run_and_epochs_are() -> None:
    threads = replace(CONFIG.override(["train.threads=3", "train.compile=true"]), name="other")
    assert identity(CONFIG) == identity(threads)
    assert identity(CONFIG) != identity(CONFIG.override(["train.epochs=3"]))
    here, moved, other = (
        identity(replace(CONFIG, train=replace(CONFIG.train, teachers=(teacher,))))
        for teacher in ("/x/a-fold1of3", "/y/z/a-fold1of3", "/x/b-fold1of3")
    )
    assert here == moved != other


def test_a_training_is_told_all_that_the_run_and_the_place_say(tmp_path: Path) -> None:
    place = Workplace(tmp_path, [tmp_path / "a", tmp_path / "b"], tmp_path / "weights")
    command = train_command(RUNS[0], place)
    assert command[1:5] == ["-m", "dermfuse", "train", str(place.config_file(RUNS[0]))]
    assert command[5:9] == ["--data", str(tmp_path / "a"), "--data", str(tmp_path / "b")]
    assert command[-3:] == ["--resume", "--imagenet", str(tmp_path / "weights")]
    asked = replace(RUNS[0], leave_out=Path("list.csv"), parts=("validation", "test-tta"))
    command = train_command(asked, Workplace(tmp_path, tmp_path / "a"))
    assert command[-7:] == [
        *("--resume", "--leave-out", "list.csv"),
        *("--predict", str(tmp_path / "predictions" / "a"), "--parts", "validation,test-tta"),
    ]


def test_what_is_finished_is_reused_and_the_rest_is_trained(place: Workplace) -> None:
    _write_run(RUNS[0], place, "finished", 4)
    _write_run(RUNS[1], place, "interrupted", 1)
    waiting = survey(RUNS, place)[1]
    assert (waiting.state, waiting.epoch, waiting.seconds_left) == ("waiting", 1, 30.0)
    seen: list[Sequence[RunProgress]] = []
    ended = train_all(RUNS[:3], place, jobs=2, watch=seen.append, command=_command())
    assert [(run.state, run.epoch) for run in ended] == [
        *(("reused", 4), ("trained", 4), ("trained", 4))
    ]
    assert not place.log_file(RUNS[0]).exists(), "a finished run is not begun again"
    assert place.log_file(RUNS[1]).exists()
    assert [run.state for run in seen[-1]] == ["reused", "trained", "trained"]


def test_a_failing_run_is_reported_with_its_error_and_the_rest_continue(place: Workplace) -> None:
    command = _command(a=FAIL, b="raise ValueError('a fault')", c=DIE, d="pass")
    runs = [*RUNS, replace(RUNS[0], name="e")]
    ended = train_all(runs, place, jobs=5, command=command)
    assert [(run.state, run.error) for run in ended] == [
        ("failed", "no weights."),
        ("failed", "ValueError: a fault"),
        ("failed", "ended by signal 9"),
        ("failed", "ended with status 0 and without a message"),
        ("trained", ""),
    ]


def test_an_interruption_stops_the_trainings(place: Workplace) -> None:
    began = place.out / "began"
    place.out.mkdir()

    def interrupt(_: Sequence[RunProgress]) -> None:
        if began.exists():
            raise KeyboardInterrupt

    script = f"import pathlib; pathlib.Path({str(began)!r}).touch(); {SLEEP}"
    with pytest.raises(KeyboardInterrupt):
        train_all(RUNS[:1], place, watch=interrupt, command=_command(a=script))
    assert began.exists()


def test_a_run_of_other_settings_is_never_passed_off_as_the_planned_one(place: Workplace) -> None:
    other = replace(RUNS[0], config=CONFIG.override(["train.learning_rate=0.1"]))
    folder = _write_run(other, place, "finished", 4).path
    with pytest.raises(RunError, match="was trained with another configuration"):
        is_finished(RUNS[0], folder)
    failed = train_all(RUNS[:1], place, command=_command())[0]
    assert failed.state == "failed"
    assert "another configuration" in failed.error


def test_a_run_that_is_to_be_longer_is_not_finished(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "finished", 4).path
    assert is_finished(RUNS[0], folder)
    assert not is_finished(replace(RUNS[0], config=CONFIG.override(["train.epochs=6"])), folder)


def test_whole_epochs_of_this_very_run_are_a_beginning(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "interrupted", 2).path
    assert is_begun(RUNS[0], folder)
    assert not is_begun(replace(RUNS[0], config=CONFIG.override(["train.seed=7"])), folder)
    assert not is_begun(RUNS[1], place.run_folder(RUNS[1]))


def test_processes_side_by_side_share_the_cores(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    script = f"{FINISH}\nimport os, json; (run / 'env').write_text(json.dumps(dict(os.environ)))"
    train_all(RUNS[:2], place, jobs=2, command=_command(a=script))
    environment = json.loads((place.run_folder(RUNS[0]) / "env").read_text())
    assert environment["OMP_NUM_THREADS"] == "4"


def test_a_run_begins_once_those_it_comes_after_are_finished(place: Workplace) -> None:
    runs = [replace(RUNS[0], after=("b",)), *RUNS[1:3]]
    script = FINISH + "\nimport time; (run / 'at').write_text(str(time.time()))"
    wait = "import time; time.sleep(0.3)\n" + script
    ended = train_all(runs, place, jobs=3, command=_command(a=script, b=wait, c=script))
    assert [run.state for run in ended] == ["trained"] * 3
    pupil, teacher, other = (float((place.run_folder(r) / "at").read_text()) for r in runs)
    assert other < teacher < pupil


def test_what_waits_for_a_failed_run_fails_and_the_rest_continues(place: Workplace) -> None:
    runs = [
        RUNS[0],
        *(replace(run, after=(after,)) for run, after in zip(RUNS[1:3], "ab", strict=True)),
    ]
    ended = train_all([*runs, RUNS[3]], place, command=_command(a=FAIL))
    assert [run.state for run in ended] == ["failed", "failed", "failed", "trained"]
    assert ended[2].error == "b failed, which it comes after"


def test_at_the_deadline_trainings_are_stopped_and_nothing_is_begun(place: Workplace) -> None:
    began = place.out / "began"
    _write_run(RUNS[0], place, "interrupted", 1)
    script = f"import pathlib; pathlib.Path({str(began)!r}).touch(); {SLEEP}"
    deadline = time.monotonic() + 1.5
    ended = train_all(RUNS[:2], place, deadline=deadline, command=_command(a=script))
    assert time.monotonic() < deadline + 20
    assert began.exists()
    assert [(run.state, run.epoch) for run in ended] == [("waiting", 1), ("waiting", 0)]
    assert not place.log_file(RUNS[1]).exists()


def test_at_the_deadline_a_trained_run_may_predict_to_its_end(place: Workplace) -> None:
    slow = FINISH + "import time; time.sleep(3); (run / 'predicted').touch()"
    deadline = time.monotonic() + 1.5
    ended = train_all(RUNS[:1], place, deadline=deadline, command=_command(a=slow))
    assert ended[0].state == "trained"
    assert (place.run_folder(RUNS[0]) / "predicted").exists()


def test_a_run_that_cannot_predict_has_failed_and_is_trained(place: Workplace) -> None:
    ended = train_all(RUNS[:1], place, command=_command(a=FINISH + FAIL))
    assert (ended[0].state, ended[0].error) == ("failed", "no weights.")
    assert is_finished(RUNS[0], place.run_folder(RUNS[0])), "what is trained stays trained"


def test_why_a_run_failed_is_noted_until_it_is_tried_again(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "running", 2)
    assert train_all(RUNS[:1], place, command=_command(a=FAIL))[0].error == "no weights."
    record = folder.read_record()
    assert (record["status"], record["error"]) == ("failed", "no weights.")
    noted = survey(RUNS[:1], place)[0]
    assert (noted.state, noted.epoch, noted.error) == ("waiting", 2, "no weights.")
    seen: list[Sequence[RunProgress]] = []
    ended = train_all(RUNS[:1], place, watch=seen.append, command=_command(a=DIE))
    assert ended[0].error == "ended by signal 9", "not what the log says of the last time"
    assert seen[0][0].error in ("", ended[0].error)


def test_a_damaged_record_fails_its_run_alone(place: Workplace) -> None:
    _write_run(RUNS[0], place, "running", 2).record.write_text("{")
    ended = train_all(RUNS[:2], place, command=_command())
    assert [run.state for run in ended] == ["failed", "trained"]
    assert "cannot be read" in ended[0].error


def test_the_rate_is_the_mean_over_the_epochs_so_far(tmp_path: Path) -> None:
    assert read_progress(RUNS[0], tmp_path, state="running").seconds_left is None
    write_json(tmp_path / "run.json", {"epochs": 2, "seconds": 10.0})
    progress = read_progress(RUNS[0], tmp_path, state="running")
    assert (progress.epoch, progress.epochs, progress.seconds_per_epoch) == (2, 4, 5.0)
    assert progress.seconds_left == 10.0
    assert read_progress(RUNS[0], tmp_path, state="trained").seconds_left == 0.0
    assert read_progress(RUNS[0], tmp_path, state="failed").seconds_left is None
    (tmp_path / "run.json").write_text("{")
    assert read_progress(RUNS[0], tmp_path, state="waiting").epoch == 0


def test_what_is_left_is_shared_by_the_jobs_but_no_run_is_split() -> None:
    def run(state: State, left: float | None, rate: float | None = None) -> RunProgress:
        return RunProgress("run", state, 0, 10, rate, left)

    runs = [run("running", 60, 6), run("running", 20, 6), run("reused", 0)]
    assert [seconds_left(runs, jobs=jobs) for jobs in (1, 2)] == [80, 60]
    assert seconds_left([run("running", 30, 5), run("waiting", None)], jobs=1) == 30 + 50
    assert seconds_left([run("waiting", None)], jobs=1) is None
    assert seconds_left([run("failed", None)], jobs=1) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h"), (3725, "1 h 2 min")],
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words
