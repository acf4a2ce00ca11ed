"""Fusion, ensembles and joined folds: weights by hand, the grid against brute force, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dermfuse.errors import ConfigError, DataError, PredictionsError, RunError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_probability, write_mask, write_probability
from dermfuse.predictions import fusion
from dermfuse.predictions.folder import (
    Manifest,
    mask_path,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.predictions.fusion import FitOn, average, fuse, join
from dermfuse.predictions.metrics import count
from dermfuse.predictions.scores import ScoreTable, write_scores

Maps = dict[str, NDArray[np.float32]]


def flat(*levels: int) -> NDArray[np.float32]:
    """A map of 16 rows, each level 16 pixels wide."""
    return np.tile(np.repeat(np.array(levels, dtype=np.float32) / 255, 16), (16, 1))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of scores, of maps, or of both."""

    def write(
        name: str, scores: dict[str, float] | None = None, maps: Maps | None = None, **said: Any
    ) -> Path:
        folder = tmp_path / name
        if scores:
            table = ScoreTable(tuple(scores), np.array(list(scores.values())))
            write_scores(folder / "scores.csv", table)
        for image_id, probability in (maps or {}).items():
            write_probability(probability_path(folder, image_id), probability)
            write_mask(mask_path(folder, image_id), probability >= 0.5)
        task: Any = "joint" if scores and maps else "classification" if scores else "segmentation"
        said = {"split": "validation", "source": f"net-{name}", **said}
        write_manifest(folder, Manifest(task, **said))
        return folder

    return write


Write = Callable[..., Path]
X: Maps = {"x": flat(1)}


def levels_of(path: Path) -> list[int]:
    found: list[int] = np.rint(read_probability(path) * 255)[0, ::16].astype(int).tolist()
    return found


@pytest.mark.parametrize(
    ("weight", "splits", "fused"),
    [
        (0.25, ("test", "test"), {"x": 0.5, "y": 0.25}),
        (None, ("test", "validation"), {"x": 0.4, "y": 0.5}),  # the plain mean
    ],
)
def test_scores_are_averaged_by_image(
    weight: float | None, splits: Any, fused: Any, write: Write, tmp_path: Path
) -> None:
    a = write("a", {"x": 0.2, "y": 1.0}, split=splits[0])
    b = write("b", {"y": 0.0, "x": 0.6}, split=splits[1])
    report = fuse(a, b, tmp_path / "out", weight=weight).to_dict()
    found = read_predictions(tmp_path / "out")
    assert found.score_by_id() == pytest.approx(fused)
    assert found.manifest.source == "fusion of net-a and net-b"
    assert found.manifest.split == ("test" if weight else "")
    assert found.manifest.details == {"weight": weight or 0.5, "fit": None}
    assert (report["task"], report["image_count"], report["fit"]) == ("classification", 2, None)


def test_the_weight_is_chosen_on_validation(write: Write, tmp_path: Path) -> None:
    # A ranks u before v, B the other way about: only together do both come before w and z.
    val_a = write("va", {"u": 0.9, "v": 0.3, "w": 0.5, "z": 0.1})
    val_b = write("vb", {"u": 0.3, "v": 0.9, "w": 0.1, "z": 0.5})
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "labels.csv").write_text("image_id,label\nu,1\nv,1\nw,0\nz,0\n")
    a, b = write("a", {"x": 0.0}, split="test"), write("b", {"x": 1.0}, split="test")
    report = fuse(a, b, tmp_path / "out", fit=FitOn(val_a, val_b, truth))
    assert report.weight == 0.5
    found = report.fit
    assert found is not None
    assert (found.metric, found.image_count, found.fused) == ("average_precision", 4, 1.0)
    assert found.a == found.b == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert read_predictions(tmp_path / "out").manifest.details["fit"]["image_count"] == 4


def test_of_equally_good_weights_the_nearest_to_one_half_is_taken() -> None:
    labels, right, wrong = np.array([True, False]), np.array([0.8, 0.2]), np.array([0.2, 0.8])
    # 0.6 w + 0.2 > 0.8 - 0.6 w from w = 0.51 on; below one half it is the other way about.
    for a, b, weight in ((right, right, 0.5), (right, wrong, 0.51), (wrong, right, 0.49)):
        assert fusion.fit_score_weight(labels, a, b)[0] == weight


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 6, 5), elements=st.sampled_from([0, 100, 127, 128, 155, 255])),
    hnp.arrays(bool, (6, 5)),
)
def test_counts_of_every_weight_are_those_of_the_fused_masks(
    levels: NDArray[np.uint8], truth: NDArray[np.bool_]
) -> None:
    counted = fusion.count_fused(*levels, truth)
    a, b = levels.astype(int)
    for weight, counts in list(zip(fusion.WEIGHTS, counted, strict=True))[::10]:
        hundredths = round(100 * weight)
        twice = 2 * (hundredths * a + (100 - hundredths) * b)
        assert counts == count(twice >= 255 * 100, truth)


