"""Trainings as processes; a script that leaves what a training leaves stands for each."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dermfuse.config import load_preset
from dermfuse.errors import ConfigError, RunError
from dermfuse.records.folders import RunFolder, write_json, write_text
from dermfuse.training import jobs as trainings
from dermfuse.training.jobs import Run, RunProgress, State, Workplace, survey, train_all

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
FOLLOW = """
import time
from dermfuse.training.jobs import follow_queue
follow_queue()
print("begun", flush=True)
time.sleep(60)
"""
QUEUE = f"""
import sys
from pathlib import Path
from dermfuse.config import load_preset
from dermfuse.training.jobs import Run, Workplace, train_all
place = Workplace(Path(sys.argv[1]), Path("data"))
command = [sys.executable, "-c", {FOLLOW!r}]
train_all([Run("a", "a", load_preset("mobilenetv1"))], place, command=lambda *_: command)
"""
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "out", tmp_path / "data")


def _train(
    runs: Sequence[Run], place: Workplace, scripts: dict[str, str], **options: object
) -> list[RunProgress]:
    """Trains with the script of each run; one that ends well without."""

    def command(run: Run, place: Workplace) -> list[str]:
        files = [str(place.config_file(run)), str(place.run_folder(run))]
        return [sys.executable, "-S", "-c", scripts.get(run.name, FINISH), *files]

    return list(train_all(runs, place, command=command, **options))  # type: ignore[arg-type]


def _write_run(run: Run, place: Workplace, status: str, epochs: int) -> RunFolder:
    folder = RunFolder(place.run_folder(run))
    write_text(folder.config, run.config.to_toml())
    folder.weights.write_bytes(b"")
    write_json(folder.record, {"status": status, "epochs": epochs, "seconds": 10.0})
    return folder


def test_counts_and_deadlines_that_are_none_are_refused() -> None:
    counts = [trainings.parse_jobs(text) for text in ("1", "16", "auto", None)]
    assert counts == [1, 16, "auto", None]
    for text in ("0", "1.5", "many", "", "²", "9" * 9):
        with pytest.raises(ConfigError, match="1 or more, or auto for as many as fit"):
            trainings.parse_jobs(text)
    with pytest.raises(ConfigError, match="jobs is 0"):
        Workplace(Path("out"), Path("data"), jobs=0)
    for minutes in (0.0, float("nan")):
        with pytest.raises(ConfigError, match=f"the deadline is {minutes:g} minutes"):
            Workplace(Path("out"), Path("data"), minutes=minutes)


def test_names_threads_and_the_place_of_teachers_are_not_the_run_and_epochs_are() -> None:
    threads = replace(CONFIG.override(["train.threads=3", "train.compile=true"]), name="other")
    assert trainings.identity(CONFIG) == trainings.identity(threads)
    assert trainings.identity(CONFIG) != trainings.identity(CONFIG.override(["train.epochs=3"]))
    here, moved, other = (
        trainings.identity(replace(CONFIG, train=replace(CONFIG.train, teachers=(teacher,))))
        for teacher in ("/x/a-fold1of3", "/y/z/a-fold1of3", "/x/b-fold1of3")
    )
    assert here == moved != other


def test_a_training_is_told_all_that_the_run_and_the_place_say(tmp_path: Path) -> None:
    place = Workplace(tmp_path, [tmp_path / "a", tmp_path / "b"], tmp_path / "weights")
    asked = replace(
        RUNS[0], leave_out=Path("list.csv"), start="s", parts=("validation", "test-tta")
    )
    runs, predictions = tmp_path / "runs", tmp_path / "predictions"
    assert trainings.train_command(asked, place)[1:] == [
        *("-m", "dermfuse", "train", str(place.config_file(asked))),
        *("--data", str(tmp_path / "a"), "--data", str(tmp_path / "b")),
        *("--run", str(runs / "a"), "--resume", "--leave-out", "list.csv"),
        *("--from", str(runs / "s"), "--predict", str(predictions / "a")),
        *("--parts", "validation,test-tta", "--imagenet", str(tmp_path / "weights")),
    ]


def test_what_is_finished_is_reused_and_the_rest_is_trained(place: Workplace) -> None:
    _write_run(RUNS[0], place, "finished", 4)
    _write_run(RUNS[1], place, "interrupted", 1)
    waiting = survey(RUNS, place)[1]
    assert (waiting.state, waiting.epoch, waiting.seconds_left) == ("waiting", 1, 30.0)
    seen: list[Sequence[RunProgress]] = []
    ended = _train(RUNS[:3], place, {}, jobs=2, watch=seen.append)
    assert [(run.state, run.epoch) for run in ended] == [
        *(("reused", 4), ("trained", 4), ("trained", 4))
    ]
    assert [place.log_file(run).exists() for run in RUNS[:2]] == [False, True]
    assert list(seen[-1]) == ended


def test_a_failing_run_is_reported_with_its_error_and_the_rest_continue(place: Workplace) -> None:
    _write_run(RUNS[0], replace(place), "running", 2).record.write_text("{")
    waits = replace(RUNS[0], name="waits", after=("b",))
    waits_too = replace(RUNS[0], name="waits too", after=("waits",))
    runs = [*RUNS, replace(RUNS[0], name="e"), waits, waits_too, replace(RUNS[0], name="well")]
    scripts = {"b": FAIL, "c": "raise ValueError('a fault')", "d": DIE, "e": "pass"}
    ended = _train(runs, place, scripts, jobs=5)
    assert "cannot be read" in ended[0].error
    assert [(run.state, run.error) for run in ended[1:]] == [
        ("failed", "no weights."),
        ("failed", "ValueError: a fault"),
        ("failed", "ended by signal 9"),
        ("failed", "ended with status 0 and without a message"),
        ("failed", "b failed, which it comes after"),
        ("failed", "waits failed, which it comes after"),
        ("trained", ""),
    ]


def test_a_run_of_other_settings_is_never_passed_off_as_the_planned_one(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "finished", 4).path
    longer, other = (
        replace(RUNS[0], config=CONFIG.override([each]))
        for each in ("train.epochs=6", "train.learning_rate=0.1")
    )
    assert trainings.is_finished(RUNS[0], folder)
    assert not trainings.is_finished(longer, folder)
    with pytest.raises(RunError, match="was trained with another configuration"):
        trainings.is_finished(other, folder)
    (failed,) = _train([other], place, {})
    assert failed.state == "failed"
    assert "another configuration" in failed.error
    begun = _write_run(RUNS[0], place, "interrupted", 2).path
    assert trainings.is_begun(RUNS[0], begun)
    assert not trainings.is_begun(other, begun)
    assert not trainings.is_begun(RUNS[1], place.run_folder(RUNS[1]))


def test_runs_share_the_cores_and_begin_once_those_they_come_after_are_finished(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(trainings, "core_count", lambda: 9)
    runs = [replace(RUNS[0], after=("b",)), *RUNS[1:3]]
    at = f"{FINISH}import time, os; at = [time.time(), int(os.environ['OMP_NUM_THREADS'])]\n"
    script = f"{at}import json; (run / 'at').write_text(json.dumps(at))"
    scripts = {"a": script, "b": f"import time; time.sleep(0.3)\n{script}", "c": script}
    assert {run.state for run in _train(runs, place, scripts, jobs=3)} == {"trained"}
    pupil, teacher, other = (json.loads((place.run_folder(run) / "at").read_text()) for run in runs)
    assert other[0] < teacher[0] < pupil[0]
    assert {each[1] for each in (pupil, teacher, other)} == {3}


def test_an_interruption_or_the_deadline_stops_trainings_and_none_is_begun(
    place: Workplace,
) -> None:
    began = place.out / "began"
    _write_run(RUNS[0], place, "interrupted", 1)
    script = f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(60)"

    def interrupt(_: Sequence[RunProgress]) -> None:
        if began.exists():
            raise KeyboardInterrupt

    train = partial(_train, RUNS[:2], place, {"a": script})
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(watch=interrupt)
    began.unlink()
    ended = train(deadline=time.monotonic() + 3)
    assert time.monotonic() - start < 50
    assert began.exists()
    assert [(run.state, run.epoch) for run in ended] == [("waiting", 1), ("waiting", 0)]
    assert not place.log_file(RUNS[1]).exists()


def test_at_the_deadline_a_trained_run_may_predict_to_its_end(place: Workplace) -> None:
    slow = FINISH + "import time; time.sleep(3); (run / 'predicted').touch()"
    (ended,) = _train(RUNS[:1], place, {"a": slow}, deadline=time.monotonic() + 1.5)
    assert ended.state == "trained"
    assert (place.run_folder(RUNS[0]) / "predicted").exists()


def test_a_training_ends_with_its_killed_queue_and_until_then_nobody_trains_beside_it(
    place: Workplace,
) -> None:
    (place.out / "runs").mkdir(parents=True)
    log, latest = place.log_file(RUNS[0]), time.monotonic() + 60
    with subprocess.Popen([sys.executable, "-c", QUEUE, str(place.out)]) as queue:
        while not (log.is_file() and "begun" in log.read_text()) and time.monotonic() < latest:
            time.sleep(0.1)
        with pytest.raises(RunError, match="another process trains in"):
            _train(RUNS[:1], place, {})
        queue.kill()
    ended: list[RunProgress] = []
    while not ended and time.monotonic() < latest:
        with suppress(RunError):  # what the queue began ends within a second or two
            ended = _train(RUNS[:1], place, {})
        time.sleep(0.1)
    assert [run.state for run in ended] == ["trained"]


def test_why_a_run_failed_is_noted_until_it_is_tried_again(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "running", 2)
    assert _train(RUNS[:1], place, {"a": FAIL})[0].error == "no weights."
    record = folder.read_record()
    assert (record["status"], record["error"]) == ("failed", "no weights.")
    (noted,) = survey(RUNS[:1], place)
    assert (noted.state, noted.epoch, noted.error) == ("waiting", 2, "no weights.")
    (ended,) = _train(RUNS[:1], place, {"a": DIE})
    assert ended.error == "ended by signal 9", "not what the log says of the last time"
    (ended,) = _train(RUNS[:1], place, {"a": FINISH + FAIL})
    assert (ended.state, ended.error) == ("failed", "no weights."), "it could not predict"
    assert trainings.is_finished(RUNS[0], folder.path), "what is trained stays trained"


def test_the_rate_is_the_mean_over_the_epochs_so_far(tmp_path: Path) -> None:
    def read(state: State) -> RunProgress:
        return trainings.read_progress(RUNS[0], tmp_path, state=state)

    assert read("running").seconds_left is None
    write_json(tmp_path / "run.json", {"epochs": 2, "seconds": 10.0})
    progress = read("running")
    assert (progress.epoch, progress.epochs, progress.seconds_per_epoch) == (2, 4, 5.0)
    states: list[State] = ["running", "trained", "failed"]
    assert [read(state).seconds_left for state in states] == [10.0, 0.0, None]
    (tmp_path / "run.json").write_text("{")
    assert read("waiting").epoch == 0


def test_what_is_left_is_shared_by_the_jobs_but_no_run_is_split() -> None:
    def left(*runs: tuple[State, float | None, float | None], jobs: int = 1) -> float | None:
        progress = [RunProgress("run", state, 0, 10, rate, left) for state, left, rate in runs]
        return trainings.seconds_left(progress, jobs=jobs)

    runs = [("running", 60, 6), ("running", 20, 6), ("reused", 0, None)]
    assert [left(*runs, jobs=jobs) for jobs in (1, 2)] == [80, 60]
    assert left(("running", 30, 5), ("waiting", None, None)) == 30 + 50
    assert left(("waiting", None, None)) is None
    assert left(("failed", None, None)) == 0.0


def test_durations_have_two_units_at_most() -> None:
    words = {0.2: "0 s", 61: "1 min 1 s", 3600: "1 h", 90_000: "1 d 1 h", 3725: "1 h 2 min"}
    assert {seconds: trainings.duration_in_words(seconds) for seconds in words} == words
