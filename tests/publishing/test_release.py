import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.config import Config, ModelConfig, TrainConfig
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import ConfigError, DataError, ExportError, RunError
from dermfuse.jobs import queue as queue_module
from dermfuse.jobs.queue import Pace
from dermfuse.jobs.trainings import Run, RunProgress, State, Workplace
from dermfuse.predictions.scores import read_scores
from dermfuse.publishing import release as module
from dermfuse.publishing.measured import require_recipe
from dermfuse.publishing.release import (
    MakeReport,
    MakeRequest,
    ReleaseRequest,
    build_release,
    make_release,
    prepare_release,
    read_subsets,
    require_subsets,
)
from dermfuse.release.folder import OUT_OF_FOLD_NAME, read_release
from dermfuse.training.prediction import TrainedNetwork

from .conftest import TINY, plant

FAIL = "import sys; print('dermfuse: error: no memory.'); sys.exit(2)"
SLEEP = "import time; time.sleep(60)"


def _trained(run: str, **train: object) -> TrainedNetwork:
    config = Config(name="small", train=replace(TrainConfig(), **train))  # type: ignore[arg-type]
    return TrainedNetwork(None, config, 1, Path(run))  # type: ignore[arg-type]


def test_folds_of_another_recipe_are_refused_and_seeds_and_threads_are_not_the_recipe() -> None:
    final = _trained("final")
    require_recipe(final, _trained("fold", seed=3, threads=2))
    with pytest.raises(ExportError, match=r"fold was trained with train.epochs 2, final with 50"):
        require_recipe(final, _trained("fold", epochs=2))


def test_how_the_images_are_split_is_not_the_recipe_and_their_size_is() -> None:
    final, fold = _trained("final"), _trained("fold")
    split = fold.config.override(["data.folds=3", "data.fold=1"])
    require_recipe(final, replace(fold, config=split))
    larger = replace(fold, config=split.override(["data.input_size=320"]))
    with pytest.raises(ExportError, match=r"trained with data.input_size 320, final with 224"):
        require_recipe(final, larger)