def test_a_pixel_is_lesion_from_one_half_on_however_its_sum_is_rounded() -> None:
    assert fusion.is_lesion(np.array([127.5, 127.5 - 1e-12, 127.49])).tolist() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("weight", "mask", "levels"),
    [
        (None, [True, True, False, False], [255, 128, 125, 0]),
        (1.0, [True, True, False, False], [255, 128, 100, 0]),
    ],
)
def test_maps_are_averaged_and_a_half_is_lesion(
    weight: float | None, mask: list[bool], levels: list[int], write: Write, tmp_path: Path
) -> None:
    a = write("a", maps={"x": flat(255, 128, 100, 0)})
    b = write("b", maps={"x": flat(255, 127, 150, 0)})
    report = fuse(a, b, tmp_path / "out", weight=weight)
    assert (report.task, report.image_count) == ("segmentation", 1)
    fused = read_predictions(tmp_path / "out")
    assert fused.scores is None
    assert read_mask(fused.masks["x"])[0, ::16].tolist() == mask
    assert levels_of(fused.probabilities["x"]) == levels


def test_the_weight_of_maps_is_chosen_by_jaccard(write: Write, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    write_mask(truth / "masks" / "v.png", flat(255, 255, 0, 0) > 0.5)
    val_a = write("va", maps={"v": flat(255, 255, 0, 0)})
    val_b = write("vb", maps={"v": flat(0, 255, 255, 0)})
    a, b = (write(name, maps=X, split="test") for name in "ab")
    report = fuse(a, b, tmp_path / "out", fit=FitOn(val_a, val_b, truth))
    assert report.weight == 0.51  # at one half the third part is lesion, too
    assert report.fit is not None
    assert (report.fit.a, report.fit.b, report.fit.fused) == (1.0, 1 / 3, 1.0)
    assert report.fit.metric == "jaccard"


def test_a_weight_out_of_range_or_beside_a_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both a weight and predictions"):
        fuse(tmp_path, tmp_path, tmp_path, weight=0.5, fit=FitOn(tmp_path, tmp_path, tmp_path))
    for weight in (-0.1, 1.1, np.nan):
        with pytest.raises(ConfigError, match="the weight of A is"):
            fuse(tmp_path, tmp_path, tmp_path, weight=weight)


def test_a_weight_that_cannot_be_chosen_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "labels.csv").write_text("image_id,label\nz,benign\n")
    write_mask(tmp_path / "truth" / "masks" / "v.png", np.eye(16, dtype=bool))
    test = write("test", {"x": 0.2, "y": 0.3}, split="test")
    maps = write("maps", maps=X, split="test")
    both = write("both", {"x": 1.0}, X, split="test")
    wide = write("wide", maps={"v": flat(1, 2)})
    for target, validation, message in (
        (test, test, "holds predictions of the test split"),
        (test, write("b", {"y": 0.2}), r"b predicts y, as .*test does. Expected: validation"),
        (test, write("c", {"u": 0.2}), "no label of any of the 1 images to fit on"),
        (test, maps, r"is for segmentation. Expected: predictions for cl"),
        (maps, wide, r"is 32 x 16 pixels. Expected: 16 x 16 pixels"),
        (both, both, r"both holds scores and masks\. Expected: predictions"),
    ):
        fit = FitOn(validation, validation, tmp_path / "truth")
        with pytest.raises((PredictionsError, DataError), match=message):
            fuse(target, target, tmp_path / "out", fit=fit)
    assert not (tmp_path / "out").exists()


def _fuse(folders: list[Path], out: Path) -> object:
    return fuse(*folders[:2], out)


