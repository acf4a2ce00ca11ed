import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermfuse.config import load_config
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.splits import Split
from dermfuse.errors import DataError, PredictionsError, RunError
from dermfuse.figures.sources import (
    common_validation,
    read_columns,
    read_run,
    read_sources,
    scored_groups,
    segmented_networks,
    shrunk_mask,
)
from dermfuse.imaging.preprocess import write_mask

from .conftest import Make


def test_a_run_is_read_with_its_split_and_its_history(make_run: Make, tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", "squeezenet"))
    assert (run.name, len(run.split.validation), run.best_epoch) == ("squeezenet, seed 0", 12, 3)
    assert run.columns["auc"].tolist() == pytest.approx([0.6, 0.7, 0.8])
    joint = read_run(make_run(tmp_path / "joint", "joint-mobilenetv1"))
    assert joint.metrics == ("average_precision", "jaccard")
    with pytest.raises(RunError, match="is no run folder"):
        read_run(tmp_path)
    with pytest.raises(DataError, match="no run folder and no predictions folder"):
        read_sources([], [], data=tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "epoch,auc\n", "auc\n0.5\n", "epoch\nfirst\n", "epoch\nnan\n", "epoch,auc\n1\n,2\n"],
)
def test_a_table_without_an_epoch_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=r"metrics\.csv (holds no|cannot be read|has no epoch)"):
        read_columns(path)
    path.write_text("epoch,auc\n1,\n2,0.5\n")
    assert np.isnan(read_columns(path)["auc"]).tolist() == [True, False], "an empty cell is none"


def test_networks_are_grouped_by_the_images_they_scored(
    make_scores: Make, drawn: Path, tmp_path: Path
) -> None:
    a, b = (make_scores(tmp_path / name, name, seed=i) for i, name in enumerate("ab"))
    other = make_scores(tmp_path / "c", "c", split="train")
    groups = scored_groups(read_sources([], [a, b, other], data=drawn))
    assert [(g[0].split, [n.name for n in g]) for g in groups] == [
        ("validation", ["a", "b"]),
        ("train", ["c"]),
    ]
    assert groups[0][0].malignant.sum() == 3


def test_predictions_without_a_truth_are_left_out_and_logged(
    make_scores: Make, drawn: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = make_scores(tmp_path / "known", "known")
    unknown = make_scores(tmp_path / "unknown", "unknown")
    table = unknown / "scores.csv"
    table.write_text("image_id,score\nISIC_0000001,0.5\n")
    with caplog.at_level(logging.WARNING, logger="dermfuse"):
        (group,) = scored_groups(read_sources([], [known, unknown], data=drawn))
    assert [network.name for network in group] == ["known"]
    assert "ISIC_0000001, unknown in" in caplog.text
    with pytest.raises(PredictionsError, match="ISIC_0000001"):
        scored_groups(read_sources([], [unknown], data=drawn))


def test_images_that_all_runs_validated_on_are_taken(
    make_run: Make, validated: list[Lesion], drawn: Path, tmp_path: Path
) -> None:
    sources = read_sources([make_run(tmp_path / "run", "squeezenet")], [], data=drawn)
    (run,) = sources.runs
    ids = [lesion.image_id for lesion in validated]
    assert [lesion.image_id for lesion in common_validation(sources, [run])] == ids
    fewer = replace(run, split=Split((), tuple(ids[:4])))
    assert common_validation(sources, [run, fewer]) == validated[:4]
    with pytest.raises(DataError, match="no labelled image in common"):
        common_validation(sources, [run, replace(run, split=Split((), ("ISIC_1",)))])


def test_a_mask_keeps_its_share_at_the_size_of_its_photograph(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), bool)
    mask[:, :20] = True
    write_mask(tmp_path / "mask.png", mask)
    image = shrunk_mask(tmp_path / "mask.png", np.zeros((10, 20, 3), np.uint8))
    assert image.tolist() == [[True] * 5 + [False] * 15] * 10


def test_a_run_that_validated_on_nothing_is_left_out_and_alone_it_is_refused(
    make_run: Make, drawn: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, other = (make_run(tmp_path / name, "squeezenet") for name in ("whole", "other"))
    config = load_config(whole / "config.toml").override(
        ["data.split=all", "train.schedule=cosine"]
    )
    (whole / "config.toml").write_text(config.to_toml())
    with caplog.at_level(logging.WARNING):
        assert [run.path for run in read_sources([whole, other], [], data=drawn).runs] == [other]
    assert "whole is left out: it validated on no image" in caplog.text
    with pytest.raises(DataError, match="whole was trained on all images and validated on none"):
        read_sources([whole], [], data=drawn)


def test_training_images_that_show_a_lesion_of_the_test_set_are_not_drawn(
    make_masks: Make, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, exact = (make_masks(tmp_path / f"u{px}", "u", moved_px=px) for px in (5, 0))
    shown = sorted(segmented_networks(read_sources([], [folder], data=drawn))[0].agreement)
    monkeypatch.setattr("dermfuse.figures.sources.TEST_DUPLICATES", (shown[0], shown[5]))
    sources = read_sources([], [folder, exact], data=drawn)
    assert not {shown[0], shown[5]} & sources.lesions.keys()
    moved, right = segmented_networks(sources)
    assert sorted(moved.agreement) == [*shown[1:5], *shown[6:]]
    assert set(right.agreement.values()) == {1.0}, "masks are held against the true ones"
    assert max(moved.agreement.values()) < 1.0
