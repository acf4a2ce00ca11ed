import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.config import Config, ModelConfig
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.errors import (
    ConfigError,
    DataError,
    ExportError,
    ReleaseError,
    RunError,
    WeightsError,
)
from dermfuse.predictions.scores import read_scores
from dermfuse.publishing import release as module
from dermfuse.publishing.release import MakeRequest, make_release, prepare_release
from dermfuse.records.folders import write_json
from dermfuse.release.folder import OUT_OF_FOLD_NAME, read_release
from dermfuse.training import queue as queue_module
from dermfuse.training.jobs import Run, Workplace
from dermfuse.training.prediction import TrainedNetwork
from dermfuse.training.queue import Pace

from .conftest import plant

TINY = [
    *("model.init=random", "data.input_size=32", "train.epochs=1", "train.batch_size=8"),
    *("train.precision=float32", "train.threads=1", "train.schedule=cosine"),
]
NETWORKS = (
    ("mobilenetv1", 'name = "large"\nships = false'),
    ("mobilenetv1", 'name = "a"\nteachers = ["large"]'),
    ("mobilenetv1", 'name = "b"'),
    ("u-mobilenetv1", 'name = "u"\nfolds = 0'),
)
PLAN = 'name = "tiny"\nprecision = "float32"\nlooks = 4\nfolds = 2\n' + "".join(
    f'[[network]]\npreset = "{preset}"\nset = {TINY}\n{rest}\n' for preset, rest in NETWORKS
)


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
        config = Config(name=run.name, model=ModelConfig(network=run.name))  # type: ignore[arg-type]
        return TrainedNetwork(None, config, 1, run)  # type: ignore[arg-type]

    def fail(_: object, __: object, out: Path, **___: object) -> None:
        (out / "half").write_text("half")
        raise ExportError("no memory")

    monkeypatch.setattr(module, "load_run", load_run)
    monkeypatch.setattr(module, "export_shipped", fail)
    request = module.ReleaseRequest(
        runs=runs, folds=folds or runs, data=tmp_path, out=tmp_path / "release", name="x"
    )
    with pytest.raises(ConfigError, match="the release's name is ''"):
        replace(request, name="")
    with pytest.raises(ExportError, match=message):
        module.build_release(request)
    assert list(tmp_path.iterdir()) == []


