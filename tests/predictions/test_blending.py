from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.errors import PredictionsError
from dermfuse.imaging.preprocess import write_mask, write_probability
from dermfuse.predictions.folder import Predictions, mask_path, probability_path, read_predictions
from dermfuse.predictions.fusion import images_of, is_lesion, read_levels, scores_of, shared_task


def _read(folder: Path) -> Predictions:
    folder.mkdir()
    (folder / "scores.csv").write_text("image_id,score\nx,0.25\ny,0.75\n")
    return read_predictions(folder)


@given(st.lists(st.integers(0, 255), min_size=2, max_size=9))
def test_a_pixel_is_lesion_exactly_from_one_half_on(levels: list[int]) -> None:
    mean = np.zeros(1)
    for level in levels:
        mean += level / len(levels)
    assert bool(is_lesion(mean)[0]) == (2 * sum(levels) >= 255 * len(levels))


def test_scores_come_in_the_order_asked_for(tmp_path: Path) -> None:
    assert scores_of(_read(tmp_path / "a"), ["y", "x"]).tolist() == [0.75, 0.25]


def test_the_error_names_every_folder_without_a_task_in_common(tmp_path: Path) -> None:
    a = _read(tmp_path / "a")
    write_mask(tmp_path / "b" / "masks" / "x.png", np.eye(16, dtype=bool))
    b = read_predictions(tmp_path / "b")
    assert (shared_task([a, a]), shared_task([b, b])) == ("classification", "segmentation")
    with pytest.raises(PredictionsError, match=r"/a and .*/b have no task in common"):
        shared_task([a, b])


def test_folders_with_scores_and_masks_have_both_in_common(tmp_path: Path) -> None:
    scored = _read(tmp_path / "scored")
    for name in ("a", "b"):
        for image_id in "xy":
            write_mask(mask_path(tmp_path / name, image_id), np.eye(16, dtype=bool))
        (tmp_path / name / "scores.csv").write_text("image_id,score\nx,0.25\ny,0.75\n")
    a, b = read_predictions(tmp_path / "a"), read_predictions(tmp_path / "b")
    assert shared_task([a, b]) == "joint"
    assert shared_task([a, scored]) == "classification"
    assert images_of(a, "joint") == {"x", "y"}
    mask_path(tmp_path / "b", "y").unlink()
    with pytest.raises(PredictionsError, match=r"b holds a score or a mask alone of y"):
        images_of(read_predictions(tmp_path / "b"), "joint")


def test_maps_of_different_size_are_refused(tmp_path: Path) -> None:
    folders = []
    for name, width in (("a", 16), ("b", 16), ("c", 32)):
        write_probability(probability_path(tmp_path / name, "x"), np.zeros((16, width), np.float32))
        write_mask(tmp_path / name / "masks" / "x.png", np.zeros((16, width), bool))
        folders.append(read_predictions(tmp_path / name))
    assert [levels.max() for levels in read_levels(folders[:2], "x")] == [0, 0]
    with pytest.raises(PredictionsError, match=r"a/.*16 x 16 pixels and .*c/.*32 x 16 pixels"):
        read_levels(folders, "x")
