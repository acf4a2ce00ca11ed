"""One class alone on a side of a split is found before the first of several runs begins."""

from pathlib import Path

import pytest

from dermfuse.config import load_preset
from dermfuse.errors import DataError
from dermfuse.folders import write_json, write_text
from dermfuse.jobs.estimate import require_sides
from dermfuse.jobs.trainings import Run, Workplace

LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"


@pytest.fixture
def place(drawn: Path, tmp_path: Path) -> Workplace:
    """Drawn images of which one alone is malignant."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("ISBI2016_ISIC_Part3_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"):
        (data / name).symlink_to(drawn / name)
    ids = [line.split(",")[0] for line in (drawn / LABELS).read_text().splitlines()]
    (data / LABELS).write_text("\n".join(f"{name},{int(name == ids[0])}" for name in ids))
    return Workplace(tmp_path / "out", data, None)


def _folds(preset: str) -> list[Run]:
    config = load_preset(preset)
    return [
        Run(f"{preset}-{k}", preset, config.override(["data.folds=3", f"data.fold={k}"]))
        for k in range(3)
    ]


def test_the_run_whose_fold_lacks_a_class_is_named(place: Workplace) -> None:
    with pytest.raises(DataError, match=r"mobilenetv1-\d: none of the \d+ images that are"):
        require_sides(_folds("mobilenetv1"), place)
    assert not place.out.exists()


def test_masks_and_finished_runs_are_not_asked(place: Workplace) -> None:
    require_sides(_folds("u-mobilenetv1"), place)
    runs = _folds("mobilenetv1")
    for run in runs:
        folder = place.run_folder(run)
        write_text(folder / "config.toml", run.config.to_toml())
        (folder / "best.safetensors").write_bytes(b"")
        write_json(folder / "run.json", {"status": "finished"})
    require_sides(runs, place)


def test_what_else_is_wrong_with_the_data_is_left_to_the_run(place: Workplace) -> None:
    (Path(str(place.data)) / LABELS).unlink()
    require_sides(_folds("mobilenetv1"), place)
