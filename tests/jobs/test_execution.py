import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dermfuse.errors import RunError
from dermfuse.jobs.execution import (
    Workplace,
    is_finished,
    survey,
    train_all,
    train_command,
)
from dermfuse.jobs.progress import RunProgress
from dermfuse.jobs.run import Run
from dermfuse.reproduction.plan import make_plan
from dermfuse.runs import RunFolder, write_json, write_text

RUNS = make_plan(["V"], folds=0, overrides=["train.epochs=4"]).runs

FINISH = """
import pathlib, sys
run = pathlib.Path(sys.argv[2]); run.mkdir(parents=True, exist_ok=True)
(run / "config.toml").write_text(pathlib.Path(sys.argv[1]).read_text())
(run / "best.safetensors").write_bytes(b"")
(run / "run.json").write_text('{"status": "finished", "epochs": 4, "seconds": 2.0}')
"""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "out", tmp_path / "data", None)


def _command(*scripts: str) -> Callable[[Run, Workplace], list[str]]:
    """A training that runs one script for each run, in the plan's order."""

    def command(run: Run, place: Workplace) -> list[str]:
        script = scripts[min(RUNS.index(run), len(scripts) - 1)]
        files = [str(place.config_file(run)), str(place.run_folder(run))]
        return [sys.executable, "-S", "-c", script, *files]

    return command


def _write_run(run: Run, place: Workplace, status: str, epochs: int) -> Path:
    folder = place.run_folder(run)
    write_text(RunFolder(folder).config, run.config.to_toml())
    RunFolder(folder).weights.write_bytes(b"")
    write_json(RunFolder(folder).record, {"status": status, "epochs": epochs, "seconds": 10.0})
    return folder


def test_what_is_finished_is_reused_and_the_rest_is_trained(place: Workplace) -> None:
    _write_run(RUNS[0], place, "finished", 4)
    seen: list[Sequence[RunProgress]] = []
    ended = train_all(RUNS[:3], place, jobs=2, watch=seen.append, command=_command(FINISH))
    assert [run.state for run in ended] == ["reused", "trained", "trained"]
    assert [run.epoch for run in ended] == [4, 4, 4]
    assert not place.log_file(RUNS[0]).exists(), "a finished run is not begun again"
    assert place.log_file(RUNS[1]).exists()
    assert [run.state for run in seen[-1]] == ["reused", "trained", "trained"]


def test_a_failing_run_is_reported_with_its_error_and_the_rest_go_on(place: Workplace) -> None:
    fails = "import sys; print('epoch 1'); print('dermfuse: error: no weights.'); sys.exit(2)"
    breaks = "raise ValueError('a fault')"
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ended = train_all(RUNS, place, jobs=4, command=_command(fails, breaks, dies, FINISH))
    assert [run.state for run in ended] == ["failed", "failed", "failed", "trained"]
    assert [run.error for run in ended] == [
        "no weights.",
        "ValueError: a fault",
        "ended by signal 9",
        "",
    ]


def test_a_process_that_ends_well_without_a_finished_run_has_failed(place: Workplace) -> None:
    ended = train_all(RUNS[:1], place, command=_command("pass"))
    assert ended[0].state == "failed"
    assert ended[0].error == "ended with status 0 and without a word"


def test_an_interruption_stops_the_trainings(place: Workplace) -> None:
    began = place.out / "began"

    def interrupt(_: Sequence[RunProgress]) -> None:
        if began.exists():
            raise KeyboardInterrupt

    place.out.mkdir()
    script = f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        train_all(RUNS[:1], place, watch=interrupt, command=_command(script))
    assert began.exists()


def test_an_interrupted_run_is_gone_on_with(place: Workplace) -> None:
    _write_run(RUNS[0], place, "interrupted", 1)
    waiting = survey(RUNS[:1], place)[0]
    assert (waiting.state, waiting.epoch, waiting.seconds_left) == ("waiting", 1, 30.0)
    command = train_command(RUNS[0], place)
    assert command[1:5] == ["-m", "dermfuse", "train", str(place.config_file(RUNS[0]))]
    assert command[-1] == "--resume"
    assert train_all(RUNS[:1], place, command=_command(FINISH))[0].state == "trained"


