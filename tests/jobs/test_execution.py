import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.errors import RunError
from dermfuse.folders import RunFolder, write_json, write_text
from dermfuse.jobs.trainings import (
    Run,
    RunProgress,
    Workplace,
    has_predicted,
    is_begun,
    is_finished,
    predict_command,
    survey,
    train_all,
    train_command,
)
from dermfuse.reproduction.plan import make_plan

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


PREDICT = """
import pathlib, sys
out = pathlib.Path(sys.argv[3])
for part in sys.argv[4].split(","):
    (out / part).mkdir(parents=True, exist_ok=True)
    (out / part / "predictions.json").write_text("{}")
print("predicted", flush=True)
"""


def _asked(run: Run) -> Run:
    return replace(run, parts=("validation", "test-tta"))


def _predicting(script: str) -> Callable[[Run, Workplace], list[str]]:
    def command(run: Run, place: Workplace) -> list[str]:
        files = [place.config_file(run), place.run_folder(run), place.predictions_folder(run)]
        return [sys.executable, "-S", "-c", script, *map(str, files), ",".join(run.parts)]

    return command


def test_a_training_predicts_in_its_own_process(place: Workplace) -> None:
    run = _asked(RUNS[0])
    command = train_command(run, place)
    first = command.index("--predict")
    folder = str(place.out / "predictions" / run.name)
    assert command[first : first + 4] == ["--predict", folder, "--parts", "validation,test-tta"]
    assert "--predict" not in train_command(RUNS[0], place)
    ended = train_all([run], place, command=_predicting(FINISH + PREDICT), predict=_command("1/0"))
    assert ended[0].state == "trained"
    assert place.log_file(run).read_text().split() == ["predicted"]
    assert has_predicted(run, place)


def test_a_finished_run_that_has_not_predicted_does_so_without_a_training(
    place: Workplace,
) -> None:
    run = _asked(RUNS[0])
    _write_run(run, place, "finished", 4)
    command = predict_command(run, place)
    assert command[1:5] == ["-m", "dermfuse", "predict", str(place.run_folder(run))]
    assert command[-2:] == ["--parts", "validation,test-tta"]
    fails = _command("raise ValueError('it was trained')")
    for _ in range(2):  # the second time there is nothing to do
        ended = train_all([run], place, command=fails, predict=_predicting(PREDICT))
        assert ended[0].state == "reused"
    assert place.log_file(run).read_text().split() == ["predicted"]


def test_a_run_that_cannot_be_predicted_with_has_failed(place: Workplace) -> None:
    run = _asked(RUNS[0])
    script = "import sys; print('dermfuse: error: memory ran out.'); sys.exit(2)"
    after = train_all([run], place, command=_predicting(FINISH + script))
    again = train_all([run], place, predict=_predicting(script))
    for ended in (*after, *again):
        assert (ended.state, ended.error) == ("failed", "memory ran out.")
    assert is_finished(run, place.run_folder(run)), "what is trained stays trained"


def test_at_the_deadline_what_has_whole_epochs_is_predicted_by_them(place: Workplace) -> None:
    runs = [_asked(run) for run in RUNS[:3]]
    _write_run(runs[0], place, "running", 2)
    _write_run(runs[2], place, "interrupted", 1)
    sleep = _predicting("import time; time.sleep(60)")
    ended = train_all(
        runs, place, jobs=1, deadline=time.monotonic() + 1, command=sleep,
        predict=_predicting(PREDICT),
    )  # fmt: skip
    assert [(run.state, run.epoch) for run in ended] == [("waiting", n) for n in (2, 0, 1)]
    assert [has_predicted(run, place) for run in runs] == [True, False, True]
    assert [is_begun(run, place.run_folder(run)) for run in runs] == [True, False, True]
    longer = replace(runs[0], config=runs[0].config.override(["train.seed=7"]))
    assert not is_begun(longer, place.run_folder(runs[0])), "those are another run's epochs"


def test_at_the_deadline_a_trained_run_may_predict_to_its_end(place: Workplace) -> None:
    run = _asked(RUNS[0])
    slow = FINISH + "import time; time.sleep(3)\n" + PREDICT
    ended = train_all(
        [run], place, deadline=time.monotonic() + 1.5, command=_predicting(slow),
        predict=_command("1/0"),
    )  # fmt: skip
    assert ended[0].state == "trained"
    assert has_predicted(run, place)


def test_why_a_run_failed_is_noted_until_it_is_tried_again(place: Workplace) -> None:
    folder = _write_run(RUNS[0], place, "running", 2)
    fails = "import sys; print('dermfuse: error: the loss is nan.'); sys.exit(2)"
    assert train_all(RUNS[:1], place, command=_command(fails))[0].error == "the loss is nan."
    record = RunFolder(folder).read_record()
    assert (record["status"], record["error"]) == ("failed", "the loss is nan.")
    noted = survey(RUNS[:1], place)[0]
    assert (noted.state, noted.epoch, noted.error) == ("waiting", 2, "the loss is nan.")
    seen: list[Sequence[RunProgress]] = []
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ended = train_all(RUNS[:1], place, watch=seen.append, command=_command(dies))
    assert ended[0].error == "ended by signal 9", "not what the log says of the last time"
    assert seen[0][0].error in ("", ended[0].error)


def test_a_damaged_record_fails_its_run_alone(place: Workplace) -> None:
    runs = [_asked(run) for run in RUNS[:2]]
    folder = _write_run(runs[0], place, "running", 2)
    RunFolder(folder).record.write_text("{")
    ended = train_all(runs, place, command=_predicting(FINISH + PREDICT))
    assert [run.state for run in ended] == ["failed", "trained"]
    assert "cannot be read" in ended[0].error