@pytest.mark.parametrize("together", [_fuse, average])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("scores", "fewer", r"y: predicted in .*/scores and not in .*/fewer"),
        ("scores", "maps", r"/scores and .*/maps have no task in common"),
        ("maps", "wider", r"x\.png is 16 x 16 pixels and .* is 32 x 16"),
        ("maps", "lone", r"lone holds no probability map of x.*masks cannot be averaged"),
        ("both", "half", r"half holds a score or a mask alone of y"),
    ],
)
def test_folders_that_do_not_match_are_not_averaged(
    together: Any, first: str, second: str, message: str, write: Write, tmp_path: Path
) -> None:
    folders = {
        "scores": write("scores", {"x": 0.2, "y": 0.3}),
        "fewer": write("fewer", {"x": 0.6}),
        "maps": write("maps", maps=X),
        "wider": write("wider", maps={"x": flat(1, 2)}),
        "lone": write("lone", maps=X),
        "both": write("both", {"x": 1.0}, X),
        "half": write("half", {"x": 1.0, "y": 1.0}, X),
    }
    probability_path(folders["lone"], "x").unlink()
    with pytest.raises(PredictionsError, match=message):
        together([folders[first], folders[second]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_and_masks_are_fused_together(write: Write, tmp_path: Path) -> None:
    a, b = write("a", {"x": 1.0}, {"x": flat(255)}), write("b", {"x": 0.0}, {"x": flat(0)})
    assert fuse(a, b, tmp_path / "out", weight=0.75).task == "joint"
    fused = read_predictions(tmp_path / "out")
    assert fused.score_by_id() == {"x": 0.75}
    assert read_mask(fused.masks["x"]).all()
    assert fuse(a, write("c", {"x": 0.5}), tmp_path / "scores").task == "classification"


def test_folds_are_joined_to_one_prediction_for_each_image_byte_for_byte(
    write: Write, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"source": "net, seed 0", "threshold": 0.4}
    details = {"preset": "net", "epoch": 3}
    a = write(
        "a", {"x": 0.2, "z": 1.0}, {"x": flat(0, 255), "z": flat(1)}, **shared, details=details
    )
    b = write("b", {"y": 0.4}, {"y": flat(9)}, **shared, details={**details, "epoch": 5})
    report = join([a, b], tmp_path / "out")
    joined = read_predictions(tmp_path / "out")
    assert joined.score_by_id() == {"x": 0.2, "y": 0.4, "z": 1.0}
    for files, place in ((joined.masks, mask_path), (joined.probabilities, probability_path)):
        assert [path.read_bytes() for path in files.values()] == [
            place(fold, key).read_bytes() for fold, key in ((a, "x"), (b, "y"), (a, "z"))
        ]
    manifest = joined.manifest
    assert (manifest.split, manifest.threshold) == ("validation", 0.4)
    assert manifest.source == "net, seed 0, 2 folders joined"
    assert (manifest.details["preset"], "epoch" in manifest.details) == (
        "net",
        False,
    )  # they differ
    assert [member["folder"] for member in manifest.details["members"]] == ["a", "b"]
    assert (report.kind, report.task, report.split) == ("join", "joint", "validation")
    assert (report.folder_count, report.image_count) == (2, 3)
    parts = [write(key, {key: 0.2}, split="test") for key in "pq"]
    assert join(parts, tmp_path / "parts").split == "test"
    with pytest.raises(PredictionsError, match=r"/a holds scores and masks, other folders only"):
        join([a, write("c", maps={"c": flat(1)}, threshold=0.4)], tmp_path / "other")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"split": "test"}, r"predicts the test split.*out-of-fold"),
        ({"threshold": 0.4}, r"threshold is 0\.5 in .* and 0\.4 in"),
        ({"calibrated": True}, "calibrated is False in .* and True in"),
        ({"scores": {"x": 0.3, "y": 0.3, "z": 0.3}}, r"x: predicted in .*/a and in .*/b"),
        ({"scores": None, "maps": {"y": flat(1)}}, "have no task in common"),
    ],
)
def test_folders_that_are_no_folds_are_not_joined(
    said: dict[str, Any], message: str, write: Write, tmp_path: Path
) -> None:
    a, b = write("a", {"x": 0.2}), write("b", **{"scores": {"y": 0.2}, **said})
    with pytest.raises(PredictionsError, match=message):
        join([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("together", [join, average])
def test_an_ensemble_needs_two_folders_and_never_touches_one_that_holds_something(
    together: Any, write: Write, tmp_path: Path
) -> None:
    a, b = write("a", {"x": 0.2}), write("b", {"y" if together is join else "x": 0.2})
    with pytest.raises(PredictionsError, match="1 predictions folders are given"):
        together([a], tmp_path / "out")
    with pytest.raises(PredictionsError, match="is given twice"):
        together([a, tmp_path / "b" / ".." / "a"], tmp_path / "out")
    with pytest.raises(RunError, match="not empty"):
        together([a, b], a)


def test_the_scores_and_maps_of_three_networks_are_averaged(write: Write, tmp_path: Path) -> None:
    folders = [
        write(name, {"x": x}, {"x": flat(*row)}, source=f"seed {x}", split="test")
        for name, x, row in (("a", 0.1, (0, 10)), ("b", 0.2, (1, 20)), ("c", 0.6, (0, 40)))
    ]
    report = average(folders, tmp_path / "out")
    mean = read_predictions(tmp_path / "out")
    assert mean.score_by_id() == pytest.approx({"x": 0.3})
    assert levels_of(mean.probabilities["x"]) == [0, 23]  # 1 / 3 and 70 / 3
    assert mean.manifest.source == "mean of 3: seed 0.1, seed 0.2, seed 0.6"
    assert mean.manifest.split == report.split == "test"
    assert (report.kind, report.folder_count, report.image_count) == ("average", 3, 1)


def test_a_mean_of_exactly_one_half_is_lesion_whatever_the_number(
    write: Write, tmp_path: Path
) -> None:
    # A half is level 127.5: only an even number of maps can lie on it exactly.
    levels = [[0, 0], [0, 1], [255, 254], [255, 254], [0, 0], [255, 255]]  # 765 and 764 of 1530
    average([write(f"{n}", maps={"x": flat(*row)}) for n, row in enumerate(levels)], tmp_path / "o")
    mean = read_predictions(tmp_path / "o")
    assert read_mask(mean.masks["x"])[0, ::16].tolist() == [True, False]