def test_a_run_of_other_settings_is_never_passed_off_as_the_planned_one(place: Workplace) -> None:
    other = make_plan(["V"], folds=0, overrides=["train.learning_rate=0.1"]).runs[0]
    folder = _write_run(other, place, "finished", 4)
    with pytest.raises(RunError, match="was trained with another configuration"):
        is_finished(RUNS[0], folder)
    failed = train_all(RUNS[:1], place, command=_command(FINISH))[0]
    assert failed.state == "failed"
    assert "another configuration" in failed.error


def test_a_run_that_is_to_be_longer_is_not_finished(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "finished", 4)
    longer = make_plan(["V"], folds=0, overrides=["train.epochs=6"]).runs[0]
    assert is_finished(RUNS[0], folder)
    assert not is_finished(longer, folder)


def test_every_dataset_folder_is_passed_on(tmp_path: Path) -> None:
    place = Workplace(tmp_path, [tmp_path / "a", tmp_path / "b"], None)
    command = train_command(RUNS[0], place)
    first = command.index("--data")
    assert command[first : first + 4] == [
        *("--data", str(tmp_path / "a")),
        *("--data", str(tmp_path / "b")),
    ]


def test_imagenet_weights_are_passed_on(tmp_path: Path) -> None:
    place = Workplace(tmp_path, tmp_path / "data", tmp_path / "weights")
    assert train_command(RUNS[0], place)[-2:] == ["--imagenet", str(tmp_path / "weights")]


def test_processes_side_by_side_share_the_cores(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    script = (
        FINISH + "\nimport os, json; (run / 'threads').write_text(json.dumps(dict(os.environ)))"
    )
    train_all(RUNS[:2], place, jobs=2, command=_command(script))
    environment = json.loads((place.run_folder(RUNS[0]) / "threads").read_text())
    assert environment["OMP_NUM_THREADS"] == "4"


def _named(name: str, *after: str, leave_out: Path | None = None) -> Run:
    return Run(name, "mobilenetv1", RUNS[0].config, after, leave_out)


def test_a_run_begins_once_those_it_comes_after_are_finished(place: Workplace) -> None:
    runs = [_named("pupil", "teacher"), _named("teacher"), _named("other")]
    script = FINISH + "\nimport time; (run / 'at').write_text(str(time.time()))"
    wait = "import time; time.sleep(0.3)\n" + script
    scripts = {"pupil": script, "teacher": wait, "other": script}

    def command(run: Run, place: Workplace) -> list[str]:
        files = [str(place.config_file(run)), str(place.run_folder(run))]
        return [sys.executable, "-S", "-c", scripts[run.name], *files]

    ended = train_all(runs, place, jobs=3, command=command)
    assert [run.state for run in ended] == ["trained"] * 3
    at = {run.name: float((place.run_folder(run) / "at").read_text()) for run in runs}
    assert at["other"] < at["teacher"] < at["pupil"]


def test_what_waits_for_a_failed_run_fails_and_the_rest_goes_on(place: Workplace) -> None:
    runs = [_named("teacher"), _named("pupil", "teacher"), _named("its-pupil", "pupil"),
            _named("other")]  # fmt: skip

    def command(run: Run, place: Workplace) -> list[str]:
        script = "import sys; sys.exit(2)" if run.name == "teacher" else FINISH
        files = [str(place.config_file(run)), str(place.run_folder(run))]
        return [sys.executable, "-S", "-c", script, *files]

    ended = {run.name: run for run in train_all(runs, place, jobs=1, command=command)}
    assert {name: run.state for name, run in ended.items()} == {
        "teacher": "failed", "pupil": "failed", "its-pupil": "failed", "other": "trained",
    }  # fmt: skip
    assert ended["its-pupil"].error == "pupil failed, which it comes after"


def test_at_the_deadline_trainings_are_stopped_and_nothing_is_begun(place: Workplace) -> None:
    began = place.out / "began"
    place.out.mkdir()
    _write_run(RUNS[0], place, "interrupted", 1)
    script = f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(60)"
    deadline = time.monotonic() + 1.5
    ended = train_all(RUNS[:2], place, deadline=deadline, command=_command(script))
    assert time.monotonic() < deadline + 20
    assert began.exists()
    assert [(run.state, run.epoch) for run in ended] == [("waiting", 1), ("waiting", 0)]
    assert not place.log_file(RUNS[1]).exists()


def test_a_list_of_what_is_left_out_is_passed_on(place: Workplace, tmp_path: Path) -> None:
    command = train_command(_named("a", leave_out=tmp_path / "list.csv"), place)
    assert command[-2:] == ["--leave-out", str(tmp_path / "list.csv")]
