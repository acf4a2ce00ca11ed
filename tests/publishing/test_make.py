import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dermfuse.cli import main
from dermfuse.errors import ConfigError, RunError
from dermfuse.jobs import queue as queue_module
from dermfuse.jobs.queue import Pace
from dermfuse.jobs.trainings import Run, RunProgress, State, Workplace
from dermfuse.publishing import release as make
from dermfuse.publishing.plan import plan_runs
from dermfuse.publishing.release import MakeReport, MakeRequest, make_release, prepare_release
from dermfuse.release.folder import read_release

from .conftest import TINY, Plant

FAIL = "import sys; print('dermfuse: error: no memory.'); sys.exit(2)"
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Two networks that score, one of them taught by a third, and one that outlines."""
    tiny = ", ".join(f'"{assignment}"' for assignment in (*TINY, "train.schedule=cosine"))
    networks = (
        'name = "large"\nships = false',
        'name = "a"\nteachers = ["large"]',
        'name = "b"',
        'name = "u"\nfolds = 0',
    )
    path = tmp_path / "plan.toml"
    path.write_text(
        'name = "tiny"\nprecision = "float32"\nlooks = 4\nfolds = 2\n'
        + "".join(
            f'[[network]]\npreset = "{"u-" if "u" in one[8:9] else ""}mobilenetv1"\n'
            f"set = [{tiny}]\n{one}\n"
            for one in networks
        )
    )
    return path


@pytest.fixture(autouse=True)
def quick_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_time_steps", lambda *_, **__: Pace(0.01, 0.02, 1_000_000))


@pytest.fixture
def request_for(plan: Path, tinted: Path, tmp_path: Path) -> Callable[..., MakeRequest]:
    def make(**more: object) -> MakeRequest:
        fixed = {"plan": str(plan), "data": tinted, "out": tmp_path / "out", "jobs": 2}
        return MakeRequest(**{**fixed, **more})  # type: ignore[arg-type]

    return make


def _runs(request: MakeRequest) -> list[Run]:
    prepared = prepare_release(request)
    return [run for network in prepared.networks for run in network.all]


def _script(text: str) -> Callable[[Run, Workplace], list[str]]:
    return lambda run, place: [sys.executable, "-S", "-c", text]


def test_what_would_be_trained_is_said_teachers_first_and_nothing_is_written(
    request_for: Callable[..., MakeRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for()
    names = [run.name for run in prepare_release(request).queue.runs]
    assert len(names) == (2 + 4) + 3 + 3 + 2
    for teachers, pupil in (
        ("large-without1of2-fold", "a-fold1of2"),
        ("large-without2of2-fold", "a-fold2of2"),
        ("large-fold", "a"),
    ):
        assert max(names.index(f"{teachers}{k}of2") for k in (1, 2)) < names.index(pupil)
    arguments = ["release", request.plan, "--data", str(request.data), "--out", str(request.out)]
    assert main([*arguments, "--dry-run", "--jobs", "2"]) == 0
    assert re.search(r"14 runs: about .* to .* of training", capsys.readouterr().out)
    assert main([*arguments, "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in record["runs"]] == ["waiting"] * 14
    assert record["most_seconds"] == pytest.approx(2 * record["seconds"], rel=0.01)
    assert not request.out.exists()


def test_runs_that_lie_there_become_a_release_with_predictions_and_card(
    request_for: Callable[..., MakeRequest],
    plant: Plant,
    hand_made: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = request_for()
    for run in _runs(request):
        plant(run.config, request.data, request.run_folder(run))
    report = make_release(request, command=_script(FAIL))
    assert {run.state for run in report.runs} == {"reused"}
    release = read_release(request.out / "release")
    assert release.name == "tiny"
    assert release.looks == 4
    assert [member.name for member in release.classes.members] == ["a", "b"]
    assert release.facts["recipes"]["a"]["train"]["teachers"] == [
        "large-fold1of2", "large-fold2of2",
    ]  # fmt: skip
    assert str(request.out) not in (request.out / "release" / "release.json").read_text()
    assert set(report.written) == {"release", "blind", "card"}
    scores = (request.out / "blind" / "scores.csv").read_text().splitlines()
    assert len(scores) == 1 + 3
    assert (request.out / "blind" / "masks.zip").is_file()
    card = (request.out / "model-card.md").read_text()
    assert "withheld" in card
    arguments = ["release", request.plan, "--data", str(request.data), "--out", str(request.out)]
    assert main([*arguments, "--jobs", "2"]) == 0, "what lies there is kept"
    said = capsys.readouterr().out
    assert "4 looks beside one: auc" in said
    assert "withheld: " in said
    again = make_release(request, command=_script(FAIL))
    assert again.release == read_release(request.out / "release")


def test_a_failed_training_is_reported_and_without_it_there_is_no_release(
    request_for: Callable[..., MakeRequest], plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for()
    for run in _runs(request):
        if not run.name.startswith(("large", "a")):
            plant(run.config, request.data, request.run_folder(run))
    report = make_release(request, command=_script(FAIL))
    states = {run.name: run.state for run in report.runs}
    assert states["b"] == "reused"
    assert states["large-fold1of2"] == states["a"] == "failed"
    assert {run.error for run in report.failed if run.name.startswith("large")} == {"no memory."}
    assert report.release is None
    assert not (request.out / "release").exists()


def test_the_command_says_what_failed_and_what_is_left(
    request_for: Callable[..., MakeRequest],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = request_for()
    arguments = ["release", request.plan, "--data", str(request.data), "--out", str(request.out)]

    def report(failed: bool) -> MakeReport:
        error = "no memory." if failed else ""
        state: State = "failed" if failed else "waiting"
        return MakeReport((RunProgress("a", state, 3, 8, 1.0, 5.0, error),), None, {})

    monkeypatch.setattr(make, "make_release", lambda *_, **__: report(failed=True))
    assert main(arguments) == 3
    said = capsys.readouterr().out
    assert "a failed: no memory." in said
    assert "the same command tries again" in said
    monkeypatch.setattr(make, "make_release", lambda *_, **__: report(failed=False))
    assert main([*arguments, "--deadline", "60"]) == 3
    said = capsys.readouterr().out
    assert "a: 3 of 8 epochs are trained" in said
    assert "1 runs are left. The same command goes on with them." in said


def test_at_the_deadline_the_rest_is_left(request_for: Callable[..., MakeRequest]) -> None:
    report = make_release(request_for(minutes=0.05), command=_script(SLEEP))
    assert len(report.left) == 14
    assert report.release is None
    assert not report.failed


def test_a_deadline_before_the_first_epoch_is_refused_before_anything_is_written(
    request_for: Callable[..., MakeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_time_steps", lambda *_, **__: Pace(10.0, 10.0, 1_000_000))
    request = request_for(minutes=1.0)
    with pytest.raises(ConfigError, match="a deadline of 1 minutes leaves no time for one epoch"):
        make_release(request)
    assert not request.out.exists()
    with pytest.raises(ConfigError, match="the deadline is 0 minutes"):
        make_release(request_for(minutes=0.0))


def test_a_folder_of_something_else_and_a_release_of_other_runs_are_refused(
    request_for: Callable[..., MakeRequest],
) -> None:
    request = request_for()
    (request.out / "photos").mkdir(parents=True)
    with pytest.raises(RunError, match="is no release"):
        make_release(request, command=_script(FAIL))
    (request.out / "runs").mkdir()
    (request.out / "release").mkdir()
    (request.out / "release" / "release.json").write_text("{}")
    with pytest.raises(RunError, match="was made of other runs than the plan now trains"):
        make_release(request, command=_script(FAIL))


def test_hand_trained_runs_are_known_by_their_recipe(
    request_for: Callable[..., MakeRequest], plant: Plant
) -> None:
    request = request_for()
    plan = prepare_release(request)
    fold = plan_runs(plan.plan, request)[2].folds[0]
    plant(fold.config, request.data, request.run_folder(fold))
    other = fold.config.override(["train.epochs=7"])
    second = plan_runs(plan.plan, request)[2].folds[1]
    plant(other, request.data, request.run_folder(second))
    states = {each.name: each.state for each in prepare_release(request).queue.estimates}
    assert states[fold.name] == "reused"
    assert states[second.name] == "failed", "of another configuration"


def test_a_plan_with_an_unknown_key_is_one_line(
    tmp_path: Path, tinted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\nlook = 8\n[[network]]\npreset = "unet"\n')
    out = tmp_path / "out"
    arguments = ["release", str(tmp_path / "bad.toml"), "--data", str(tinted), "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert 'no key "plan.look"' in error[0]
    assert not out.exists()