def test_a_subset_is_a_folder_or_a_list_and_needs_both_classes(drawn: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("age,image_id\n5,isic_1\n\n6,ISIC_2\n")
    found = module.read_subsets([path, drawn])
    assert (found["few"], len(found["data"])) == ({"ISIC_1", "ISIC_2"}, 30)
    for text, message in (("image_id\n", "names no image"), ("isic_id,a\nb,5\n", "no image_id")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            module.read_subsets([path])
    with pytest.raises(DataError, match="two subsets are called data"):
        module.read_subsets([drawn, drawn])
    for wrong, message in ((tmp_path / "no.csv", "cannot be read"), (tmp_path, "no train images")):
        with pytest.raises(DataError, match=message):
            module.read_subsets([wrong])


@pytest.fixture
def request_(tinted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRequest:
    """Two networks that score, one taught by a third, one that outlines; steps take 10 ms."""
    monkeypatch.setattr(queue_module, "_time_steps", lambda *_, **__: Pace(0.01, 0.02, 1_000_000))
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    return MakeRequest(plan=str(plan), data=tinted, out=tmp_path / "out", jobs=2)


def _arguments(request: MakeRequest) -> list[str]:
    place = ["--data", str(request.data), "--out", str(request.out)]
    return ["release", request.plan, *place, "--jobs", "2"]


def _plant(request: MakeRequest, *, without: tuple[str, ...] = ()) -> None:
    for network in prepare_release(request).networks:
        for run in network.all:
            if not run.name.startswith(without):
                plant(run.config, request.data, request.run_folder(run))


def _script(text: str) -> Callable[[Run, Workplace], list[str]]:
    return lambda run, place: [sys.executable, "-S", "-c", text]


FAIL = _script("import sys; print('dermfuse: error: no memory.'); sys.exit(2)")


def test_what_would_be_trained_is_said_teachers_first_and_nothing_is_written(
    request_: MakeRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [run.name for run in prepare_release(request_).queue.runs]
    assert len(names) == (2 + 4) + 3 + 3 + 2
    for teachers, pupil in (("large-without1of2-fold", "a-fold1of2"), ("large-fold", "a")):
        assert max(names.index(f"{teachers}{k}of2") for k in (1, 2)) < names.index(pupil)
    assert main([*_arguments(request_), "--dry-run"]) == 0
    assert re.search(r"14 runs: about .* to .* of training", capsys.readouterr().out)
    assert main([*_arguments(request_), "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in record["runs"]] == ["waiting"] * 14
    assert not request_.out.exists()


def test_runs_that_lie_there_become_a_release_that_analyses_with_predictions_and_card(
    request_: MakeRequest, tmp_path: Path, hand_made: None, capsys: pytest.CaptureFixture[str]
) -> None:
    lesions = load_isic2016(request_.data, "train").lesions
    listed, elsewhere = tmp_path / "half.csv", tmp_path / "elsewhere.csv"
    listed.write_text("image_id\n" + "\n".join(lesion.image_id for lesion in lesions[::2]))
    elsewhere.write_text("ISIC_9999999\n")
    _plant(request_)
    with pytest.raises(DataError, match="of elsewhere 0 malignant"):
        make_release(replace(request_, report_on=[elsewhere]), command=FAIL)
    out = request_.out / "release"
    assert not out.exists()
    make_release(replace(request_, report_on=[listed]), command=FAIL)
    release = read_release(out)
    blind = request_.out / "blind"
    blind.rename(tmp_path / "blind")
    tested = load_isic2016(request_.data, "test").lesions[0].image_path
    other = copytree(request_.data, tmp_path / "other")
    (other / tested.relative_to(request_.data)).write_bytes(b"no image")
    with pytest.raises(DataError, match=f"the test image .*{tested.name} cannot be predicted"):
        make_release(replace(request_, data=other, report_on=[listed]), command=FAIL)
    assert not blind.exists()
    with pytest.raises(ReleaseError, match=f"Name {out}"):
        read_release(request_.out)
    assert (release.name, release.looks) == ("tiny", 4)
    measured, masks = release.classes.measured, release.masks.measured
    assert (measured["images"], masks["images"]) == (60, 12), "the masks have one hold-out"
    assert measured["subsets"]["half"]["images"] == 30
    assert measured["fusion"]["auc"]["value"] > 0.8, "the tint tells the class"
    assert str(request_.out) not in (out / "release.json").read_text()
    assert len(read_scores(out / OUT_OF_FOLD_NAME).image_ids) == 60
    analysis = Analyzer(out, score_all=True).analyze(lesions[0].image_path)
    assert (analysis.looks, analysis.malignant_probability is None) == (4, False)
    assert len((tmp_path / "blind" / "scores.csv").read_text().splitlines()) == 1 + 3
    written = (out / "release.json").stat()
    blind.mkdir()  # as a kill may leave it
    assert main(_arguments(request_)) == 0
    assert (out / "release.json").stat() == written, "what lies there is kept"
    assert len(list(blind.iterdir())) == 3
    said = capsys.readouterr().out
    assert "4 looks beside one: auc" in said


def test_what_lies_there_is_that_of_the_plan_and_its_images_or_is_refused(
    request_: MakeRequest, tmp_path: Path, hand_made: None
) -> None:
    _plant(request_)
    listed = tmp_path / "list.csv"
    lesions = load_isic2016(request_.data, "train").lesions
    listed.write_text(f"image_id,part\n{lesions[0].image_id},label\n")
    with pytest.raises(RunError, match=rf"saw 1 images that are now left.*{lesions[0].image_id}"):
        prepare_release(replace(request_, leave_out=listed))
    make_release(request_, command=FAIL)
    plan, other = Path(request_.plan), tmp_path / "other.csv"
    other.write_text("\n".join(lesion.image_id for lesion in lesions))
    for changed, message in (
        ("looks = 1", "made of a plan with looks 4, which is 1 now"),
        ('looks = 4\nweights = "equal"', "with weights fitted, which is equal now"),
    ):
        plan.write_text(PLAN.replace("looks = 4", changed))
        with pytest.raises(RunError, match=message):
            prepare_release(request_)
    plan.write_text(PLAN)
    with pytest.raises(RunError, match="without a report on other"):
        prepare_release(replace(request_, report_on=[other]))
    (request_.out / "release").rename(tmp_path / "away")
    with pytest.raises(RunError, match=r"blind was made of a release that is there no more"):
        make_release(request_, command=FAIL)


def test_networks_that_could_not_be_measured_together_are_refused_before_any_is_trained(
    request_: MakeRequest, tmp_path: Path
) -> None:
    lesions = load_isic2016(request_.data, "train").lesions
    listed, plan = tmp_path / "list.csv", Path(request_.plan)
    listed.write_text(f"image_id,part\n{lesions[0].image_id},label\n")
    plan.write_text(PLAN.replace('name = "b"', 'name = "b"\nleave_out = false'))
    with pytest.raises(DataError, match="a and b hold back different images"):
        prepare_release(replace(request_, leave_out=listed))
    rows = (f'preset = "u-mobilenetv1"\nset = {[*TINY, f"train.seed={k}"]}' for k in range(1, 9))
    masks = (f'[[network]]\nname = "u{k}"\nfolds = 0\n{row}\n' for k, row in enumerate(rows))
    plan.write_text(PLAN + "".join(masks))
    with pytest.raises(DataError, match=r"u, u0, u1.* hold back no mask together"):
        prepare_release(request_)
    plan.write_text(PLAN.replace("folds = 2", "folds = 50"))
    with pytest.raises(DataError, match=r"60 images leave.*fewer folds"):
        prepare_release(request_)


def test_what_failed_or_was_left_is_reported_and_without_it_there_is_no_release(
    request_: MakeRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(request_, without=("large", "a"))
    failed = make_release(request_, command=FAIL)
    states = {run.name: run.state for run in failed.runs}
    assert [states[name] for name in ("b", "large-fold1of2", "a")] == ["reused", "failed", "failed"]
    assert {run.error for run in failed.failed if run.name.startswith("large")} == {"no memory."}
    assert not (request_.out / "release").exists()
    sleep = _script("import time; time.sleep(60)")
    left = make_release(replace(request_, out=request_.out / "new", minutes=0.05), command=sleep)
    assert (len(left.left), left.release, left.failed) == (14, None, ())
    for report, sentences in (
        (failed, ("large-fold1of2 failed: no memory.", "the same command tries again")),
        (left, ("14 runs are left. The same command continues them.",)),
    ):
        monkeypatch.setattr(module, "make_release", lambda *_, found=report, **__: found)
        assert main(_arguments(request_)) == 3
        said = capsys.readouterr().out
        assert all(sentence in said for sentence in sentences)


def test_a_folder_of_something_else_or_of_a_release_of_other_runs_is_refused(
    request_: MakeRequest,
) -> None:
    (request_.out / "photos").mkdir(parents=True)
    with pytest.raises(RunError, match="is no release"):
        make_release(request_, command=FAIL)
    with pytest.raises(WeightsError, match=r"plan\.toml is no folder.*Correct --imagenet"):
        prepare_release(replace(request_, imagenet=request_.plan, out=request_.out / "new"))
    (request_.out / "photos").rmdir()
    fold, second = prepare_release(request_).networks[2].folds
    plant(fold.config, request_.data, request_.run_folder(fold))
    plant(fold.config.override(["train.epochs=7"]), request_.data, request_.run_folder(second))
    states = {each.name: each.state for each in prepare_release(request_).queue.estimates}
    assert (states[fold.name], states[second.name]) == ("reused", "failed")
    write_json(request_.out / "release" / "release.json", {})
    with pytest.raises(RunError, match="was made of other runs than the plan now trains"):
        make_release(request_, command=FAIL)
