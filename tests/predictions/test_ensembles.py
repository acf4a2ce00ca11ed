"""Joining folds and averaging networks: by hand, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.errors import PredictionsError, RunError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability, write_mask, write_probability
from dermfuse.predictions.folder import (
    Manifest,
    mask_path,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.predictions.fusion import average, fuse, join
from dermfuse.predictions.scores import ScoreTable, write_scores


def scored(folder: Path, scores: dict[str, float], **said: Any) -> Path:
    write_scores(folder / "scores.csv", ScoreTable(tuple(scores), np.array(list(scores.values()))))
    write_manifest(folder, Manifest("classification", **{"split": "validation", **said}))
    return folder


def mapped(folder: Path, maps: dict[str, NDArray[np.float32]], **said: Any) -> Path:
    for image_id, probability in maps.items():
        write_probability(probability_path(folder, image_id), probability)
        write_mask(mask_path(folder, image_id), probability >= 0.5)
    write_manifest(folder, Manifest("segmentation", **{"split": "validation", **said}))
    return folder


def flat(*levels: int) -> NDArray[np.float32]:
    """A map of 16 rows, each level 16 pixels wide."""
    return np.tile(np.repeat(np.array(levels, dtype=np.float32) / 255, 16), (16, 1))


def test_folds_are_joined_to_one_score_for_each_image(tmp_path: Path) -> None:
    details = {"preset": "net", "epoch": 3}
    a = scored(tmp_path / "a", {"x": 0.2, "z": 1.0}, source="net, seed 0", details=details)
    b = scored(tmp_path / "b", {"y": 0.4}, source="net, seed 0", details={**details, "epoch": 5})
    report = join([a, b], tmp_path / "out")
    joined = read_predictions(tmp_path / "out")
    assert joined.score_by_id() == {"x": 0.2, "y": 0.4, "z": 1.0}
    assert joined.manifest.split == "validation"
    assert joined.manifest.source == "net, seed 0, 2 folders joined"
    assert joined.manifest.details["preset"] == "net"
    assert "epoch" not in joined.manifest.details  # the folds differ in it
    assert [member["folder"] for member in joined.manifest.details["members"]] == ["a", "b"]
    record = report.to_dict()
    assert (record["kind"], record["task"], record["split"]) == (
        "join",
        "classification",
        "validation",
    )
    assert (record["folder_count"], record["image_count"]) == (2, 3)


def test_masks_and_maps_are_taken_along_byte_for_byte(tmp_path: Path) -> None:
    a = mapped(tmp_path / "a", {"x": flat(0, 255)}, threshold=0.4)
    b = mapped(tmp_path / "b", {"y": flat(255, 100, 0)}, threshold=0.4)
    report = join([a, b], tmp_path / "out")
    joined = read_predictions(tmp_path / "out")
    assert (report.task, report.image_count) == ("segmentation", 2)
    assert joined.manifest.threshold == 0.4
    assert sorted(joined.masks) == sorted(joined.probabilities) == ["x", "y"]
    for files, before in ((joined.masks, mask_path), (joined.probabilities, probability_path)):
        assert files["x"].read_bytes() == before(a, "x").read_bytes()
        assert files["y"].read_bytes() == before(b, "y").read_bytes()


def test_folds_of_a_joint_network_are_joined_with_both(tmp_path: Path) -> None:
    folds = []
    for image_id in "xy":
        folder = mapped(tmp_path / image_id, {image_id: flat(0, 255)})
        folds.append(scored(folder, {image_id: 0.5}))
        write_manifest(folder, Manifest("joint", split="validation"))
    assert join(folds, tmp_path / "out").task == "joint"
    joined = read_predictions(tmp_path / "out")
    assert list(joined.masks) == list(joined.score_by_id()) == ["x", "y"]
    alone = mapped(tmp_path / "z", {"z": flat(1)})
    with pytest.raises(PredictionsError, match=r"/x holds scores and masks, other folders only"):
        join([*folds, alone], tmp_path / "other")


def test_parts_of_the_test_split_stay_test_predictions(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", {"x": 0.2}, split="test")
    b = scored(tmp_path / "b", {"y": 0.2}, split="test")
    assert join([a, b], tmp_path / "out").split == "test"


@pytest.mark.parametrize("split", ["test", "train"])
def test_what_is_not_out_of_fold_is_not_mixed_in(tmp_path: Path, split: str) -> None:
    a = scored(tmp_path / "a", {"x": 0.2})
    b = scored(tmp_path / "b", {"y": 0.2}, split=split)
    with pytest.raises(PredictionsError, match=f"predicts the {split} split.*out-of-fold"):
        join([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_predicted_twice_is_refused(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", {"x": 0.2})
    b = scored(tmp_path / "b", {"y": 0.2})
    c = scored(tmp_path / "c", {"x": 0.3, "y": 0.3, "z": 0.3})
    with pytest.raises(PredictionsError, match=r"x, y: predicted in .*/a and in .*/c"):
        join([a, b, c], tmp_path / "out")


@pytest.mark.parametrize("together", [join, average])
def test_different_tasks_are_refused(tmp_path: Path, together: Any) -> None:
    a = scored(tmp_path / "a", {"x": 0.2})
    b = mapped(tmp_path / "b", {"y": flat(1)})
    with pytest.raises(PredictionsError, match="have no task in common"):
        together([a, b], tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"threshold": 0.4}, r"threshold is 0\.5 in .* and 0\.4 in"),
        ({"calibrated": True}, "calibrated is False in .* and True in"),
    ],
)
def test_scores_that_mean_different_things_are_not_joined(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    a, b = scored(tmp_path / "a", {"x": 0.2}), scored(tmp_path / "b", {"y": 0.2}, **said)
    with pytest.raises(PredictionsError, match=message):
        join([a, b], tmp_path / "out")


@pytest.mark.parametrize("together", [join, average])
def test_one_folder_is_no_ensemble_even_if_given_twice(tmp_path: Path, together: Any) -> None:
    a = scored(tmp_path / "a", {"x": 0.2})
    with pytest.raises(PredictionsError, match="1 predictions folders are given"):
        together([a], tmp_path / "out")
    with pytest.raises(PredictionsError, match="is given twice"):
        together([a, tmp_path / "b" / ".." / "a"], tmp_path / "out")


@pytest.mark.parametrize("together", [join, average])
def test_a_folder_that_holds_something_is_never_touched(tmp_path: Path, together: Any) -> None:
    a = scored(tmp_path / "a", {"x": 0.2})
    b = scored(tmp_path / "b", {"x" if together is average else "y": 0.2})
    with pytest.raises(RunError, match="not empty"):
        together([a, b], a)


def test_the_scores_of_three_networks_are_averaged(tmp_path: Path) -> None:
    parts = [{"x": 0.1, "y": 1.0}, {"x": 0.2, "y": 1.0}, {"x": 0.6, "y": 1.0}]
    folders = [
        scored(tmp_path / name, part, source=f"net, seed {seed}", split="test")
        for seed, (name, part) in enumerate(zip("abc", parts, strict=True))
    ]
    report = average(folders, tmp_path / "out")
    mean = read_predictions(tmp_path / "out")
    assert mean.score_by_id() == pytest.approx({"x": 0.3, "y": 1.0})
    assert mean.manifest.source == "mean of 3: net, seed 0, net, seed 1, net, seed 2"
    assert mean.manifest.split == report.split == "test"
    assert (report.kind, report.folder_count, report.image_count) == ("average", 3, 2)


def test_a_mean_of_exactly_one_half_is_lesion_whatever_the_number(tmp_path: Path) -> None:
    # A half is level 127.5: only an even number of maps can lie on it exactly.
    levels = np.array([[0, 0], [0, 1], [255, 254], [255, 254], [0, 0], [255, 255]])
    maps = {f"{n}": flat(*row) for n, row in enumerate(levels.tolist())}
    folders = [mapped(tmp_path / f"m{n}", {"x": probability}) for n, probability in maps.items()]
    average(folders, tmp_path / "out")
    mean = read_predictions(tmp_path / "out")
    assert levels.sum(axis=0).tolist() == [765, 764]  # 6 x 127.5 = 765
    assert read_mask(mean.masks["x"])[0, ::16].tolist() == [True, False]


def test_a_mean_of_maps_is_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    folders = [
        mapped(tmp_path / name, {"x": flat(*row)})
        for name, row in (("a", (0, 10)), ("b", (1, 20)), ("c", (0, 40)))
    ]
    average(folders, tmp_path / "out")
    levels = read_probability(read_predictions(tmp_path / "out").probabilities["x"]) * 255
    assert np.rint(levels)[0, ::16].tolist() == [0, 23]  # 1 / 3 and 70 / 3


def test_the_mean_of_two_is_their_plain_fusion(tmp_path: Path) -> None:
    a = mapped(tmp_path / "a", {"x": flat(255, 128, 100)})
    b = mapped(tmp_path / "b", {"x": flat(0, 127, 155)})
    average([a, b], tmp_path / "mean")
    fuse(a, b, tmp_path / "fused")
    mean, fused = read_predictions(tmp_path / "mean"), read_predictions(tmp_path / "fused")
    assert mean.masks["x"].read_bytes() == fused.masks["x"].read_bytes()
    assert mean.probabilities["x"].read_bytes() == fused.probabilities["x"].read_bytes()


def test_networks_of_different_images_are_not_averaged(tmp_path: Path) -> None:
    a, b = scored(tmp_path / "a", {"x": 0.2}), scored(tmp_path / "b", {"x": 0.2})
    c = scored(tmp_path / "c", {"x": 0.2, "y": 0.3})
    with pytest.raises(PredictionsError, match=r"y: predicted in .*/c and not in .*/a"):
        average([a, b, c], tmp_path / "out")


def test_masks_without_maps_are_not_averaged(tmp_path: Path) -> None:
    a, b = mapped(tmp_path / "a", {"x": flat(1)}), mapped(tmp_path / "b", {"x": flat(1)})
    probability_path(b, "x").unlink()
    with pytest.raises(PredictionsError, match=r"b holds no probability map of x"):
        average([a, b], tmp_path / "out")
