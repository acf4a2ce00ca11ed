from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import Config, load_preset
from dermfuse.data.splits import read_split
from dermfuse.errors import PredictionsError, RunError
from dermfuse.folders import RunFolder
from dermfuse.imaging.preprocess import write_probability
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.release.folder import OUT_OF_FOLD_NAME, RELEASE_NAME
from dermfuse.training import train
from dermfuse.training.samples import Lessons
from dermfuse.training.teachers import HELD_OUT_NAME, ask_teachers

from .tiny import ALL, tiny

FOLDS = 2


def _fold(preset: str, fold: int, *more: str) -> Config:
    settings = [f"data.folds={FOLDS}", f"data.fold={fold}"]
    return tiny(preset, "augment.segmentation_draws=0", *settings, *more)


@pytest.fixture(scope="module")
def teachers(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("teachers")
    configs = [_fold("joint-mobilenetv1", fold) for fold in range(FOLDS)]
    return [train(c, data=drawn, run=folder / str(c.data.fold)).run for c in configs]


def _named(runs: list[Path]) -> str:
    return f"train.teachers=[{', '.join(repr(str(run)) for run in runs)}]"


def test_an_image_is_taught_by_who_held_it_back_alone(teachers: list[Path], drawn: Path) -> None:
    config = _fold("mobilenetv1", 0, _named(teachers))
    splits = [read_split(RunFolder(run).split) for run in teachers]
    everyone = sorted(set(splits[0].train) | set(splits[0].validation))
    lessons = ask_teachers(config, drawn, everyone)
    assert lessons is not None
    assert lessons.scores is not None
    for run, split in zip(teachers, splits, strict=True):
        lines = (run / HELD_OUT_NAME / "scores.csv").read_text().splitlines()[1:]
        said = dict(line.split(",") for line in lines)
        assert set(said) == set(split.validation)
        assert all(lessons.scores[i] == float(score) for i, score in said.items())


def test_two_teachers_that_held_an_image_back_say_their_mean(tmp_path: Path, drawn: Path) -> None:
    for name, score in (("one", 0.2), ("two", 0.6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / RELEASE_NAME).write_text("{}")
        write_scores(tmp_path / name / OUT_OF_FOLD_NAME, ScoreTable(("a",), np.array([score])))
    config = load_preset("mobilenetv1").override([_named([tmp_path / "one", tmp_path / "two"])])
    lessons = ask_teachers(config, drawn, ["a"])
    assert lessons is not None
    scores = lessons.scores_of(["a", "b"])
    assert scores is not None
    assert scores.tolist() == pytest.approx([0.4, 0])


def test_maps_are_squeezed_and_averaged(tmp_path: Path) -> None:
    for name, value in (("one", 0.2), ("two", 0.6)):
        write_probability(tmp_path / f"{name}.png", np.full((24, 32), value, np.float32))
    lessons = Lessons(None, {"a": [tmp_path / "one.png", tmp_path / "two.png"]})
    maps = lessons.maps_of(["a", "b"], 16)
    assert maps is not None
    assert maps.shape == (2, 1, 16, 16)
    assert np.unique(maps[0]).tolist() == [102]
    assert np.unique(maps[1]).tolist() == [0]
    assert lessons.scores_of(["a"]) is None


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1", "joint-mobilenetv1"])
def test_a_pupil_learns_something_else_than_without_teachers(
    preset: str, teachers: list[Path], drawn: Path, tmp_path: Path
) -> None:
    losses = []
    for name, more in (("alone", ()), ("taught", (_named(teachers),))):
        report = train(_fold(preset, 0, *more), data=drawn, run=tmp_path / name)
        losses.append(report.best["train_loss"])
    assert losses[0] != losses[1]


def test_a_teacher_that_learnt_the_image_or_answers_another_task_is_refused(
    teachers: list[Path], classified: Path, drawn: Path, tmp_path: Path
) -> None:
    everything = tiny("mobilenetv1", *ALL, "train.epochs=1")
    train(everything, data=drawn, run=tmp_path / "all")
    for preset, named, message in (
        ("mobilenetv1", teachers[:1], "no teacher of a score held back ISIC_"),  # its own fold
        ("mobilenetv1", [tmp_path / "all"], "was trained on every image"),
        ("u-mobilenetv1", [classified], "answers classification alone"),
    ):
        with pytest.raises(RunError, match=message):
            train(_fold(preset, 0, _named(named)), data=drawn, run=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_what_is_no_run_or_a_release_without_answers_is_refused(
    drawn: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        ask_teachers(_fold("mobilenetv1", 0, _named([tmp_path / "no"])), drawn, ["a"])
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / RELEASE_NAME).write_text("{}")
    with pytest.raises(PredictionsError, match="does not exist"):
        ask_teachers(_fold("mobilenetv1", 0, _named([tmp_path / "release"])), drawn, ["a"])
