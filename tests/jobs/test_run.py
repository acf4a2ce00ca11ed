from dataclasses import replace

from dermfuse.config import Config, TrainConfig
from dermfuse.jobs.trainings import identity


def _config(**train: object) -> Config:
    return Config(train=replace(TrainConfig(), **train))  # type: ignore[arg-type]


def test_names_and_threads_are_not_the_run_and_epochs_are() -> None:
    assert identity(_config()) == identity(replace(_config(threads=3), name="other"))
    assert identity(_config()) != identity(_config(epochs=3))


def test_teachers_are_known_by_their_names() -> None:
    here, moved = (_config(teachers=(f"{folder}/a-fold1of3",)) for folder in ("/x", "/y/z"))
    assert identity(here) == identity(moved)
    assert identity(here) != identity(_config(teachers=("/x/b-fold1of3",)))
