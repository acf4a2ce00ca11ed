"""Fusion: weights by hand, the grid against brute force, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dermfuse.errors import ConfigError, DataError, PredictionsError, RunError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability, write_mask, write_probability
from dermfuse.predictions.folder import (
    Manifest,
    mask_path,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.predictions.fusion import (
    WEIGHTS,
    FitOn,
    count_fused,
    fit_score_weight,
    fuse,
    fuse_scores,
)
from dermfuse.predictions.metrics import average_precision, count
from dermfuse.predictions.scores import ScoreTable, write_scores


def write_folder_of_scores(folder: Path, scores: dict[str, float], split: str = "test") -> Path:
    write_scores(folder / "scores.csv", ScoreTable(tuple(scores), np.array(list(scores.values()))))
    write_manifest(folder, Manifest("classification", source=f"net-{folder.name}", split=split))
    return folder


def write_folder_of_maps(folder: Path, maps: dict[str, NDArray[np.float32]], split: str) -> Path:
    for image_id, probability in maps.items():
        write_probability(probability_path(folder, image_id), probability)
        write_mask(mask_path(folder, image_id), probability >= 0.5)
    write_manifest(folder, Manifest(task="segmentation", source=folder.name, split=split))
    return folder


def flat(*levels: int) -> NDArray[np.float32]:
    """A map of 16 rows, each as long as the levels, each level 16 pixels wide."""
    row = np.repeat(np.array(levels, dtype=np.float32) / 255, 16)
    return np.tile(row, (16, 1))


def test_scores_are_averaged_with_the_weight_given(tmp_path: Path) -> None:
    a = write_folder_of_scores(tmp_path / "a", {"x": 0.2, "y": 1.0})
    b = write_folder_of_scores(tmp_path / "b", {"y": 0.0, "x": 0.6})
    report = fuse(a, b, tmp_path / "out", weight=0.25)
    fused = read_predictions(tmp_path / "out")
    assert fused.score_by_id() == pytest.approx({"x": 0.5, "y": 0.25})
    assert fused.manifest.source == "fusion of net-a and net-b"
    assert fused.manifest.split == "test"
    assert fused.manifest.details == {"weight": 0.25, "fit": None}
    assert (report.task, report.weight, report.image_count) == ("classification", 0.25, 2)
    assert report.fit is None
    assert json.loads(json.dumps(report.to_dict()))["weight"] == 0.25


def test_without_a_weight_the_plain_mean_is_taken(tmp_path: Path) -> None:
    a = write_folder_of_scores(tmp_path / "a", {"x": 0.2})
    b = write_folder_of_scores(tmp_path / "b", {"x": 0.6}, split="validation")
    assert fuse(a, b, tmp_path / "out").weight == 0.5
    assert read_predictions(tmp_path / "out").score_by_id() == pytest.approx({"x": 0.4})
    assert read_predictions(tmp_path / "out").manifest.split == ""


def test_the_weight_is_chosen_on_validation(tmp_path: Path) -> None:
    # A ranks u before v, B the other way about: only together do both come before w and z.
    val_a = {"u": 0.9, "v": 0.3, "w": 0.5, "z": 0.1}
    val_b = {"u": 0.3, "v": 0.9, "w": 0.1, "z": 0.5}
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "labels.csv").write_text("image_id,label\nu,1\nv,1\nw,0\nz,0\n")
    fit = FitOn(
        write_folder_of_scores(tmp_path / "va", val_a, "validation"),
        write_folder_of_scores(tmp_path / "vb", val_b, "validation"),
        truth,
    )
    a = write_folder_of_scores(tmp_path / "a", {"x": 0.0})
    b = write_folder_of_scores(tmp_path / "b", {"x": 1.0})
    report = fuse(a, b, tmp_path / "out", fit=fit)
    assert report.weight == 0.5
    assert report.fit is not None
    assert report.fit.metric == "average_precision"
    assert report.fit.image_count == 4
    assert report.fit.fused == 1.0
    assert report.fit.a == report.fit.b == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert read_predictions(tmp_path / "out").manifest.details["fit"]["image_count"] == 4


def test_of_equally_good_weights_the_nearest_to_one_half_is_taken() -> None:
    labels = np.array([True, False])
    right, wrong = np.array([0.8, 0.2]), np.array([0.2, 0.8])
    assert fit_score_weight(labels, right, right)[0] == 0.5
    # 0.6 w + 0.2 > 0.8 - 0.6 w from w = 0.51 on; below one half it is the other way about.
    assert fit_score_weight(labels, right, wrong)[0] == 0.51
    assert fit_score_weight(labels, wrong, right)[0] == 0.49


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(float, (2, 12), elements=st.floats(0, 1)))
def test_the_best_weight_is_at_least_as_good_as_either_model(
    scores: NDArray[np.float64],
) -> None:
    labels = np.arange(12) < 4
    weight, values = fit_score_weight(labels, *scores)
    best = average_precision(labels, fuse_scores(*scores, weight))
    assert best == values.max() >= max(average_precision(labels, s) for s in scores)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 6, 5), elements=st.sampled_from([0, 100, 127, 128, 155, 255])),
    hnp.arrays(bool, (6, 5)),
)
def test_counts_of_every_weight_are_those_of_the_fused_masks(
    levels: NDArray[np.uint8], truth: NDArray[np.bool_]
) -> None:
    counted = count_fused(*levels, truth)
    for weight, counts in list(zip(WEIGHTS, counted, strict=True))[::10]:
        hundredths = round(100 * weight)
        twice = 2 * (
            hundredths * levels[0].astype(int) + (100 - hundredths) * levels[1].astype(int)
        )
        assert counts == count(twice >= 255 * 100, truth)


def test_maps_are_averaged_and_a_half_is_lesion(tmp_path: Path) -> None:
    a = write_folder_of_maps(tmp_path / "a", {"x": flat(255, 128, 100, 0)}, "test")
    b = write_folder_of_maps(tmp_path / "b", {"x": flat(255, 127, 150, 0)}, "test")
    report = fuse(a, b, tmp_path / "out")
    assert (report.task, report.weight) == ("segmentation", 0.5)
    fused = read_predictions(tmp_path / "out")
    assert fused.scores is None
    assert read_mask(fused.masks["x"])[0, ::16].tolist() == [True, True, False, False]
    levels = np.rint(read_probability(fused.probabilities["x"]) * 255)
    assert levels[0, ::16].tolist() == [255, 128, 125, 0]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, flat(0, 200)), (1.0, flat(90, 255))])
def test_a_weight_of_zero_or_one_is_one_model_alone(
    tmp_path: Path, weight: float, expected: NDArray[np.float32]
) -> None:
    a = write_folder_of_maps(tmp_path / "a", {"x": flat(90, 255)}, "test")
    b = write_folder_of_maps(tmp_path / "b", {"x": flat(0, 200)}, "test")
    fuse(a, b, tmp_path / "out", weight=weight)
    fused = read_predictions(tmp_path / "out")
    assert read_probability(fused.probabilities["x"]) == pytest.approx(expected)
    assert (read_mask(fused.masks["x"]) == (expected >= 0.5)).all()


def test_the_weight_of_maps_is_chosen_by_jaccard(tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    write_mask(truth / "masks" / "v.png", flat(255, 255, 0, 0) > 0.5)
    fit = FitOn(
        write_folder_of_maps(tmp_path / "va", {"v": flat(255, 255, 0, 0)}, "validation"),
        write_folder_of_maps(tmp_path / "vb", {"v": flat(0, 255, 255, 0)}, "validation"),
        truth,
    )
    maps = {"x": flat(255, 0)}
    a, b = (write_folder_of_maps(tmp_path / name, maps, "test") for name in "ab")
    report = fuse(a, b, tmp_path / "out", fit=fit)
    assert report.weight == 0.51  # at one half the third part is lesion, too
    assert report.fit is not None
    assert (report.fit.a, report.fit.b, report.fit.fused) == (1.0, 1 / 3, 1.0)
    assert report.fit.metric == "jaccard"


def test_a_weight_out_of_range_or_beside_a_fit_is_refused(tmp_path: Path) -> None:
    fit = FitOn(tmp_path, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="both a weight and predictions"):
        fuse(tmp_path, tmp_path, tmp_path / "out", weight=0.5, fit=fit)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="the weight of A is"):
            fuse(tmp_path, tmp_path, tmp_path / "out", weight=weight)


def test_different_images_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    a = write_folder_of_scores(tmp_path / "a", {"x": 0.2, "y": 0.3})
    b = write_folder_of_scores(tmp_path / "b", {"x": 0.6})
    with pytest.raises(PredictionsError, match=r"y: predicted in .*a and not in .*b"):
        fuse(a, b, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_maps_of_different_size_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    a = write_folder_of_maps(tmp_path / "a", {"w": flat(1), "x": flat(1, 2)}, "test")
    b = write_folder_of_maps(tmp_path / "b", {"w": flat(1), "x": flat(1, 2, 3)}, "test")
    with pytest.raises(PredictionsError, match=r"x\.png is 32 x 16 pixels and .* is 48 x 16"):
        fuse(a, b, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_masks_without_maps_are_refused(tmp_path: Path) -> None:
    a = write_folder_of_maps(tmp_path / "a", {"x": flat(1)}, "test")
    probability_path(a, "x").unlink()
    with pytest.raises(
        PredictionsError, match=r"no probability map of x.*masks cannot be averaged"
    ):
        fuse(a, a, tmp_path / "out")


def test_different_tasks_are_refused(tmp_path: Path) -> None:
    scores = write_folder_of_scores(tmp_path / "a", {"x": 0.2})
    maps = write_folder_of_maps(tmp_path / "b", {"x": flat(1)}, "test")
    with pytest.raises(PredictionsError, match="no task in common"):
        fuse(scores, maps, tmp_path / "out")
    with pytest.raises(
        PredictionsError, match=r"is for segmentation. Expected: predictions for cl"
    ):
        fuse(scores, scores, tmp_path / "out", fit=FitOn(maps, maps, tmp_path))


def test_scores_and_masks_are_fused_together_but_no_weight_is_fitted_for_both(
    tmp_path: Path,
) -> None:
    for name, level in (("a", 255), ("b", 0)):
        write_folder_of_maps(tmp_path / name, {"x": flat(level)}, "test")
        write_folder_of_scores(tmp_path / name, {"x": level / 255})
        write_manifest(tmp_path / name, Manifest("joint", split="test"))
    a, b = tmp_path / "a", tmp_path / "b"
    assert fuse(a, b, tmp_path / "out", weight=0.75).task == "joint"
    fused = read_predictions(tmp_path / "out")
    assert fused.score_by_id() == {"x": 0.75}
    assert read_mask(fused.masks["x"]).all()
    with pytest.raises(PredictionsError, match=r"a holds scores and masks\. Expected: predictions"):
        fuse(a, b, tmp_path / "other", fit=FitOn(a, b, tmp_path))


def test_a_weight_is_not_chosen_on_the_test_set(tmp_path: Path) -> None:
    test = write_folder_of_scores(tmp_path / "a", {"x": 0.2})
    with pytest.raises(PredictionsError, match="holds predictions of the test split"):
        fuse(test, test, tmp_path / "out", fit=FitOn(test, test, tmp_path))


def test_a_weight_is_not_chosen_on_the_images_it_is_for(tmp_path: Path) -> None:
    test = write_folder_of_scores(tmp_path / "a", {"x": 0.2, "y": 0.3})
    claimed = write_folder_of_scores(tmp_path / "b", {"y": 0.2}, "validation")
    with pytest.raises(PredictionsError, match=r"b predicts y, as .*a does. Expected: validation"):
        fuse(test, test, tmp_path / "out", fit=FitOn(claimed, claimed, tmp_path))


def test_a_fit_without_truth_for_its_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "labels.csv").write_text("image_id,label\nz,benign\n")
    test = write_folder_of_scores(tmp_path / "a", {"x": 0.2})
    val = write_folder_of_scores(tmp_path / "v", {"y": 0.2}, "validation")
    with pytest.raises(DataError, match="no label of any of the 1 images to fit on"):
        fuse(test, test, tmp_path / "out", fit=FitOn(val, val, tmp_path / "truth"))


def test_a_true_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "truth" / "masks" / "v.png", np.eye(16, dtype=bool))
    test = write_folder_of_maps(tmp_path / "a", {"x": flat(1)}, "test")
    val = write_folder_of_maps(tmp_path / "v", {"v": flat(1, 2)}, "validation")
    with pytest.raises(PredictionsError, match=r"is 32 x 16 pixels. Expected: 16 x 16 pixels"):
        fuse(test, test, tmp_path / "out", fit=FitOn(val, val, tmp_path / "truth"))


def test_a_folder_that_holds_something_is_never_touched(tmp_path: Path) -> None:
    a = write_folder_of_scores(tmp_path / "a", {"x": 0.2})
    with pytest.raises(RunError, match="not empty"):
        fuse(a, a, a)
