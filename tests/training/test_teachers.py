import os
from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import load_preset
from dermfuse.data.splits import read_split
from dermfuse.errors import PredictionsError, RunError
from dermfuse.imaging.preprocess import write_probability
from dermfuse.predictions.folder import MANIFEST_NAME
from dermfuse.predictions.scores import ScoreTable, read_scores, write_scores
from dermfuse.records.folders import RunFolder
from dermfuse.release.folder import OUT_OF_FOLD_NAME, RELEASE_NAME
from dermfuse.training.samples import Lessons
from dermfuse.training.teachers import HELD_OUT_NAME, ask_teachers

from .tiny import ALL, Fit, tiny

FOLDS = ["augment.segmentation_draws=0", "data.folds=2"]


@pytest.fixture(scope="module")
def teachers(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    fit = Fit(drawn, tmp_path_factory.mktemp("teachers"))
    folds = [[*FOLDS, f"data.fold={fold}"] for fold in range(2)]
    return [fit("joint-mobilenetv1", *fold, run=fold[-1]).run for fold in folds]


def _named(*runs: Path) -> str:
    return f"train.teachers=[{', '.join(repr(str(run)) for run in runs)}]"


def test_an_image_is_taught_by_who_held_it_back_alone(teachers: list[Path], drawn: Path) -> None:
    splits = [read_split(RunFolder(run).split) for run in teachers]
    config = tiny("mobilenetv1", *FOLDS, _named(*teachers))
    lessons = ask_teachers(config, drawn, [*splits[0].train, *splits[0].validation])
    assert lessons is not None
    for run, split in zip(teachers, splits, strict=True):
        said = read_scores(run / HELD_OUT_NAME / "scores.csv")
        assert set(said.image_ids) == set(split.validation)
        taught = lessons.scores_of(said.image_ids)
        assert taught.tolist() == pytest.approx(said.scores.tolist())


def test_a_teacher_that_was_trained_on_is_asked_again(teachers: list[Path], drawn: Path) -> None:
    config = tiny("mobilenetv1", *FOLDS, _named(*teachers))
    ask_teachers(config, drawn, [])
    kept = [run / HELD_OUT_NAME / MANIFEST_NAME for run in teachers]
    before = [path.stat().st_mtime_ns for path in kept]
    ask_teachers(config, drawn, [])
    assert [path.stat().st_mtime_ns for path in kept] == before
    os.utime(RunFolder(teachers[0]).weights)
    ask_teachers(config, drawn, [])
    assert [path.stat().st_mtime_ns > at for path, at in zip(kept, before, strict=True)] == [
        True,
        False,
    ]


def test_teachers_that_held_an_image_back_say_their_mean(tmp_path: Path, drawn: Path) -> None:
    releases, maps = [tmp_path / "one", tmp_path / "two"], [tmp_path / "1.png", tmp_path / "2.png"]
    for release, file, value in zip(releases, maps, (0.2, 0.6), strict=True):
        release.mkdir()
        (release / RELEASE_NAME).write_text("{}")
        write_scores(release / OUT_OF_FOLD_NAME, ScoreTable(("a",), np.array([value])))
        write_probability(file, np.full((24, 32), value, np.float32))
    config = load_preset("mobilenetv1").override([_named(*releases)])
    lessons = ask_teachers(config, drawn, ["a"])
    assert lessons is not None
    assert lessons.scores_of(["a", "b"]).tolist() == pytest.approx([0.4, 0])
    squares = Lessons(None, {"a": maps}).maps_of(["a", "b"], 16)
    assert squares.shape == (2, 1, 16, 16)
    assert [np.unique(square).tolist() for square in squares] == [[102], [0]]


@pytest.mark.parametrize("preset", ["dc-mobilenetv1", "u-mobilenetv1", "joint-mobilenetv1"])
def test_a_pupil_learns_something_else_than_without_teachers(
    preset: str, teachers: list[Path], fit: Fit
) -> None:
    alone = fit(preset, *FOLDS, run="alone").best["train_loss"]
    assert alone != fit(preset, *FOLDS, _named(*teachers)).best["train_loss"]


def test_who_cannot_teach_is_refused(teachers: list[Path], classified: Path, fit: Fit) -> None:
    everything = fit("mobilenetv1", *ALL, "train.epochs=1", run="all").run
    release = fit.folder / "release"
    release.mkdir()
    (release / RELEASE_NAME).write_text("{}")
    for preset, named, error, found in (
        ("mobilenetv1", teachers[0], RunError, "no teacher of a score held back ISIC_"),  # its own
        ("mobilenetv1", everything, RunError, "was trained on every image"),
        ("u-mobilenetv1", classified, RunError, "answers classification alone"),
        ("mobilenetv1", fit.folder, RunError, "is no run folder"),
        ("mobilenetv1", release, PredictionsError, "does not exist"),
    ):
        with pytest.raises(error, match=found):
            fit(preset, *FOLDS, _named(named))
    assert not fit.run().path.exists()