@pytest.mark.parametrize(
    ("runs", "folds", "message"),
    [
        (["classifier"], ["classifier"], "1 networks that score, 0 that outline and 0 that do"),
        (["classifier", "unet", "joint"], [], "1 networks that score, 1 that outline and 1 that"),
        (["classifier", "classifier"], [], "two of the networks that ship are called classifier"),
        (["classifier", "unet"], ["unet"], "classifier has no folds"),
        (["classifier", "unet"], [], "no memory"),
    ],
)
def test_a_release_that_cannot_be_leaves_nothing_behind(
    runs: list[str], folds: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_run(run: Path, **_: object) -> TrainedNetwork:
        model = ModelConfig(network=run.name)  # type: ignore[arg-type]
        return replace(_trained(run.name), config=Config(name=run.name, model=model))

    def fail(*arguments: object, **_: object) -> None:
        out = next(a for a in arguments if isinstance(a, Path) and a.name.startswith(".release"))
        (out / "half").write_text("half")
        raise ExportError("no memory")

    monkeypatch.setattr(module, "load_run", load_run)
    monkeypatch.setattr(module, "export_shipped", fail)
    paths = [Path(run) for run in runs]
    held_back = [Path(run) for run in folds] or paths
    request = ReleaseRequest(
        runs=paths, folds=held_back, data=tmp_path, out=tmp_path / "release", name="x"
    )
    with pytest.raises(ExportError, match=message):
        build_release(request)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_a_list_name_images(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("image_id,source\nISIC_0000001,a\n\nISIC_0000002,b\n")
    found = read_subsets([drawn, tmp_path / "few.csv"])
    assert found["few"] == {"ISIC_0000001", "ISIC_0000002"}
    assert len(found["data"]) == 30
    (tmp_path / "more.csv").write_text("age,image_id\n50,ISIC_0000003\n")
    assert read_subsets([tmp_path / "more.csv"])["more"] == {"ISIC_0000003"}


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("image_id\n")
    with pytest.raises(DataError, match=r"none.csv names no image"):
        read_subsets([tmp_path / "none.csv"])
    (tmp_path / "none.csv").write_text("isic_id,age\nISIC_0000001,5\n")
    with pytest.raises(DataError, match="no image_id column in the header isic_id,age"):
        read_subsets([tmp_path / "none.csv"])
    with pytest.raises(DataError, match="cannot be read"):
        read_subsets([tmp_path / "missing.csv"])
    with pytest.raises(DataError, match="holds no train images"):
        read_subsets([tmp_path])


def test_a_subset_needs_both_classes() -> None:
    labels = {"a": True, "b": False, "c": False}
    require_subsets({"both": frozenset("ab")}, labels)
    with pytest.raises(DataError, match="of one 0 malignant and 2 benign images are measured"):
        require_subsets({"one": frozenset("bcz")}, labels)


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


@pytest.fixture
def request_for(
    plan: Path, tinted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MakeRequest]:
    """Makes the request of the plan; steps are timed by a table."""
    monkeypatch.setattr(queue_module, "_time_steps", lambda *_, **__: Pace(0.01, 0.02, 1_000_000))

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


def test_runs_that_lie_there_become_a_release_that_analyses_with_predictions_and_card(
    request_for: Callable[..., MakeRequest],
    tinted: Path,
    tmp_path: Path,
    hand_made: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lesions = load_isic2016(tinted, "train").lesions
    listed, elsewhere = tmp_path / "half.csv", tmp_path / "elsewhere.csv"
    listed.write_text("image_id\n" + "\n".join(lesion.image_id for lesion in lesions[::2]))
    elsewhere.write_text("ISIC_9999999\n")
    request, begun = request_for(report_on=[listed]), []
    for run in _runs(request):
        plant(run.config, request.data, request.run_folder(run))
    with pytest.raises(DataError, match="of elsewhere 0 malignant"):
        make_release(replace(request, report_on=[elsewhere]), command=_script(FAIL))
    assert not (request.out / "release").exists()
    report = make_release(request, command=_script(FAIL), stage=lambda what, *_: begun.append(what))
    assert begun[1] == "release, exporting the networks (1 of 5)"
    assert {run.state for run in report.runs} == {"reused"}
    release = read_release(request.out / "release")
    assert (release.name, release.looks) == ("tiny", 4)
    assert [member.name for member in release.classes.members] == ["a", "b"]
    measured, masks = release.classes.measured, release.masks.measured
    assert (measured["images"], masks["images"]) == (60, 12), "the masks have one hold-out"
    assert measured["subsets"]["half"]["images"] == 30
    assert 0 < masks["subsets"]["half"]["images"] < 12
    assert measured["fusion"]["auc"]["value"] > 0.8, "the tint tells the class"
    assert set(measured["one_look"]["gain"]) == {"auc", "average_precision"}
    assert release.facts["fold_runs"][:2] == ["a-fold1of2", "a-fold2of2"]
    teachers = release.facts["recipes"]["a"]["train"]["teachers"]
    assert teachers == ["large-fold1of2", "large-fold2of2"]
    assert str(request.out) not in (request.out / "release" / "release.json").read_text()
    assert len(read_scores(request.out / "release" / OUT_OF_FOLD_NAME).image_ids) == 60
    analysis = Analyzer(request.out / "release", score_all=True).analyze(lesions[0].image_path)
    assert (analysis.looks, analysis.malignant_probability is None) == (4, False)
    assert set(report.written) == {"release", "blind", "card"}
    assert len((request.out / "blind" / "scores.csv").read_text().splitlines()) == 1 + 3
    assert (request.out / "blind" / "masks.zip").is_file()
    assert "withheld" in (request.out / "model-card.md").read_text()
    arguments = ["release", request.plan, "--data", str(request.data), "--out", str(request.out)]
    assert main([*arguments, "--jobs", "2"]) == 0, "what lies there is kept"
    said = capsys.readouterr().out
    assert "4 looks beside one: auc" in said
    assert "withheld: " in said
    again = make_release(request, command=_script(FAIL))
    assert again.release == release


def test_a_failed_training_is_reported_and_without_it_there_is_no_release(
    request_for: Callable[..., MakeRequest], capsys: pytest.CaptureFixture[str]
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

    monkeypatch.setattr(module, "make_release", lambda *_, **__: report(failed=True))
    assert main(arguments) == 3
    said = capsys.readouterr().out
    assert "a failed: no memory." in said
    assert "the same command tries again" in said
    monkeypatch.setattr(module, "make_release", lambda *_, **__: report(failed=False))
    assert main([*arguments, "--deadline", "60"]) == 3
    said = capsys.readouterr().out
    assert "a: 3 of 8 epochs are trained" in said
    assert "1 runs are left. The same command continues them." in said


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
    request_for: Callable[..., MakeRequest],
) -> None:
    request = request_for()
    fold, second = prepare_release(request).networks[2].folds
    plant(fold.config, request.data, request.run_folder(fold))
    other = fold.config.override(["train.epochs=7"])
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
